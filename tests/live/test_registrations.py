"""What announcements do to routes, as clients and instances see it (GOROUTER.md §3, 4.3, 4.6-4.8)."""

import base64
import http.client
import json
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from router.certs import Authority, issue, make_ca
from tests.live.conftest import Live, StartLive
from tests.support.announce import Announcer, status_of
from tests.support.certificates import server_context
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.rawclient import RawClient
from tests.support.recorder import MakeBackend, RecordingBackend, named, plain, silent
from tests.support.router import RunningRouter
from tests.support.waiting import PATIENCE_S, wait_until

APP = "0a1b2c3d-0000-4000-8000-00000000000a"
WEB = "0a1b2c3d-0000-4000-8000-00000000000b"
TASK = "0a1b2c3d-0000-4000-8000-00000000000c"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


@pytest.fixture
def context(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    return server_context(issue(authority, ["one", "127.0.0.1"]), tmp_path)


@pytest.fixture(scope="module")
def secure(start_live: StartLive, authority: Authority) -> Live:
    return start_live({"ca_certs": [authority.pair.certificate]})


def bodies(live: Live, host: str, count: int, headers: str = "") -> list[str]:
    with live.client() as client:
        return [client.get(host=host, headers=headers).body.decode() for _ in range(count)]


def listed(live: Live, host: str) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", live.router.routes_port)
    token = base64.b64encode(b"admin:secret").decode()
    connection.request("GET", "/routes", headers={"Authorization": f"Basic {token}"})
    routes: dict[str, list[dict[str, Any]]] = json.loads(connection.getresponse().read())
    connection.close()
    return routes.get(host, [])


def wait_for_pruning(live: Live, host: str) -> None:
    live.router.wait_for_log("pruned-route", where=lambda line: bool(line["data"]["uri"] == host))


# Register.


def test_other_data_of_an_address_take_its_place_and_keep_the_turns(live: Live, make_backend: MakeBackend) -> None:
    backends = [make_backend(named(name)) for name in "abc"]
    host = live.route(*backends, app="old")
    before = bodies(live, host, 6)
    live.routes.register(host, backend=backends[1], app="new", private_instance_id="i")
    assert bodies(live, host, 6) == before
    assert [each["address"] for each in listed(live, host)] == [each.address for each in backends]
    assert backends[1].requests[-1].header("X-Cf-Applicationid") == "new"
    assert backends[1].requests[-1].header("X-Cf-Instanceid") == "i"
    assert backends[0].requests[-1].header("X-Cf-Applicationid") == "old"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"app": "other"},
        {"tags": {"component": "x"}},
        {"private_instance_id": "other", "availability_zone": "z"},
        {"endpoint_updated_at_ns": 5},
        {"options": {"loadbalancing": "least-connection"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_registration_anew_keeps_the_connections(
    tls: bool, change: dict[str, Any], secure: Live, context: ssl.SSLContext, make_backend: MakeBackend
) -> None:
    backend = make_backend(plain, tls=context) if tls else make_backend()
    host = secure.route(backend, app="one", server_cert_domain_san="one")
    with secure.client() as client:
        for _ in range(3):
            assert client.get(host=host).status == 200
            secure.routes.register(
                host, backend=backend, **{"app": "one", "server_cert_domain_san": "one", **change}
            )
        assert client.get(host=host).status == 200
    assert len(backend.conversations) == 1


def test_tls_port_wins_over_port(
    secure: Live, context: ssl.SSLContext, backend: RecordingBackend, make_backend: MakeBackend
) -> None:
    safe = make_backend(named("tls"), tls=context)
    host = secure.host()
    message = {"host": "127.0.0.1", "port": backend.port, "tls_port": safe.port, "uris": [host]}
    secure.announcer.publish("router.register", json.dumps(message).encode())
    secure.routes.settle()
    assert bodies(secure, host, 2) == ["tls", "tls"]
    assert backend.requests == []


def test_last_registration_decides_about_the_route_service_of_all(live: Live, make_backend: MakeBackend) -> None:
    first, second = make_backend(named("first")), make_backend(named("second"))
    host = live.route(first)
    live.route(second, host=host, route_service_url="https://service.example")
    with live.client() as client:
        assert [client.get(host=host).status for _ in range(4)] == [502] * 4
        live.routes.register(host, backend=first, app="changed")
        assert {client.get(host=host).body for _ in range(4)} == {b"first", b"second"}


@pytest.mark.parametrize(
    "fields",
    [
        {"protocol": "gopher"},
        {"protocol": "http2"},
        {"route_service_url": None, "tls_port": None, "tags": None, "options": None, "app": None},
        {"dea": "x", "route_service_guid": 7, "external_port": "80", "cc_anything": [1]},
        {"stale_threshold_in_seconds": 0, "availability_zone": "", "isolation_segment": "seg"},
        {"options": {"loadbalancing": "nonsense"}},
        {"options": {"unknown": 1}},
        {"tls_port": 0},
        {"uris": []},
    ],
    ids=str,
)
def test_field_is_taken_as_it_comes(fields: dict[str, Any], live: Live, backend: RecordingBackend) -> None:
    host = live.host()
    message = {"host": "127.0.0.1", "port": backend.port, "uris": [host], **fields}
    live.announcer.publish("router.register", json.dumps(message).encode())
    live.routes.settle()
    assert status_of(live.router.port, host) == (404 if fields.get("uris") == [] else 200)


@pytest.mark.parametrize(
    "fields",
    [
        {"port": 70000},
        {"port": -1},
        {"port": "80"},
        {"port": 1.5},
        {"tls_port": 65536},
        {"private_instance_index": 0},
        {"tags": {"component": 1}},
        {"tags": ["component"]},
        {"uris": "one.test"},
        {"uris": [1]},
        {"app": {}},
        {"stale_threshold_in_seconds": "5"},
        {"endpoint_updated_at_ns": 1e40},
        {"options": "hash"},
        {"host": 5},
        # Hostile ones: what would become a header line, a log line or an address of its own.
        {"app": "a\r\nX-Evil: 1"},
        {"private_instance_id": "i\nX-Evil: 1"},
        {"private_instance_index": "0\r\n\r\nGET / HTTP/1.1"},
        {"host": "127.0.0.1 evil"},
        {"host": "127.0.0.1\r\n"},
        {"host": ""},
        {"port": 0},
        {"route_service_url": "http://insecure.example"},
        {"route_service_url": "https://x\r\nX-Evil: 1"},
    ],
    ids=str,
)
def test_message_that_is_wrong_in_one_field_is_dropped_whole_and_named(
    fields: dict[str, Any], live: Live, backend: RecordingBackend
) -> None:
    host = live.host()
    message = {"host": "127.0.0.1", "port": backend.port, "uris": [host], **fields}
    live.announcer.publish("router.register", json.dumps(message).encode())
    live.routes.settle()
    assert status_of(live.router.port, host) == 404
    assert backend.requests == []
    # A burst of them is logged in part, so that whoever sends them cannot fill the disk.
    said = [line for line in list(live.router.log) if line["log_level"] >= 2 and host in str(line["data"])]
    assert [line["message"] for line in said] in ([], ["validation-error"]), said


def test_service_that_is_not_https_is_told_in_words(start_live: StartLive, backend: RecordingBackend) -> None:
    live = start_live({})
    live.route(backend, route_service_url="ftp://x")
    live.router.wait_for_log(
        "validation-error",
        where=lambda line: "Unable to validate message. route_service_url must be https" in json.dumps(line),
    )


def test_invalid_text_is_replaced(live: Live, backend: RecordingBackend) -> None:
    host = live.host()
    message = {"host": "127.0.0.1", "port": backend.port, "uris": [host], "app": "a#b"}
    live.announcer.publish("router.register", json.dumps(message).encode().replace(b"#", b"\xff"))
    live.routes.settle()
    assert status_of(live.router.port, host) == 200
    assert (backend.requests[0].header("X-Cf-Applicationid") or "").encode("latin-1").decode() == "a\ufffdb"


# Unregister.


def test_unregister_by_the_other_port_removes_nothing(
    secure: Live, context: ssl.SSLContext, make_backend: MakeBackend
) -> None:
    backend = make_backend(plain, tls=context)
    host = secure.route(backend)
    secure.announcer.unregister(host, port=free_port())
    secure.routes.settle()
    assert status_of(secure.router.port, host) == 200
    # Whose port it is makes the endpoint, not whether it speaks TLS.
    secure.announcer.unregister(host, port=backend.port, app="another", private_instance_id="another")
    secure.routes.settle()
    assert status_of(secure.router.port, host) == 404


def test_unregistered_and_registered_again_is_routed(live: Live, backend: RecordingBackend) -> None:
    host = live.route(backend)
    for _ in range(3):
        live.routes.unregister(host, backend=backend)
        assert status_of(live.router.port, host) == 404
        live.routes.register(host, backend=backend)
        assert status_of(live.router.port, host) == 200


# Instances by name.


@pytest.fixture
def instances(live: Live, make_backend: MakeBackend) -> str:
    """The host of an app with two web instances and a task of another process."""
    host = live.host()
    for name, process, index in (("w0", WEB, "0"), ("w1", WEB, "1"), ("t0", TASK, "0")):
        live.routes.register(
            host,
            backend=make_backend(named(name)),
            app=APP if process == WEB else "other",
            private_instance_id=name,
            private_instance_index=index,
            tags={"process_id": process},
        )
    return host


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (f"X-CF-App-Instance: {APP}:1\r\n", {"w1"}),
        (f"x-cf-app-INSTANCE: {APP}:0\r\n", {"w0"}),
        (f"X-CF-Process-Instance: {WEB}\r\n", {"w0", "w1"}),
        (f"X-CF-Process-Instance: {WEB}:1\r\n", {"w1"}),
        (f"X-CF-Process-Instance: {TASK}\r\n", {"t0"}),
        (f"X-CF-App-Instance: {APP}:0\r\nX-CF-Process-Instance: {TASK}\r\n", {"w0"}),
        (f"X-CF-App-Instance: {APP}:0\r\nX-CF-App-Instance: {APP}:1\r\n", {"w0"}),
        (f"X-CF-Process-Instance: {WEB}\r\nCookie: JSESSIONID=a; __VCAP_ID__=w1\r\n", {"w1"}),
        (f"X-CF-Process-Instance: {TASK}\r\nCookie: JSESSIONID=a; __VCAP_ID__=w1\r\n", {"t0"}),
        ("Cookie: JSESSIONID=a; __VCAP_ID__=w1\r\n", {"w1"}),
    ],
)
def test_named_instance_gets_the_request(headers: str, expected: set[str], live: Live, instances: str) -> None:
    assert set(bodies(live, instances, 6, headers)) == expected


