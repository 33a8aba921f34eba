"""One connection against a real server that answers byte for byte as told."""

import asyncio
import threading

import pytest

from router.backend import failure as failures
from router.backend.connection import BackendConnection
from tests.backend.receiver import GET, Dialler, Receiver, endpoint
from tests.support.recorder import Conversation, RecordingBackend, Script, answering, silent
from tests.support.waiting import PATIENCE_S

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def answered(dialler: Dialler, raw: bytes, receiver: Receiver, *, close: bool = False) -> BackendConnection:
    """Have one request answered by these bytes; return the connection once it was served."""
    with RecordingBackend(answering(raw, close=close)) as backend:
        connection = await dialler.dial(endpoint(backend.port))
        await dialler.exchange(connection, receiver)
    return connection


@pytest.mark.parametrize(
    ("raw", "body", "trailers"),
    [
        (OK, b"ok", []),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", []),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok", []),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n", b"ok", [b"X: 1"]),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", []),
    ],
)
async def test_response_is_read_and_the_connection_kept(
    dialler: Dialler, raw: bytes, body: bytes, trailers: list[bytes]
) -> None:
    with RecordingBackend(answering(raw)) as backend:
        target = endpoint(backend.port)
        connection = await dialler.dial(target)
        receiver = await dialler.exchange(connection)

        assert (receiver.body, receiver.trailers) == (body, trailers)
        assert dialler.connections.checkout(target, False) is connection
        again = await dialler.exchange(connection)
        assert (again.body, connection.reused, len(backend.conversations)) == (body, True, 1)


def bytewise(raw: bytes) -> Script:
    """Answer each byte in a segment of its own, each read before the next is sent."""

    def script(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            for place in range(len(raw)):
                conversation.send(raw[place : place + 1])

    return script


@pytest.mark.parametrize(
    "raw",
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n",
    ],
)
async def test_response_in_single_bytes_is_read(dialler: Dialler, raw: bytes) -> None:
    with RecordingBackend(bytewise(raw)) as backend:
        connection = await dialler.dial(endpoint(backend.port))
        for _ in range(2):
            receiver = await dialler.exchange(connection)
            assert (receiver.status, receiver.body, receiver.failure) == (200, b"ok", None)


async def test_body_without_a_length_ends_with_the_connection(dialler: Dialler) -> None:
    receiver = Receiver()
    connection = await answered(dialler, b"HTTP/1.1 200 OK\r\n\r\nall there is", receiver, close=True)

    assert (receiver.body, receiver.failure) == (b"all there is", None)
    assert not connection.is_usable()


async def test_interim_responses_come_before_the_final_one(dialler: Dialler) -> None:
    receiver = Receiver()
    await answered(
        dialler, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, receiver
    )

    assert receiver.events[:3] == [("interim", 100), ("interim", 103), ("head", 200)]


async def test_head_has_no_body_whatever_it_says(dialler: Dialler) -> None:
    receiver = Receiver(b"HEAD")
    connection = await answered(dialler, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", receiver)

    assert (receiver.names(), receiver.body) == (["head"], b"")
    assert connection.exchange is None


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        b"HTTP/1.1 204 No Content\r\n\r\npoison",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\npoison",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_connection_is_not_kept_after_extra_bytes_or_close(dialler: Dialler, raw: bytes) -> None:
    with RecordingBackend(answering(raw)) as backend:
        target = endpoint(backend.port)
        receiver = await dialler.exchange(await dialler.dial(target))

        assert b"poison" not in receiver.body
        assert receiver.failure is None
        assert dialler.connections.checkout(target, False) is None
        await dialler.until_closed()


async def test_bytes_that_nobody_asked_for_end_an_idle_connection(dialler: Dialler) -> None:
    asked = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.answer()
        asked.wait(PATIENCE_S)
        conversation.send(OK)
        conversation.wait_for_end()

    with RecordingBackend(script) as backend:
        target = endpoint(backend.port)
        await dialler.exchange(await dialler.dial(target))
        asked.set()
        await dialler.until_closed()

        assert dialler.connections.checkout(target, True) is None
        assert not target.idle


async def test_connection_is_not_kept_when_the_request_was_not_sent_whole(dialler: Dialler) -> None:
    with RecordingBackend(answering(OK)) as backend:
        target = endpoint(backend.port)
        receiver = Receiver(b"POST", complete=False)
        await dialler.exchange(await dialler.dial(target), receiver)

        assert receiver.body == b"ok"
        assert dialler.connections.checkout(target, False) is None


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", failures.EOF),
        (b"HTTP/1.1 200 OK\r\nContent-Len", failures.EOF),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", failures.EOF),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", failures.EOF),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", failures.EOF),
        (b"SSH-2.0-OpenSSH\r\n", failures.PROTOCOL),
        (b"HTTP/1.1 200 OK\nX: y\r\n\r\n", failures.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", failures.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", failures.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", failures.PROTOCOL),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", failures.PROTOCOL),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 40, failures.PROTOCOL),
    ],
)
async def test_broken_response_is_a_failure_and_the_connection_dead(
    dialler: Dialler, raw: bytes, kind: failures.FailureClass
) -> None:
    receiver = Receiver()
    connection = await answered(dialler, raw, receiver, close=True)

    assert receiver.failure is not None
    assert receiver.failure.kind is kind
    assert receiver.trailers is None
    assert not connection.is_usable()
    await dialler.until_closed()


