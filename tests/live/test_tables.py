"""Look-up over the wire: which of the announced routes a host and a path lead to, and when none does."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.rawclient import RawClient
from tests.support.recorder import MakeBackend, RecordingBackend, named, plain

Ask = Callable[..., str]


@pytest.fixture
def domain(live: Live) -> str:
    """A domain of this test's own, ``app-N.test``."""
    return live.host()


@pytest.fixture
def ask(live: Live) -> Ask:
    """Return who answered, or the status if it was the router."""

    def who(host: str, path: str = "/", headers: str = "") -> str:
        with live.client() as client:
            response = client.get(path, host=host, headers=headers)
        return response.body.decode() if response.status == 200 else str(response.status)

    return who


@pytest.fixture
def announce(live: Live, make_backend: MakeBackend) -> Callable[..., None]:
    """Announce a backend of its own for each uri, which answers with that uri."""

    def announce_each(*uris: str, **fields: Any) -> None:
        for uri in uris:
            live.announcer.register(uri, port=make_backend(named(uri)).port, **fields)
        live.routes.settle()

    return announce_each


@pytest.mark.parametrize("suffix", ["", ":80", ":1"])
def test_port_in_host_is_ignored(suffix: str, domain: str, announce: Callable[..., None], ask: Ask) -> None:
    announce(domain)
    assert ask(domain + suffix) == domain


