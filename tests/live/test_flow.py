"""Behaviours 7 and 10: bodies flow at the pace of the slower side in bounded memory, and aborts leave nothing."""

import contextlib
import random
import socket
import threading
from collections.abc import Callable

import pytest

from tests.live.conftest import Live
from tests.support.processes import open_sockets, resident_bytes
from tests.support.rawclient import BadResponse, RawClient
from tests.support.recorder import Conversation, MakeBackend, plain, silent
from tests.support.waiting import PATIENCE_S, wait_until

MEBIBYTE = 1 << 20
PIECE = bytes(64 * 1024)


def pour(mebibytes: int) -> Callable[[Conversation], None]:
    """Answer with that much, as fast as it is taken."""

    def script(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (mebibytes * MEBIBYTE))
            for _ in range(mebibytes * 16):
                conversation.send(PIECE)

    return script


class Sink:
    """A backend that takes an upload only when told to, and counts it."""

    def __init__(self) -> None:
        self.taken = 0
        self.may_read = threading.Event()

    def script(self, conversation: Conversation) -> None:
        head = conversation.read_head()
        length = int(head.header("Content-Length") or "0")
        self.taken = len(conversation.received) - len(head.raw_head)
        self.may_read.wait(PATIENCE_S)
        while self.taken < length:
            received = conversation.socket.recv(MEBIBYTE)
            if not received:
                return
            self.taken += len(received)
        conversation.answer()


def read_away(client: RawClient, count: int) -> None:
    while count:
        received = client.socket.recv(min(count, MEBIBYTE))
        assert received, "the response was cut"
        count -= len(received)


def read_head(client: RawClient) -> None:
    """Read up to the body of a response; bytes of the body that came along stay in the buffer."""
    while client.read_line() != b"\r\n":
        pass


def settled(value: Callable[[], int]) -> int:
    """Return a number once it has stopped growing: nothing moves any more."""
    seen: list[int] = []

    def still() -> bool:
        seen.append(value())
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    wait_until(still, "the flow has come to a halt", every_s=0.01)
    return seen[-1]


def _transfer_down(live: Live, make_backend: MakeBackend, mebibytes: int) -> int:
    """Download, and return how much the worker grew meanwhile."""
    host = live.route(make_backend(pour(mebibytes)))
    worker = live.router.worker
    before = most = resident_bytes(worker)
    with live.client() as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        read_head(client)
        left = mebibytes * MEBIBYTE - len(client.buffer)
        while left:
            step = min(left, 8 * MEBIBYTE)
            read_away(client, step)
            left -= step
            most = max(most, resident_bytes(worker))
    return most - before


def _transfer_up(live: Live, make_backend: MakeBackend, mebibytes: int) -> int:
    sink = Sink()
    sink.may_read.set()
    host = live.route(make_backend(sink.script))
    worker = live.router.worker
    before = most = resident_bytes(worker)
    with live.client() as client:
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {mebibytes * MEBIBYTE}\r\n\r\n".encode())
        for _ in range(mebibytes * 16):
            client.send(PIECE)
            most = max(most, resident_bytes(worker))
        assert client.read_response().status == 200
    assert sink.taken == mebibytes * MEBIBYTE
    return most - before


def test_large_download_passes_in_bounded_memory(live: Live, make_backend: MakeBackend) -> None:
    """128 MiB here; a whole GiB in the slow twin."""
    assert _transfer_down(live, make_backend, 128) < 20 * MEBIBYTE


def test_large_upload_passes_in_bounded_memory(live: Live, make_backend: MakeBackend) -> None:
    assert _transfer_up(live, make_backend, 128) < 20 * MEBIBYTE


@pytest.mark.slow
def test_a_gibibyte_passes_either_way_in_bounded_memory(live: Live, make_backend: MakeBackend) -> None:
    assert _transfer_down(live, make_backend, 1024) < 20 * MEBIBYTE
    assert _transfer_up(live, make_backend, 1024) < 20 * MEBIBYTE


def test_readers_that_do_not_read_cost_little_memory(live: Live, make_backend: MakeBackend) -> None:
    """50 clients ask for 64 MiB each and take nothing: at most 256 KiB for each, and others are served."""
    backend = make_backend(pour(64))
    host, other = live.route(backend), live.route(make_backend(plain))
    worker = live.router.worker
    sockets = open_sockets(worker)
    before = resident_bytes(worker)
    clients = [live.client(receive_buffer=4096) for _ in range(50)]
    for client in clients:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    wait_until(lambda: len(backend.requests) == 50, "all requests are with the backend")
    grown = settled(lambda: resident_bytes(worker)) - before
    with live.client() as bystander:
        for _ in range(20):
            assert bystander.get(host=other).body == b"ok"
    assert grown < 50 * 256 * 1024
    for client in clients:
        client.close()
    wait_until(lambda: open_sockets(worker) <= sockets + 1, "everything is freed when they leave")