def test_process_instance_goes_on_and_app_instance_does_not(live: Live, backend: RecordingBackend) -> None:
    host = live.route(backend, app=APP, private_instance_index="0", tags={"process_id": WEB})
    with live.client() as client:
        client.get(host=host, headers=f"X-CF-App-Instance: {APP}:0\r\nX-CF-Process-Instance: {WEB}\r\n")
    assert backend.requests[0].header("X-CF-App-Instance") is None
    assert backend.requests[0].header("X-CF-Process-Instance") == WEB


def test_named_instance_that_is_dead_is_tried_every_time_and_marked_never(
    live: Live, make_backend: MakeBackend
) -> None:
    host = live.route(make_backend(named("alive")), app=APP, private_instance_index="0")
    port = free_port()
    live.routes.register(host, backend=port, app=APP, private_instance_index="1")
    dead = f"X-CF-App-Instance: {APP}:1\r\n"
    with live.client() as client:
        assert [client.get(host=host, headers=dead).status for _ in range(2)] == [502, 502]
        with RecordingBackend(named("risen"), port=port):
            assert client.get(host=host, headers=dead).body == b"risen"
            assert {client.get(host=host).body for _ in range(2)} == {b"alive", b"risen"}


# Segments.


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("all", [200, 200, 200]), ("segments", [200, 404, 404]), ("shared-and-segments", [200, 404, 200])],
)
def test_segments_are_served_as_configured(
    mode: str, expected: list[int], start_live: StartLive, backend: RecordingBackend
) -> None:
    live = start_live({"routing_table_sharding_mode": mode, "isolation_segments": ["ours", "more"]})
    # Canaries have no segment, and this router may not serve them.
    hosts = [live.host() for _ in range(3)]
    for host, segment in zip(hosts, ("ours", "foreign", ""), strict=True):
        live.announcer.register(host, port=backend.port, isolation_segment=segment)
    live.announcer.register("canary-of-" + hosts[0], port=backend.port, isolation_segment="more")
    wait_until(lambda: status_of(live.router.port, "canary-of-" + hosts[0]) == 200, "all is in place")
    assert [status_of(live.router.port, host) for host in hosts] == expected
    live.announcer.unregister(hosts[0], port=backend.port, isolation_segment="foreign")
    live.announcer.unregister("canary-of-" + hosts[0], port=backend.port, isolation_segment="more")
    wait_until(lambda: status_of(live.router.port, "canary-of-" + hosts[0]) == 404, "all is in place")
    assert status_of(live.router.port, hosts[0]) == (404 if mode == "all" else 200), "not ours to unregister"