async def test_reset_is_told_from_an_end(dialler: Dialler) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.reset()

    with RecordingBackend(script) as backend:
        receiver = await dialler.exchange(await dialler.dial(endpoint(backend.port)))

    assert receiver.failure is not None
    assert receiver.failure.kind is failures.RESET


async def test_too_large_and_too_many_headers_are_refused(dialler: Dialler) -> None:
    small = Dialler(max_head_bytes=200, max_headers=3)
    for raw, text in (
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300 + b"\r\n\r\n", "exceeded 200 bytes"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300, "exceeded 200 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 4 + b"\r\n", "Too many response headers"),
    ):
        receiver = Receiver()
        await answered(small, raw, receiver)
        assert receiver.failure is not None
        assert text in receiver.failure.text

    receiver = Receiver()
    await answered(small, b"HTTP/1.1 204 OK\r\n" + b"X: 1\r\n" * 3 + b"\r\n", receiver)
    assert receiver.status == 204
    await small.until_closed()


async def test_tunnel_carries_bytes_both_ways_and_each_end_on_its_own(dialler: Dialler) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\r\nfirst")
        conversation.read(4)
        conversation.send(b" second")
        conversation.end_sending()
        conversation.wait_for_end()

    with RecordingBackend(script) as backend:
        connection = await dialler.dial(endpoint(backend.port))
        receiver = Receiver(upgrade=b"websocket")
        connection.send_request(receiver, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await receiver.until(lambda: receiver.status == 101)
        connection.send(b"ping")
        await receiver.until(lambda: ("tunnel eof",) in receiver.events)
        connection.send(b"late")
        connection.send_eof()
        connection.close()
        await dialler.until_closed()
        backend.settle()

        assert receiver.tunnelled == b"first second"
        assert backend.conversations[0].received.endswith(b"pinglate")


async def test_switch_to_another_protocol_is_a_failure(dialler: Dialler) -> None:
    receiver = Receiver(upgrade=b"websocket")
    await answered(dialler, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", receiver)

    assert receiver.failure is not None
    assert receiver.failure.kind is failures.WRONG_SWITCH


async def test_discarded_connection_tells_its_exchange_nothing_more(dialler: Dialler) -> None:
    with RecordingBackend(silent) as backend:
        connection = await dialler.dial(endpoint(backend.port))
        receiver = Receiver()
        connection.send_request(receiver, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.discard()
        await dialler.until_closed()

        assert receiver.events == []
        assert connection.fileno() == -1


async def test_backend_that_does_not_read_stops_the_sender_until_it_does(dialler: Dialler) -> None:
    go_on = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.read_head()
        go_on.wait(PATIENCE_S)
        conversation.read(20_000_000)
        conversation.answer()
        conversation.wait_for_end()

    with RecordingBackend(script) as backend:
        connection = await dialler.dial(endpoint(backend.port))
        receiver = Receiver(b"POST")
        connection.send_request(receiver, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n")
        connection.send(b"x" * 20_000_000)
        assert receiver.names() == ["full"]
        go_on.set()
        await receiver.until_over()

        assert receiver.names() == ["full", "writable", "head"]
        assert receiver.failure is None


async def test_paused_connection_reads_on_only_when_resumed(dialler: Dialler) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n" + b"x" * 8_000_000
    with RecordingBackend(answering(raw)) as backend:
        connection = await dialler.dial(endpoint(backend.port))
        receiver = Receiver()
        connection.send_request(receiver, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await receiver.until(lambda: receiver.status == 200)
        connection.pause_reading()
        connection.pause_reading()
        paused_at = len(receiver.body)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(receiver.body) == paused_at
        connection.resume_reading()
        await receiver.until_over()

        assert receiver.body == b"x" * 8_000_000


async def test_connection_whose_request_was_not_taken_whole_is_not_used_again(dialler: Dialler) -> None:
    over = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.answer()
        over.wait(PATIENCE_S)

    with RecordingBackend(script) as backend:
        target = endpoint(backend.port)
        connection = await dialler.dial(target)
        receiver = await dialler.exchange(connection, request=GET + bytes(32 * 1024 * 1024))

        assert (receiver.status, receiver.names()[0]) == (200, "full")
        assert dialler.connections.checkout(target, True) is None
        await dialler.until_closed()
        over.set()


async def test_long_response_head_is_not_remembered_by_the_idle_connection(dialler: Dialler) -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: %b\r\n\r\n" % bytes(b"x" * 20_000)
    connection = await answered(dialler, long, Receiver())

    assert connection._last_head is None
