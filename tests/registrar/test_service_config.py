"""Values of a service file."""

from pathlib import Path

from router.registrar import Route
from router.registrar.service_config import ConfigProblems, ConfiguredRoute, HttpProbe


def test_every_problem_names_its_file() -> None:
    error = ConfigProblems(Path("/etc/r.json"), ["a: wrong", "b: wrong"])
    assert error.problems == ["/etc/r.json: a: wrong", "/etc/r.json: b: wrong"]
    assert str(error) == "/etc/r.json: a: wrong\n/etc/r.json: b: wrong"


def test_routes_that_say_the_same_are_equal() -> None:
    one, same = (
        ConfiguredRoute(name="a", route=Route(host="h", port=1, uris=["a.test"], tags={"k": "v"}), interval_s=1.0)
        for _ in range(2)
    )
    assert one == same


def test_any_2xx_is_healthy_unless_it_is_said() -> None:
    assert HttpProbe("http://a/").statuses == ((200, 299),)