def test_backends_that_do_not_read_cost_little_memory(live: Live, make_backend: MakeBackend) -> None:
    sink = Sink()
    host = live.route(make_backend(sink.script))
    worker = live.router.worker
    before = resident_bytes(worker)
    clients = [live.client() for _ in range(10)]
    sent = [0]

    def upload(client: RawClient) -> None:
        client.socket.settimeout(None)
        try:
            for _ in range(64 * 16):
                sent[0] += client.socket.send(PIECE)
        except OSError:
            pass

    for client in clients:
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {64 * MEBIBYTE}\r\n\r\n".encode())
    threads = [threading.Thread(target=upload, args=(client,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    settled(lambda: sent[0])
    grown = resident_bytes(worker) - before
    for client in clients:
        client.socket.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(PATIENCE_S)
    for client in clients:
        client.close()
    sink.may_read.set()
    assert sent[0] < 10 * 64 * MEBIBYTE, "the sender was never held back"
    assert grown < 10 * MEBIBYTE


def test_stopped_tunnel_costs_little_memory_either_way(live: Live, make_backend: MakeBackend) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    def flood(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(switch)
        for _ in range(64 * 16):
            conversation.send(PIECE)

    host = live.route(make_backend(flood))
    worker = live.router.worker
    before = resident_bytes(worker)
    clients = [live.client(receive_buffer=4096) for _ in range(10)]
    for client in clients:
        client.send(
            f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        read_head(client)
    grown = settled(lambda: resident_bytes(worker)) - before
    for client in clients:
        client.close()
    assert grown < 10 * MEBIBYTE


@pytest.mark.parametrize("known", [True, False], ids=["proxied", "router-made"])
def test_pipelined_requests_whose_answers_nobody_reads_cost_little_memory(
    known: bool, live: Live, make_backend: MakeBackend
) -> None:
    """Answers that cannot leave hold back the requests behind them."""
    host = live.route(make_backend(plain)) if known else "nobody.test"
    worker = live.router.worker
    with live.client() as client:
        client.get(host=host)
    before = resident_bytes(worker)
    burst = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * 1000
    sent = [0]

    def flood(client: RawClient) -> None:
        try:
            while sent[0] < 64 * MEBIBYTE:
                sent[0] += client.socket.send(burst)
        except OSError:
            pass

    with live.client(receive_buffer=4096) as client:
        client.socket.settimeout(None)
        sending = threading.Thread(target=flood, args=(client,), daemon=True)
        sending.start()
        settled(lambda: sent[0])
        grown = resident_bytes(worker) - before
        client.socket.shutdown(socket.SHUT_RDWR)
        sending.join(PATIENCE_S)
    assert sent[0] < 64 * MEBIBYTE, "the sender was never held back"
    assert grown < 10 * MEBIBYTE


def test_slow_reader_gets_every_byte(live: Live, make_backend: MakeBackend) -> None:
    body = random.Random(5).randbytes(4 * MEBIBYTE)

    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.answer(body)

    host = live.route(make_backend(script))
    with live.client(receive_buffer=4096) as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        read_head(client)
        received = bytearray(client.buffer)
        while len(received) < len(body):
            received += client.socket.recv(10_000)
    assert received == body


def test_slow_backend_gets_every_byte(live: Live, make_backend: MakeBackend) -> None:
    sink = Sink()
    host = live.route(make_backend(sink.script))
    with live.client() as client:
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {32 * MEBIBYTE}\r\n\r\n".encode())
        sending = threading.Thread(target=client.send, args=(PIECE * (32 * 16),))
        sending.start()
        sink.may_read.set()
        assert client.read_response().status == 200
        sending.join()
    assert sink.taken == 32 * MEBIBYTE


# Aborts.


def _abort(live: Live, host: str, randomness: random.Random) -> None:
    """Be a client that leaves at some point of an exchange, politely or not."""
    request = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5000\r\n\r\n".encode() + bytes(5000)
    client = live.client(receive_buffer=4096)
    client.send(request[: randomness.randrange(len(request) + 1)])
    if randomness.random() < 0.5:
        client.socket.settimeout(0.001)
        try:
            client.socket.recv(randomness.randrange(1, 5000))
        except (TimeoutError, OSError):
            pass
    if randomness.random() < 0.5:
        client.reset()
    else:
        client.close()


def _aborts(live: Live, make_backend: MakeBackend, count: int) -> None:
    def script(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            conversation.answer(bytes(200_000))

    backend = make_backend(script)
    host = live.route(backend)
    worker = live.router.worker
    with live.client() as client:
        assert client.get(host=host).status == 200
    base = open_sockets(worker)
    randomness = random.Random(17)
    for _ in range(count):
        _abort(live, host, randomness)
    with live.client() as client:
        assert client.get(host=host).status == 200, "the only endpoint is still there"
    wait_until(lambda: open_sockets(worker) <= base + 20, "sockets are back to base, but for idle connections")
    marked = [line for line in live.router.log if line.get("message") == "endpoint-marked-as-ineligible"]
    assert not [line for line in marked if line["data"]["backend"] == backend.address]


def test_clients_that_leave_at_random_points_harm_no_endpoint(live: Live, make_backend: MakeBackend) -> None:
    _aborts(live, make_backend, 500)


@pytest.mark.slow
def test_thousands_of_clients_that_leave_harm_no_endpoint(live: Live, make_backend: MakeBackend) -> None:
    _aborts(live, make_backend, 3000)


def test_backends_connection_ends_with_its_client(live: Live, make_backend: MakeBackend) -> None:
    backend = make_backend(silent)
    host = live.route(backend)
    for leave in (RawClient.close, RawClient.reset):
        client = live.client()
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        wait_until(lambda: backend.open_conversations() == 1, "the request is with the backend")
        leave(client)
        wait_until(lambda: backend.open_conversations() == 0, "the backend is told")


def test_reset_of_a_client_that_nobody_reads_from_is_noticed(live: Live, make_backend: MakeBackend) -> None:
    """The endpoint takes nothing, so neither does the router; a tunnel would stand so for ever."""
    never = threading.Event()

    def unread(conversation: Conversation) -> None:
        if conversation.read_head().header("Upgrade"):
            conversation.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
        never.wait(PATIENCE_S)

    backend = make_backend(unread)
    host = live.route(backend)
    upload = f"POST /unread-upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: {64 * MEBIBYTE}\r\n\r\n"
    tunnel = (
        f"GET /unread-tunnel HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    for count, start in enumerate((upload, tunnel), 1):
        client = live.client()
        client.send(start.encode())
        wait_until(lambda: len(backend.requests) == count, "the request is with the backend")  # noqa: B023
        send_until_nothing_is_taken(client)
        client.reset()
    try:
        assert '" 499 ' in live.router.wait_access_line("POST /unread-upload")
        assert '" 101 ' in live.router.wait_access_line("GET /unread-tunnel")
    finally:
        never.set()


def send_until_nothing_is_taken(client: RawClient) -> None:
    """Send for as long as anybody takes it, the buffers of the kernel included."""
    sent = [0]
    client.socket.setblocking(False)

    def more() -> int:
        with contextlib.suppress(BlockingIOError):
            sent[0] += client.socket.send(PIECE)
        return sent[0]

    settled(more)


def test_half_a_request_is_never_followed_by_another(live: Live, make_backend: MakeBackend) -> None:
    """A client that leaves in mid-body takes its backend connection with it."""
    backend = make_backend(plain)
    host = live.route(backend)
    for number in range(30):
        with live.client() as leaver:
            leaver.send(f"POST /half HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n".encode())
            leaver.send(b"x" * number)
        with live.client() as client:
            assert client.get(f"/{number}", host=host).status == 200
    backend.settle()
    for conversation in backend.conversations:
        targets = [request.target for request in conversation.requests]
        assert "/half" not in targets[:-1], "something followed half a request"


def test_client_that_leaves_while_the_backend_answers_gets_no_other_harmed(
    live: Live, make_backend: MakeBackend
) -> None:
    def script(conversation: Conversation) -> None:
        while True:
            conversation.answer(conversation.read_request().target.encode() * 5000)

    host = live.route(make_backend(script))
    with live.client() as bystander:
        for number in range(50):
            leaver = live.client(receive_buffer=4096)
            leaver.send(f"GET /leaver HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            try:
                leaver.read_line()
            except BadResponse:
                pass
            leaver.reset()
            assert bystander.get(f"/{number}", host=host).body == f"/{number}".encode() * 5000
