"""What a client connection of HTTP/1 writes, and how it ends: in a running data plane, on real sockets."""

from collections.abc import Iterator

import pytest

from router.frontend import connection as frontend_connection
from tests.support.plane import RunningPlane, config
from tests.support.rawclient import RawClient
from tests.support.recorder import Conversation, RecordingBackend, answering
from tests.support.waiting import wait_until

HOST = "app.test"
GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.fixture
def plane() -> Iterator[RunningPlane]:
    with RunningPlane(config(frontend_idle_timeout=30.0)) as running:
        yield running


@pytest.fixture
def client(plane: RunningPlane) -> Iterator[RawClient]:
    with plane.client() as connected:
        yield connected


# Framing.


@pytest.mark.parametrize(("minor", "framing"), [(1, "chunked"), (0, "close")])
def test_body_of_unknown_length_is_chunked_for_those_who_know_chunks(
    plane: RunningPlane, client: RawClient, minor: int, framing: str
) -> None:
    with RecordingBackend(answering(CHUNKED)) as backend:
        plane.route(HOST, backend)
        client.send(b"GET / HTTP/1.%d\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n" % minor)
        response = client.read_response()

    assert (response.body, response.framing) == (b"hello", framing)
    assert response.header("connection") == (None if minor else "close")


# The end.


def test_lingering_client_is_closed_in_the_end(
    plane: RunningPlane, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontend_connection, "LINGER_S", 0.05)
    client.send(b"broken\r\n\r\n")

    assert client.read_response().status == 400
    # The client keeps its side open and goes on sending.
    client.send(b"x" * 100_000)
    wait_until(lambda: not plane.clients, "connection is gone")


def test_closing_connection_whose_client_takes_nothing_is_given_up(
    plane: RunningPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontend_connection, "FLUSH_S", 0.05)
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 10_000_000
    with RecordingBackend(answering(raw, close=True)) as backend, plane.client(receive_buffer=4096) as client:
        plane.route(HOST, backend)
        client.send(GET)
        connection = plane.only_client()
        wait_until(lambda: connection._full, "client is full")
        plane.call(lambda: next(iter(plane.plane.proxy.active)).stop())

        wait_until(lambda: not plane.clients, "connection is gone")


def test_truncated_body_without_a_length_ends_in_a_reset(plane: RunningPlane, client: RawClient) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        wait_until(lambda: any(each.bytes_out for each in list(plane.plane.proxy.active)), "answer has begun")

    with RecordingBackend(script) as backend:
        plane.route(HOST, backend)
        client.send(b"GET / HTTP/1.0\r\nHost: app.test\r\n\r\n")
        received = client.read_until_end()

    assert client.was_reset
    assert b"0\r\n" not in received.partition(b"\r\n\r\n")[2]