# Limits.


def test_one_message_is_one_endpoint_for_all_its_uris(start_live: StartLive, make_backend: MakeBackend) -> None:
    live = start_live({"backends": {"max_conns": 1}})
    backend = make_backend(silent)
    first, second, apart = live.host(), live.host(), live.host()
    live.routes.register(first, second, backend=backend)
    live.routes.register(apart, backend=backend)
    with live.client() as occupant, live.client() as client, live.client() as other:
        occupant.send(f"GET / HTTP/1.1\r\nHost: {first}\r\n\r\n".encode())
        wait_until(lambda: len(backend.requests) == 1, "the endpoint is at its limit")
        assert client.get(host=second).status == 503
        other.send(f"GET / HTTP/1.1\r\nHost: {apart}\r\n\r\n".encode())
        wait_until(lambda: len(backend.requests) == 2, "another message is another endpoint")


# Pools without endpoints.


@pytest.mark.parametrize(("flag", "status"), [(True, 503), (False, 404)])
def test_pool_whose_last_tls_endpoint_failed_is_empty_until_the_next_pass(
    flag: bool, status: int, start_live: StartLive, authority: Authority
) -> None:
    live = start_live(
        {
            "ca_certs": [authority.pair.certificate],
            "empty_pool_response_code_503": flag,
            "prune_stale_droplets_interval": "1s",
        }
    )
    host = live.host()
    port = free_port()

    def after_its_failure() -> int:
        live.routes.register(host, backend=1, tls_port=port)
        with live.client() as client:
            assert client.get(host=host).status == 502
            return client.get(host=host).status

    # The next pass may come between the two requests.
    wait_until(lambda: after_its_failure() == status, f"the empty pool is answered with {status}")
    wait_until(lambda: status_of(live.router.port, host) == 404, "the pass forgets it")


