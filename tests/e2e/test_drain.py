"""Behaviour 17: the end is announced, waited for and bounded; nobody in flight is cut without need."""

import contextlib
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import FRESH_CONNECTIONS, Slow, StartRouter, wait_everywhere
from tests.support.announce import Announcer, status_of
from tests.support.load import Load
from tests.support.rawclient import RawClient
from tests.support.recorder import Conversation, MakeBackend, plain
from tests.support.router import RunningRouter, hastened_by_usr1
from tests.support.waiting import wait_until


def health(router: RunningRouter) -> int:
    return status_of(router.health_port, "127.0.0.1", "/health")


def start_slow_requests(router: RunningRouter, count: int) -> list[RawClient]:
    clients = [RawClient(router.port) for _ in range(count)]
    for client in clients:
        client.send(b"GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n")
    return clients


def test_drain_waits_tells_and_finishes_what_is_in_flight(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    slow = Slow()
    router = start_router({"drain_wait": "8s", "drain_timeout": "1h"})
    backend = make_backend(slow.script)
    announcer.register("app.test", port=backend.port)
    wait_everywhere(router, "app.test")
    requests = start_slow_requests(router, 50)
    wait_until(lambda: sum(request.target == "/slow" for request in backend.requests) == 50, "50 are in flight")
    with Load(router.port, "app.test", keep_alive=0) as load:
        router.signal(signal.SIGUSR1)
        wait_until(lambda: health(router) == 503, "health says so")
        answered = load.answered
        wait_until(lambda: load.answered > answered + 50, "traffic is served during drain_wait")
        wait_until(lambda: status_of(router.port, "app.test") == 0, "no further connection is taken")
    assert set(load.account.statuses) == {200}
    assert health(router) == 503, "status listeners stay up"
    assert router.process is not None
    assert router.process.poll() is None, "it waits for what is in flight"
    slow.release.set()
    for client in requests:
        response = client.read_response()
        assert response.status == 200
        assert client.is_closed_by_peer()
        client.close()
    assert router.wait_exit() == 0
    router.wait_for_log("gorouter.stopped")


def test_drain_that_takes_too_long_is_cut_and_ends_with_status_0(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    slow = Slow()
    router = start_router({"drain_wait": "0s", "drain_timeout": "1s"})
    backend = make_backend(slow.script)
    announcer.register("app.test", port=backend.port)
    wait_everywhere(router, "app.test")
    (client,) = start_slow_requests(router, 1)
    wait_until(lambda: backend.requests[-1].target == "/slow", "it is in flight")
    router.signal(signal.SIGUSR1)
    assert router.wait_exit() == 0
    assert b"200 OK" not in client.read_until_end()
    client.close()
    slow.release.set()
    assert any("drain" in message for message in router.messages())


WEBSOCKET_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: ws.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def wait_for_route(router: RunningRouter, host: str) -> None:
    """Wait until every worker knows a route; an answer with 101 says so, too."""

    def is_known() -> bool:
        return all(status_of(router.port, host) != 404 for _ in range(FRESH_CONNECTIONS))

    wait_until(is_known, f"{host} is known everywhere", timeout_s=60)


def switch(conversation: Conversation) -> None:
    """Open a tunnel and send back what comes, until the other side ends it."""
    conversation.read_head()
    conversation.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    while piece := conversation.socket.recv(65536):
        conversation.send(piece)


@contextlib.contextmanager
def open_tunnel(router: RunningRouter) -> Iterator[RawClient]:
    with RawClient(router.port) as tunnel:
        tunnel.send(WEBSOCKET_REQUEST)
        assert tunnel.read_response().status == 101
        yield tunnel


def test_websocket_goes_on_through_a_drain_until_it_ends(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"drain_timeout": "1h"})
    announcer.register("ws.test", port=make_backend(switch).port)
    wait_for_route(router, "ws.test")
    with open_tunnel(router) as tunnel:
        router.signal(signal.SIGUSR1)
        wait_until(lambda: status_of(router.port, "ws.test") == 0, "no further connection is taken")
        tunnel.send(b"still here")
        assert tunnel.read_exactly(10) == b"still here"
    assert router.wait_exit() == 0


def test_websocket_is_ended_without_a_reset_when_the_drain_has_taken_long_enough(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"drain_timeout": "500ms"})
    announcer.register("ws.test", port=make_backend(switch).port)
    wait_for_route(router, "ws.test")
    with open_tunnel(router) as tunnel:
        router.signal(signal.SIGUSR1)
        assert tunnel.is_closed_by_peer()
        assert not tunnel.was_reset
    assert router.wait_exit() == 0


