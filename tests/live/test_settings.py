"""Settings whose effect no other test has for its subject, each by what it changes for clients and instances."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Event

import pytest

from router.routing.records import PoolOptions, SetPoolOptions
from tests.support.plane import RunningPlane, config
from tests.support.recorder import Conversation, MakeBackend, named, silent
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture
def run() -> Iterator[Callable[..., RunningPlane]]:
    """Start data planes with these settings; they end with the test."""
    started: list[RunningPlane] = []

    def start(**settings: object) -> RunningPlane:
        started.append(RunningPlane(config(**settings)))
        return started[-1].__enter__()

    yield start
    for plane in started:
        plane.__exit__(None, None, None)


def test_time_of_http_1_clients_counts_before_the_common_one(
    run: Callable[..., RunningPlane], make_backend: MakeBackend
) -> None:
    plane = run(endpoint_timeout=3600.0, http_1_endpoint_timeout=0.1)
    plane.route("app.test", make_backend(silent))
    with plane.client() as client:
        answer = client.get(host="app.test")
    assert answer.status == 502
    assert answer.header("X-Cf-Routererror") == "endpoint_failure (context deadline exceeded)"


@pytest.mark.parametrize(("in_all", "per_host", "left"), [(3, 100, 3), (100, 2, 2), (0, 4, 4), (100, 0, 2)])
def test_idle_connections_of_an_endpoint_are_limited_by_the_smaller_of_two_settings(
    run: Callable[..., RunningPlane], make_backend: MakeBackend, in_all: int, per_host: int, left: int
) -> None:
    """As for Go's transport, 0 in all is no limit, and 0 for a host is its default of 2."""
    released = Event()

    def waiting(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            released.wait(PATIENCE_S)
            conversation.answer()

    plane = run(max_idle_conns=in_all, max_idle_conns_per_host=per_host)
    backend = make_backend(waiting)
    (endpoint,) = plane.route("app.test", backend)
    with ExitStack() as closing:
        clients = [closing.enter_context(plane.client()) for _ in range(6)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        wait_until(lambda: len(backend.requests) == 6, "all are there at once")
        released.set()
        assert [client.read_response().status for client in clients] == [200] * 6
    wait_until(plane.is_idle, "all are over")
    assert len(endpoint.idle or ()) == left


def test_connections_to_instances_are_probed_as_often_as_asked(
    run: Callable[..., RunningPlane], make_backend: MakeBackend
) -> None:
    plane = run(endpoint_keep_alive_probe_interval=7.0)
    (endpoint,) = plane.route("app.test", make_backend())
    with plane.client() as client:
        assert client.get(host="app.test").status == 200
    wait_until(lambda: endpoint.idle, "the connection is idle")
    assert endpoint.idle
    with socket.socket(fileno=socket.dup(endpoint.idle[0].fileno())) as probed:
        assert probed.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert probed.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 7


def owners(plane: RunningPlane) -> list[bytes]:
    plane.apply(SetPoolOptions("app.test", PoolOptions(algorithm="hash", hash_header="X-Tenant")))
    with plane.client() as client:
        return [client.get(host="app.test", headers=f"X-Tenant: {number}\r\n").body for number in range(200)]


def test_size_of_the_hash_table_decides_how_finely_tenants_are_spread(
    run: Callable[..., RunningPlane], make_backend: MakeBackend
) -> None:
    backends = [make_backend(named(f"inst-{number}")) for number in range(3)]
    found = {}
    for size in ("", "XS", "S", "M", "L", "XL"):
        plane = run(hash_based_routing={"lookup_table_size": size} if size else {})
        for number, backend in enumerate(backends):
            plane.route("app.test", backend, instance_id=f"inst-{number}")
        found[size] = owners(plane)
        assert len(set(found[size])) == 3
    assert found.pop("") == found["S"], "which is the size if none is given"
    assert len({tuple(each) for each in found.values()}) == 5, "tenants find other places in each table"