def test_emptied_pool_is_kept_for_its_time(start_live: StartLive, backend: RecordingBackend) -> None:
    live = start_live(
        {
            "empty_pool_response_code_503": True,
            "empty_pool_timeout": "5s",
            "prune_stale_droplets_interval": "200ms",
        }
    )
    host = live.route(backend)
    live.routes.unregister(host, backend=backend)
    assert status_of(live.router.port, host) == 503
    wait_until(lambda: status_of(live.router.port, host) == 404, "its time is over")


@pytest.mark.parametrize("flag", [True, False])
def test_unregistered_route_is_gone_at_once_where_nothing_is_kept(
    flag: bool, start_live: StartLive, backend: RecordingBackend
) -> None:
    live = start_live({"empty_pool_response_code_503": flag})
    host = live.route(backend)
    live.routes.unregister(host, backend=backend)
    assert status_of(live.router.port, host) == 404


# Pruning.


def test_tls_endpoints_never_age(
    start_live: StartLive, authority: Authority, context: ssl.SSLContext, make_backend: MakeBackend
) -> None:
    live = start_live(
        {
            "ca_certs": [authority.pair.certificate],
            "droplet_stale_threshold": "1s",
            "prune_stale_droplets_interval": "200ms",
        }
    )
    lasting = live.route(make_backend(plain, tls=context), stale_threshold_in_seconds=1)
    for _ in range(2):
        ageing = live.host()
        live.announcer.register(ageing, port=make_backend().port)
        wait_for_pruning(live, ageing)
    assert status_of(live.router.port, lasting) == 200


def test_routes_age_from_the_start_delay_on(tmp_path: Path, nats_server: NatsServer) -> None:
    """What was announced once, early in a long delay, is gone when the router begins to serve."""
    config = {"start_response_delay_interval": "8s", "prune_stale_droplets_interval": "250ms"}
    router = RunningRouter(tmp_path / "router", nats_server.port, config)
    router.start(wait=False)
    with Announcer(nats_server.port) as announcer, RecordingBackend() as backend:
        try:
            wait_until(lambda: announcer.hears("router.greet"), "the router listens")
            announcer.register("early.test", port=backend.port, stale_threshold_in_seconds=1)
            announcer.register("lasting.test", port=backend.port)
            router.wait_for_log("pruned-route")
            assert "gorouter.started" not in router.messages()
            router.wait_for_log("gorouter.started")
            assert [status_of(router.port, f"{name}.test") for name in ("early", "lasting")] == [404, 200]
        finally:
            router.stop()


# Under fire.


def test_endpoint_that_fails_is_back_with_its_next_announcement(
    secure: Live, context: ssl.SSLContext, authority: Authority
) -> None:
    port = free_port()
    host = secure.host()
    secure.routes.register(host, backend=1, tls_port=port)
    assert status_of(secure.router.port, host) == 502
    with RecordingBackend(plain, tls=context, port=port):
        assert status_of(secure.router.port, host) == 404
        secure.routes.register(host, backend=1, tls_port=port)
        assert status_of(secure.router.port, host) == 200


def test_requests_during_thousands_of_replacements_all_succeed(live: Live, backend: RecordingBackend) -> None:
    host = live.route(backend, app="0")
    done = threading.Event()
    statuses: set[int] = set()

    def ask() -> None:
        with RawClient(live.router.port) as client:
            while not done.is_set():
                statuses.add(client.get(host=host).status)

    asking = threading.Thread(target=ask)
    asking.start()
    for number in range(1000):
        live.announcer.register(host, port=backend.port, app=str(number))
    done.set()
    asking.join(PATIENCE_S)
    assert statuses == {200}
    live.routes.settle()
    assert status_of(live.router.port, host) == 200