def test_hosts_match_in_any_case(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    announce(f"MiXed.{domain}")
    assert ask(f"mIxED.{domain.upper()}") == f"MiXed.{domain}"


def test_trailing_dot_is_another_host(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    announce(domain)
    assert ask(f"{domain}.") == "404"


def test_longest_context_path_wins_by_whole_segments(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    uris = [domain, f"{domain}/foo", f"{domain}/foo/bar"]
    announce(*uris)
    expected = {"/": 0, "/foo": 1, "/foo/": 1, "/foo/x": 1, "/foo?q": 1, "/foobar": 0, "/foo/bar": 2}
    expected |= {"/foo/bar/": 2, "/foo/barx": 1, "/foo/bar/x?y": 2, "/FOO/Bar": 2, "/fo": 0, "/x/foo": 0}
    assert {path: ask(domain, path) for path in expected} == {path: uris[at] for path, at in expected.items()}


def test_path_alone_does_not_route_the_host(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    announce(f"{domain}/foo")
    assert [ask(domain, path) for path in ("/foo", "/", "/bar", "/foobar")] == [
        f"{domain}/foo",
        "404",
        "404",
        "404",
    ]


def test_escapes_are_compared_as_sent(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    announce(f"{domain}/a%2Fb", f"{domain}/a")
    assert ask(domain, "/a%2fb") == f"{domain}/a%2Fb"
    assert ask(domain, "/a/b") == f"{domain}/a"
    assert ask(domain, "/%61") == "404"


def test_dot_segments_are_not_resolved(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    announce(f"{domain}/a")
    assert [ask(domain, path) for path in ("/b/../a", "/./a", "/a/..")] == ["404", "404", f"{domain}/a"]


def test_registered_slashes_and_queries_are_cut(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    announce(f"one.{domain}/", f"two.{domain}?x=y", f"three.{domain}/p/")
    assert ask(f"one.{domain}") == f"one.{domain}/"
    assert ask(f"two.{domain}") == f"two.{domain}?x=y"
    assert ask(f"three.{domain}", "/p") == f"three.{domain}/p/"


def test_wildcard_matches_one_or_more_labels(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    announce(f"*.{domain}")
    assert [ask(f"{prefix}{domain}") for prefix in ("a.", "a.b.", "a.b.c.", "", "x")] == [f"*.{domain}"] * 3 + [
        "404"
    ] * 2


def test_nearest_wildcard_wins_and_an_exact_host_before_it(
    domain: str, announce: Callable[..., None], ask: Ask
) -> None:
    announce(f"*.{domain}", f"*.b.{domain}", f"a.b.{domain}")
    assert ask(f"a.b.{domain}") == f"a.b.{domain}"
    assert ask(f"x.b.{domain}") == f"*.b.{domain}"
    assert ask(f"x.y.b.{domain}") == f"*.b.{domain}"
    assert ask(f"b.{domain}") == f"*.{domain}"


def test_context_paths_under_wildcards(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    announce(f"*.{domain}/foo", f"*.{domain}")
    assert [ask(f"a.{domain}", path) for path in ("/foo/x", "/bar")] == [f"*.{domain}/foo", f"*.{domain}"]


def test_exact_host_without_that_path_falls_back_to_the_wildcard(
    domain: str, announce: Callable[..., None], ask: Ask
) -> None:
    announce(f"a.{domain}/only", f"*.{domain}")
    assert [ask(f"a.{domain}", path) for path in ("/only", "/x")] == [f"a.{domain}/only", f"*.{domain}"]


def test_star_inside_a_name_is_plain_text(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    announce(f"*.x.*.{domain}")
    assert ask(f"a.x.b.{domain}") == "404"


def test_wildcard_look_up_never_reads_the_path(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    """Gorouter takes labels from host and path together, so that a path reaches another owner's wildcard."""
    announce(f"*.{domain}")
    for path in (f"/x.{domain}", f"/x.{domain}/y", f"/a/x.{domain}", f"/.{domain}", f"/*.{domain}", f"/{domain}"):
        assert ask("unknown.example", path) == "404"
        assert ask("localhost", path) == "404"
        assert ask(f"{domain}", path) == "404"


def test_host_that_is_an_ip_literal_is_unknown(ask: Ask) -> None:
    assert ask("[::1]") in ("404", "400")
    assert ask("[::1]:80") in ("404", "400")
    assert ask("10.1.2.3") == "404"


def test_literal_star_host_is_no_way_round(domain: str, announce: Callable[..., None], ask: Ask) -> None:
    announce(domain)
    assert ask(f"*.{domain}") in ("404", "400")


def test_unregistered_route_is_gone_and_the_shorter_one_takes_over(
    live: Live, domain: str, ask: Ask, make_backend: MakeBackend
) -> None:
    short, long = make_backend(named("short")), make_backend(named("long"))
    live.routes.register(domain, backend=short)
    live.routes.register(f"{domain}/foo", backend=long)
    assert ask(domain, "/foo") == "long"
    live.routes.unregister(f"{domain}/foo", backend=long)
    assert ask(domain, "/foo") == "short"
    live.routes.unregister(domain, backend=short)
    assert ask(domain, "/foo") == "404"


def test_unregister_of_one_endpoint_leaves_the_other(
    live: Live, domain: str, ask: Ask, make_backend: MakeBackend
) -> None:
    one, two = make_backend(named("one")), make_backend(named("two"))
    live.route(one, two, host=domain)
    live.routes.unregister(domain, backend=one)
    assert {ask(domain) for _ in range(6)} == {"two"}


def test_unregister_of_something_else_changes_nothing(
    live: Live, domain: str, ask: Ask, make_backend: MakeBackend
) -> None:
    one, other = make_backend(named("one")), make_backend(named("other"))
    live.routes.register(domain, backend=one)
    live.routes.unregister(domain, backend=other)
    live.routes.unregister(f"{domain}/x", backend=one)
    live.routes.unregister("unknown." + domain, backend=one)
    assert ask(domain) == "one"


def test_many_uris_of_one_message_are_all_routed(
    live: Live, domain: str, ask: Ask, make_backend: MakeBackend
) -> None:
    uris = [f"h{number}.{domain}/p{number}" for number in range(50)]
    live.routes.register(*uris, backend=make_backend(named("one")))
    for uri in uris:
        host, _, path = uri.partition("/")
        assert ask(host, f"/{path}") == "one"


def test_malformed_messages_change_nothing(live: Live, domain: str, ask: Ask, make_backend: MakeBackend) -> None:
    backend = make_backend(named("one"))
    live.routes.register(domain, backend=backend)
    good = {"host": "127.0.0.1", "port": backend.port, "uris": [f"bad.{domain}"]}
    bad: list[bytes] = [b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff" * 100, b"[" * 10_000, b"{}" * 2]
    for field, value in [("port", -1), ("port", 70000), ("port", "80"), ("port", 0), ("port", 1.5), ("uris", "x")]:
        bad.append(json.dumps({**good, field: value}).encode())
    for field, value in [("host", 1), ("private_instance_index", 1), ("tags", {"a": 1}), ("host", "a\r\nb")]:
        bad.append(json.dumps({**good, field: value}).encode())
    bad.append(json.dumps({**good, "route_service_url": "http://x"}).encode())
    for payload in bad:
        live.announcer.publish("router.register", payload)
        live.announcer.publish("router.unregister", payload)
    live.routes.settle()
    assert ask(f"bad.{domain}") == "404"
    assert ask(domain) == "one"


def test_field_names_match_in_any_case(live: Live, domain: str, ask: Ask, make_backend: MakeBackend) -> None:
    message = {"HOST": "127.0.0.1", "Port": make_backend(named("one")).port, "URIs": [domain], "Unknown": None}
    live.announcer.publish("router.register", json.dumps(message).encode())
    live.routes.settle()
    assert ask(domain) == "one"


GUID = "00000000-0000-0000-0000-00000000000a"


def test_app_instance_header_does_not_go_on(live: Live, backend: RecordingBackend) -> None:
    host = live.route(backend, app=GUID, private_instance_index="0")
    with live.client() as client:
        headers = f"X-CF-App-Instance: {GUID}:0\r\n"
        assert client.get(host=host, headers=headers).status == 200
    assert backend.requests[0].values("X-Cf-App-Instance") == []


# Empty pools, sharding, changes under load.


@pytest.fixture(scope="module")
def keeping(start_live: StartLive) -> Live:
    return start_live({"empty_pool_response_code_503": True, "empty_pool_timeout": "1h"})


def test_empty_exact_host_blocks_the_wildcard(keeping: Live, make_backend: MakeBackend) -> None:
    domain = keeping.host()
    exact, wild = make_backend(named("exact")), make_backend(named("wild"))
    keeping.routes.register(f"a.{domain}", backend=exact)
    keeping.routes.register(f"*.{domain}", backend=wild)
    keeping.routes.unregister(f"a.{domain}", backend=exact)
    with keeping.client() as client:
        assert client.get(host=f"a.{domain}").status == 503
        assert client.get(host=f"b.{domain}").body == b"wild"


def test_empty_context_path_falls_back_to_a_shorter_one(keeping: Live, make_backend: MakeBackend) -> None:
    host = keeping.host()
    short, long = make_backend(named("short")), make_backend(named("long"))
    keeping.routes.register(host, backend=short)
    keeping.routes.register(f"{host}/foo", backend=long)
    keeping.routes.unregister(f"{host}/foo", backend=long)
    with keeping.client() as client:
        assert client.get("/foo", host=host).body == b"short"
        keeping.routes.unregister(host, backend=short)
        assert client.get("/foo", host=host).status == 503


def test_emptied_route_comes_back_with_the_next_announcement(keeping: Live, make_backend: MakeBackend) -> None:
    backend = make_backend(named("back"))
    host = keeping.route(backend)
    with keeping.client() as client:
        for _ in range(3):
            keeping.routes.unregister(host, backend=backend)
            assert client.get(host=host).status == 503
            keeping.routes.register(host, backend=backend)
            assert client.get(host=host).body == b"back"


def test_changes_under_traffic_disturb_no_other_route(live: Live, make_backend: MakeBackend) -> None:
    steady = live.route(make_backend(named("steady")))
    churning = make_backend(plain)
    stop = threading.Event()
    wrong: list[str] = []

    def ask_on() -> None:
        with RawClient(live.router.port) as client:
            while not stop.is_set():
                response = client.get(host=steady)
                if response.body != b"steady":
                    wrong.append(f"{response.status} {response.body!r}")

    asking = threading.Thread(target=ask_on)
    asking.start()
    for number in range(300):
        live.announcer.register(f"churn{number % 7}.{steady}", f"*.c{number % 3}.{steady}", port=churning.port)
        live.announcer.unregister(f"churn{number % 5}.{steady}", port=churning.port)
    live.routes.settle()
    stop.set()
    asking.join()
    assert wrong == []
