"""Time-outs of both sides.

Each waits for what the router does. Limits are a second or less where nobody has to be quicker than they are, and
some seconds where a client or a backend has to act in time, for a machine may stand still for a moment.
"""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.rawclient import RawClient, Truncated
from tests.support.recorder import Conversation, MakeBackend, named, silent
from tests.support.waiting import PATIENCE_S, wait_until

BAD_GATEWAY = b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"


@pytest.fixture(scope="module")
def hasty(start_live: StartLive) -> Live:
    """A router that waits for no backend."""
    return start_live(
        {"endpoint_timeout": "1s", "endpoint_dial_timeout": "300ms", "tls_handshake_timeout": "300ms"}
    )


@pytest.fixture(scope="module")
def strict(start_live: StartLive) -> Live:
    """A router that waits for no head."""
    return start_live({"read_header_timeout": "400ms"})


@pytest.fixture(scope="module")
def steady(start_live: StartLive) -> Live:
    """A router with limits that whoever acts at once keeps, and which a test can wait for."""
    return start_live({"endpoint_timeout": "4s", "frontend_idle_timeout": "4s"})


@pytest.fixture
def client(hasty: Live) -> Iterator[RawClient]:
    with hasty.client() as connected:
        yield connected


def check_deadline_exceeded(response: Any) -> None:
    assert (response.status, response.body) == (502, BAD_GATEWAY)
    assert response.header("X-Cf-Routererror") == "endpoint_failure (context deadline exceeded)"


def test_silent_backend_is_502_after_one_attempt(
    hasty: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    backends = [make_backend(silent) for _ in range(2)]
    host = hasty.route(*backends)
    check_deadline_exceeded(client.get(host=host))
    wait_until(lambda: any(backend.requests for backend in backends), "it has read the request")
    assert sum(len(backend.requests) for backend in backends) == 1
    wait_until(lambda: not any(backend.open_conversations() for backend in backends), "its connection is closed")


def test_timed_out_endpoint_stays_in_use(hasty: Live, client: RawClient, make_backend: MakeBackend) -> None:
    def first_hangs(conversation: Conversation) -> None:
        if conversation.number == 0:
            silent(conversation)
        named("alive")(conversation)

    host = hasty.route(make_backend(first_hangs))
    check_deadline_exceeded(client.get(host=host))
    wait_until(lambda: client.get(host=host).body == b"alive", "it answers")


def test_response_that_stops_in_mid_body_is_cut(steady: Live, make_backend: MakeBackend) -> None:
    def stop(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        conversation.wait_for_end()

    backend = make_backend(stop)
    host = steady.route(backend)
    with steady.client() as client, pytest.raises(Truncated):
        client.get(host=host)
    wait_until(lambda: backend.open_conversations() == 0, "the backend's connection is closed")


def test_backend_that_does_not_accept_is_a_dial_timeout(hasty: Live, client: RawClient) -> None:
    """A full backlog swallows the SYN: nothing answers, nothing refuses."""
    host = hasty.host()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        hasty.routes.register(host, backend=port)
        response = client.get(host=host)
        for filler in fillers:
            filler.close()
    assert (response.status, response.body) == (502, BAD_GATEWAY)


def test_backend_that_never_finishes_its_handshake_is_502(hasty: Live, client: RawClient) -> None:
    host = hasty.host()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hasty.announcer.register(host, port=0, tls_port=silent.getsockname()[1])
        hasty.routes.settle()
        response = client.get(host=host)
    assert (response.status, response.body) == (502, BAD_GATEWAY)


def test_unfinished_head_is_408_or_closed(strict: Live, make_backend: MakeBackend) -> None:
    backend = make_backend()
    host = strict.route(backend)
    with strict.client() as slow:
        slow.send(f"GET / HTTP/1.1\r\nHost: {host}\r\nX-A: ".encode())
        assert slow.read_until_end()[:12] in (b"", b"HTTP/1.1 408")
    assert backend.requests == []


def test_head_that_trickles_in_is_bounded_too(strict: Live, make_backend: MakeBackend) -> None:
    """The limit is on the whole head: a byte now and then does not renew it."""
    backend = make_backend()
    host = strict.route(backend)
    with strict.client() as slow:
        slow.send(f"GET / HTTP/1.1\r\nHost: {host}\r\nX-A: ".encode())
        slow.socket.settimeout(0.05)
        for _ in range(1200):
            slow.send(b"a")
            try:
                if not slow._more():
                    break
            except TimeoutError:
                continue
        assert slow.ended or slow.buffer.startswith(b"HTTP/1.1 408")
    assert backend.requests == []


def test_client_that_sends_nothing_is_closed(steady: Live) -> None:
    with steady.client() as silent:
        assert silent.is_closed_by_peer()


def test_idle_kept_connection_is_closed(steady: Live, make_backend: MakeBackend) -> None:
    host = steady.route(make_backend())
    with steady.client() as client:
        for _ in range(3):
            assert client.get(host=host).status == 200
        assert client.is_closed_by_peer()
        assert not client.was_reset


def test_body_that_stops_coming_is_cut_and_its_backend_let_go(
    hasty: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(silent)
    host = hasty.route(backend)
    client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\nhalf".encode())
    assert client.read_until_end()[:12] in (b"", b"HTTP/1.1 502", b"HTTP/1.1 408")
    wait_until(lambda: backend.open_conversations() == 0, "the half request is not pooled")
    assert backend.mark().strict(may_be_cut=True) == []


def test_websocket_has_no_endpoint_timeout(steady: Live, make_backend: MakeBackend) -> None:
    def tunnel(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        # Longer than every limit of this router: others are timed out meanwhile.
        with steady.client() as asking, steady.client() as idle:
            assert asking.get(host=hanging).status == 502
            assert idle.is_closed_by_peer()
        conversation.send(b"late")
        conversation.wait_for_end()

    hanging = steady.route(make_backend(silent))
    host = steady.route(make_backend(tunnel))
    with steady.client() as client:
        client.send(
            f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert client.read_response().status == 101
        assert client.read_exactly(4) == b"late"


def test_upgrade_that_nobody_answers_is_timed_out(
    hasty: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    host = hasty.route(make_backend(silent))

    check_deadline_exceeded(client.get(host=host, headers="Connection: Upgrade\r\nUpgrade: websocket\r\n"))


def test_time_outs_of_one_exchange_leave_others_alone(steady: Live, make_backend: MakeBackend) -> None:
    hanging, lively = steady.route(make_backend(silent)), steady.route(make_backend(named("lively")))
    with steady.client() as client, steady.client() as victim:
        victim.send(f"GET / HTTP/1.1\r\nHost: {hanging}\r\n\r\n".encode())
        victim.socket.settimeout(0.01)
        while True:
            assert client.get(host=lively).body == b"lively"
            try:
                if not victim._more() or victim.buffer:
                    break
            except TimeoutError:
                continue
        victim.socket.settimeout(PATIENCE_S)
        check_deadline_exceeded(victim.read_response())


def test_websocket_on_which_nobody_says_anything_is_ended_on_both_sides(
    start_live: StartLive, make_backend: MakeBackend
) -> None:
    live = start_live({"websocket_idle_timeout": "3s"})
    ended = threading.Event()

    def switch(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while piece := conversation.socket.recv(65536):
            conversation.send(piece)
        ended.set()

    host = live.route(make_backend(switch))
    with live.client() as client:
        client.send(
            f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
        )
        assert client.read_response().status == 101
        client.send(b"hello")
        assert client.read_exactly(5) == b"hello"
        assert client.is_closed_by_peer()
    assert ended.wait(PATIENCE_S)
