"""What exchanges leave behind, however they end."""

from pathlib import Path

import pytest

from router.backend.connection import BackendConnection
from router.proxy.exchange import Exchange
from tests.proxy.conftest import StartPlane
from tests.support.plane import RunningPlane
from tests.support.rawclient import Truncated
from tests.support.recorder import Conversation, RecordingBackend, answering, plain
from tests.support.waiting import wait_until

HOST = "app.test"
GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def plane(start_plane: StartPlane, file: Path) -> RunningPlane:
    return start_plane(access_log={"file": str(file)}, backends={"max_attempts": 3})


def logged(file: Path) -> str:
    """The one line of the access log."""
    wait_until(lambda: file.read_bytes().endswith(b"\n"), "access log")
    [line] = file.read_text().splitlines()
    return line


def only_exchange(plane: RunningPlane) -> Exchange:
    wait_until(lambda: len(plane.plane.proxy.active) == 1, "exchange has begun")
    return next(iter(plane.plane.proxy.active))


def begin_answer(conversation: Conversation) -> None:
    """Send part of a response and nothing more."""
    conversation.read_request()
    conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
    conversation.wait_for_end()


def test_client_that_leaves_before_the_answer_is_499_and_harms_no_endpoint(
    plane: RunningPlane, file: Path
) -> None:
    with RecordingBackend(lambda conversation: conversation.wait_for_end()) as backend:
        [endpoint] = plane.route(HOST, backend)
        with plane.client() as client:
            client.send(GET)
            wait_until(lambda: any(each.received for each in backend.conversations), "request at the backend")
        wait_until(plane.is_idle, "exchange is over")

        assert (endpoint.in_flight, endpoint.failed_at) == (0, 0.0)
        assert (plane.plane.counters.client_aborts, plane.plane.counters.retries) == (1, 0)
        wait_until(lambda: backend.conversations[0].ended, "backend connection is gone")
        line = logged(file)
        assert '" 499 0 0 ' in line
        assert line.endswith('x_cf_routererror:"endpoint_failure (context canceled)"')


def test_client_that_leaves_during_the_answer_is_logged_with_its_status(plane: RunningPlane, file: Path) -> None:
    with RecordingBackend(begin_answer) as backend:
        plane.route(HOST, backend)
        with plane.client() as client:
            client.send(GET)
            assert client.read_line().startswith(b"HTTP/1.1 200")
        wait_until(plane.is_idle, "exchange is over")
        line = logged(file)

        assert '" 200 0 2 ' in line
        assert line.endswith('x_cf_routererror:"client-conn-closed-during-response-streaming"')
        wait_until(lambda: backend.conversations[0].ended, "backend connection is gone")


def test_client_that_leaves_during_the_dial_stops_it(plane: RunningPlane) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=0) as tarpit:
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(tarpit.getsockname())
        [endpoint] = plane.route(HOST, tarpit.getsockname()[1])
        with plane.client() as client:
            client.send(GET)
            exchange = only_exchange(plane)
            task = wait_until(lambda: exchange.dialling, "the dial has begun")
        wait_until(plane.is_idle, "exchange is over")
        wait_until(task.done, "dial has ended")
        for each in waiting:
            each.close()

    assert task.cancelled()
    assert (endpoint.in_flight, endpoint.failed_at) == (0, 0.0)


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\nbroken",
    ],
)
def test_broken_answer_is_cut_logged_and_not_repeated(plane: RunningPlane, file: Path, begun: bytes) -> None:
    with RecordingBackend(answering(begun, close=True)) as backend, plane.client() as client:
        [endpoint] = plane.route(HOST, backend)
        client.send(GET)
        with pytest.raises(Truncated):
            client.read_response()

        assert len(backend.requests) == 1
        assert (endpoint.in_flight, plane.plane.counters.retries) == (0, 0)
        line = logged(file)
        assert '" 200 0 ' in line
        assert 'x_cf_routererror:"endpoint_failure (' in line
        assert "backend-endpoint-failed" in plane.messages()


def test_answer_that_takes_longer_than_the_endpoint_timeout_is_cut(start_plane: StartPlane) -> None:
    plane = start_plane(endpoint_timeout=0.1)
    with RecordingBackend(begin_answer) as backend, plane.client() as client:
        plane.route(HOST, backend)
        with plane.without_deadlines():
            client.send(GET)
            exchange = only_exchange(plane)
            wait_until(lambda: exchange.bytes_out, "answer has begun")
        with pytest.raises(Truncated):
            client.read_response()
        wait_until(lambda: backend.conversations[0].ended, "backend connection is gone")


def test_error_named_by_the_app_is_passed_on_and_logged(plane: RunningPlane, file: Path) -> None:
    answer = b"HTTP/1.1 503 Busy\r\nX-Cf-RouterError: own\r\nContent-Length: 0\r\n\r\n"
    with RecordingBackend(answering(answer)) as backend, plane.client() as client:
        plane.route(HOST, backend)
        response = client.get(host=HOST)

    assert response.header("X-Cf-RouterError") == "own"
    assert logged(file).endswith('x_cf_routererror:"own"')


