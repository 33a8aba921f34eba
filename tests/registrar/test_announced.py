"""One route's words: checked and stamped, and what is left of it when another takes its place."""

import json

import pytest
from msgspec import structs

from router.registrar import AnnouncementError, AnyRoute, InternalRoute, Route
from router.registrar.announced import Announced, left_behind, route_problems, shared_part
from router.registrar.dialect import INTERNAL, PUBLIC, Dialect

PUBLICLY = Dialect(PUBLIC, "a", None)
INTERNALLY = Dialect(INTERNAL, "b", None)
ROUTE = Route(host="10.0.0.7", port=9000, uris=["a.test", "b.test"])
NAMES = InternalRoute(ip="10.255.0.9", names=("x.apps.internal", "0.x.apps.internal"), app="guid", index="0")


def announced(route: AnyRoute, stamp_ns: int = 5) -> Announced:
    return Announced.of(route, stamp_ns, PUBLICLY, INTERNALLY, None)


def said(one: Announced) -> dict[str, object]:
    decoded: dict[str, object] = json.loads(one.payload)
    return decoded


def test_route_is_announced_on_the_subjects_of_its_kind() -> None:
    assert (announced(ROUTE).register, announced(ROUTE).unregister) == ("router.register", "router.unregister")
    assert announced(NAMES).register == "service-discovery.register"
    assert announced(NAMES).unregister == "service-discovery.unregister"


def test_stamp_is_put_on_what_has_none() -> None:
    assert said(announced(ROUTE))["endpoint_updated_at_ns"] == 5
    assert said(announced(NAMES))["endpoint_updated_at_ns"] == 5
    stamped = Route(host="h", port=1, uris=["a.test"], endpoint_updated_at_ns=3)
    assert said(announced(stamped))["endpoint_updated_at_ns"] == 3


@pytest.mark.parametrize(
    ("route", "told"),
    [
        (InternalRoute(ip="host", names=("a.internal",)), "not an IP address"),
        (InternalRoute(ip="10.0.0.1", names=()), "1 to 1,000 names"),
        (InternalRoute(ip="10.0.0.1", names=("a/b",)), "not a host name"),
        (InternalRoute(ip="10.0.0.1", names=("*.internal",)), "no `*`"),
        (InternalRoute(ip="10.0.0.1", names=("a.internal",), port=65536), "not between 1 and 65535"),
        (InternalRoute(ip="10.0.0.1", names=("a.internal",), app="a b"), "without blanks"),
        (Route(host="h", port=0, uris=["a.test"]), "either port or tls_port"),
    ],
)
def test_malformed_route_is_refused(route: AnyRoute, told: str) -> None:
    (problem,) = route_problems(route)
    assert told in problem
    with pytest.raises(AnnouncementError):
        announced(route)


def test_internal_name_may_end_with_a_dot() -> None:
    assert route_problems(InternalRoute(ip="10.0.0.1", names=("a.internal.",))) == []


def test_uris_that_are_gone_are_left_behind() -> None:
    (gone,) = left_behind(
        announced(ROUTE), announced(Route(host="10.0.0.7", port=9000, uris=["B.test", "c.test"]))
    )
    assert said(gone)["uris"] == ["a.test"]
    assert gone.unregister == "router.unregister"


def test_names_that_are_gone_are_left_behind() -> None:
    (gone,) = left_behind(announced(NAMES), announced(InternalRoute(ip=NAMES.ip, names=("x.apps.internal",))))
    assert said(gone)["uris"] == ["0.x.apps.internal"]


def test_nothing_is_left_behind_when_only_attributes_change() -> None:
    again = Route(host="10.0.0.7", port=9000, uris=["a.test", "b.test"], tags={"k": "v"})
    assert left_behind(announced(ROUTE), announced(again)) == []


@pytest.mark.parametrize(
    "moved",
    [
        Route(host="10.0.0.8", port=9000, uris=["a.test", "b.test"]),
        Route(host="10.0.0.7", port=9001, uris=["a.test", "b.test"]),
        Route(host="10.0.0.7", port=9000, tls_port=9001, uris=["a.test", "b.test"]),
        NAMES,
    ],
)
def test_everything_is_left_behind_at_another_address(moved: AnyRoute) -> None:
    (gone,) = left_behind(announced(ROUTE), announced(moved))
    assert said(gone) == said(announced(ROUTE))


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (ROUTE, structs.replace(ROUTE, weight=3), ["a.test", "b.test"]),
        (ROUTE, structs.replace(ROUTE, uris=["B.test", "c.test"]), ["b.test"]),
        (ROUTE, structs.replace(ROUTE, uris=["c.test"]), None),
        (ROUTE, structs.replace(ROUTE, host="10.0.0.8"), None),
        (ROUTE, structs.replace(ROUTE, tls_port=9001), None),
        (ROUTE, NAMES, None),
        (NAMES, structs.replace(NAMES, names=("0.x.apps.internal",)), ("0.x.apps.internal",)),
        (NAMES, structs.replace(NAMES, ip="10.255.0.8"), None),
        (NAMES, structs.replace(NAMES, names=("y.apps.internal",)), None),
    ],
)
def test_routes_share_what_both_have_at_one_address(old: AnyRoute, new: AnyRoute, names: object) -> None:
    shared = shared_part(old, new)
    assert (None if shared is None else getattr(shared, "uris", getattr(shared, "names", ""))) == names
    field = "names" if isinstance(old, InternalRoute) else "uris"
    assert shared is None or structs.replace(shared, **{field: getattr(old, field)}) == old