def test_idle_connections_are_closed_by_a_drain_and_websockets_not_waited_for_if_so_configured(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"drain_timeout": "1h", "drain_websockets": False})
    announcer.register("app.test", port=make_backend(plain).port)
    announcer.register("ws.test", port=make_backend(switch).port)
    wait_everywhere(router, "app.test")
    with RawClient(router.port) as idle, open_tunnel(router) as tunnel:
        assert idle.get(host="app.test").status == 200
        router.signal(signal.SIGUSR1)
        assert idle.is_closed_by_peer()
        assert not idle.was_reset
        assert router.wait_exit() == 0
        assert tunnel.is_closed_by_peer()


def test_kept_connection_is_closed_with_the_response_at_hand(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    slow = Slow()
    router = start_router({"drain_timeout": "1h"})
    backend = make_backend(slow.script)
    announcer.register("app.test", port=backend.port)
    wait_everywhere(router, "app.test")
    (client,) = start_slow_requests(router, 1)
    wait_until(lambda: backend.requests[-1].target == "/slow", "it is in flight")
    router.signal(signal.SIGUSR1)
    wait_until(lambda: status_of(router.port, "app.test") == 0, "no further connection is taken")
    slow.release.set()
    assert client.read_response().header("Connection") in (None, "close")
    assert client.is_closed_by_peer()
    client.close()
    assert router.wait_exit() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_term_and_int_end_the_router_at_once(
    number: signal.Signals, start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"drain_wait": "1h", "drain_timeout": "1h"})
    announcer.register("app.test", port=make_backend().port)
    wait_everywhere(router, "app.test")
    with RawClient(router.port) as idle:
        assert idle.get(host="app.test").status == 200
        router.signal(number)
        # The suite's own patience is long, but not as long as drain_wait: ending is what is tested, not how fast.
        assert router.wait_exit() == 0
    assert router.messages()[-1] == "gorouter.stopped"


def test_term_hastens_a_drain(start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend) -> None:
    slow = Slow()
    router = start_router({"drain_wait": "1h", "drain_timeout": "1h"})
    backend = make_backend(slow.script)
    announcer.register("app.test", port=backend.port)
    wait_everywhere(router, "app.test")
    (client,) = start_slow_requests(router, 1)
    router.signal(signal.SIGUSR1)
    wait_until(lambda: health(router) == 503, "the drain has begun")
    router.signal(signal.SIGTERM)
    assert router.wait_exit() == 0
    client.close()
    slow.release.set()


def test_second_drain_signal_skips_the_wait(start_router: StartRouter) -> None:
    router = start_router({"drain_wait": "1h"})
    router.signal(signal.SIGUSR1)
    wait_until(lambda: health(router) == 503, "the drain has begun")
    # The second of a pair that follows one another fast; a single one may come too late, on a slow machine.
    wait_until(lambda: hastened_by_usr1(router), "the end", every_s=0.1)
    assert router.wait_exit() == 0


def test_routes_change_until_the_end_of_a_drain(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    """NATS stays subscribed: an instance that leaves during the drain gets no further request."""
    router = start_router({"drain_wait": "1h"})
    announcer.register("app.test", port=make_backend().port)
    wait_everywhere(router, "app.test")
    router.signal(signal.SIGUSR1)
    wait_until(lambda: health(router) == 503, "the drain has begun")
    announcer.register("late.test", port=make_backend().port)
    wait_everywhere(router, "late.test")