def test_bytes_of_bodies_are_counted_without_their_framing(plane: RunningPlane, file: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    with RecordingBackend(answering(answer)) as backend, plane.client() as client:
        plane.route(HOST, backend)
        client.send(
            b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        )
        assert client.read_response().body == b"abcdefg"

    assert '" 200 5 7 ' in logged(file)


def test_body_of_a_router_made_answer_to_head_is_not_sent(plane: RunningPlane, file: Path) -> None:
    with plane.client() as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: unknown.test\r\n\r\n")
        response = client.read_response("HEAD")
        assert int(response.header("Content-Length") or 0) > 0
        assert client.get(host="unknown.test").status == 404
    wait_until(lambda: file.read_bytes().count(b"\n") == 2, "access log")

    assert '"HEAD / HTTP/1.1" 404 0 0 ' in file.read_text()


def test_early_answer_ends_the_use_of_the_backend_connection(plane: RunningPlane) -> None:
    def early(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.answer(b"early")
        conversation.wait_for_end()

    with RecordingBackend(early) as backend, plane.client() as client:
        plane.route(HOST, backend)
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\n")
        assert client.read_response().body == b"early"
        wait_until(lambda: backend.conversations[0].ended, "backend connection is gone")
        backend.script = plain
        client.send(b"0123456789" + GET)

        assert client.read_response().body == b"ok"
        assert b"0123456789" not in backend.conversations[0].received


# Tunnels.


def test_tunnel_relays_both_ends_and_is_logged_when_both_have_come(plane: RunningPlane, file: Path) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(SWITCH + b"first")
        conversation.read(4)
        conversation.send(b"pong")
        conversation.end_sending()
        conversation.wait_for_end()

    with RecordingBackend(script) as backend, plane.client() as client:
        [endpoint] = plane.route(HOST, backend)
        client.send(UPGRADE + b"ping")
        response = client.read_response()
        assert (response.status, response.header("Upgrade")) == (101, "websocket")
        assert client.read_exactly(9) == b"firstpong"
        assert client.is_closed_by_peer()
        assert only_exchange(plane).tunnelling
        assert endpoint.in_flight == 0
        client.send(b"last words")
        client.end_sending()
        wait_until(plane.is_idle, "tunnel is over")
        wait_until(lambda: backend.conversations[0].ended, "backend connection is gone")

        assert backend.conversations[0].received.endswith(b"pinglast words")
        assert plane.plane.counters.websocket_upgrades == 1
        assert '" 101 ' in logged(file)


@pytest.mark.parametrize("who", ["client", "backend"])
def test_tunnel_ends_with_either_side_s_reset(plane: RunningPlane, who: str) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(SWITCH)
        conversation.read(2)
        if who == "backend":
            conversation.reset()
        conversation.wait_for_end()

    with RecordingBackend(script) as backend, plane.client() as client:
        plane.route(HOST, backend)
        client.send(UPGRADE)
        assert client.read_response().status == 101
        client.send(b"hi")
        if who == "client":
            wait_until(lambda: backend.conversations[0].received.endswith(b"hi"), "bytes at the backend")
            client.reset()
        else:
            assert client.is_closed_by_peer()
        wait_until(plane.is_idle, "tunnel is over")
        wait_until(lambda: backend.conversations[0].ended or backend.conversations[0].closed, "backend is let go")


def test_tunnels_are_not_waited_for_when_draining(plane: RunningPlane) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(SWITCH)
        conversation.wait_for_end()

    with RecordingBackend(script) as backend, plane.client() as client:
        plane.route(HOST, backend)
        client.send(UPGRADE)
        assert client.read_response().status == 101
        plane.call(plane.plane.drain)
        assert plane.plane.is_drained()
        plane.call(plane.plane.close)

        assert client.is_closed_by_peer()


def test_refused_upgrade_is_an_ordinary_answer(plane: RunningPlane) -> None:
    with RecordingBackend() as backend, plane.client() as client:
        plane.route(HOST, backend)
        client.send(UPGRADE + GET)

        assert [client.read_response().body for _ in range(2)] == [b"ok", b"ok"]


# Flow control.


def test_reader_that_does_not_read_stops_the_backend(plane: RunningPlane) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n" + b"x" * 30_000_000
    with RecordingBackend(answering(raw)) as backend, plane.client(receive_buffer=4096) as client:
        plane.route(HOST, backend)
        client.send(GET + GET)
        connection = plane.only_client()
        wait_until(lambda: connection._full, "client is full")
        exchange = only_exchange(plane)
        assert isinstance(exchange.connection, BackendConnection)
        assert exchange.connection._paused
        assert connection._transport.get_write_buffer_size() < 1_000_000

        assert [len(client.read_response().body) for _ in range(2)] == [30_000_000, 30_000_000]


def test_stopping_cuts_what_is_going_on(plane: RunningPlane, file: Path) -> None:
    with RecordingBackend(begin_answer) as backend, plane.client() as client:
        plane.route(HOST, backend)
        client.send(GET)
        exchange = only_exchange(plane)
        wait_until(lambda: exchange.bytes_out, "answer has begun")
        plane.call(plane.plane.close)

        with pytest.raises(Truncated):
            client.read_response()
        exchange.finish()
        assert logged(file)
