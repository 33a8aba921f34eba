"""Behaviours 6 and 24: many slow clients and stalled handshakes; whoever behaves notices nothing of them."""

import socket
import threading

import pytest

from router.certs import Authority, issue, make_ca
from tests.live.conftest import Live, StartLive
from tests.support.certificates import client_context
from tests.support.load import Load
from tests.support.ports import free_port
from tests.support.processes import open_sockets
from tests.support.rawclient import RawClient
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend
from tests.support.waiting import PATIENCE_S, wait_until

MANY = 200


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


@pytest.fixture(scope="module")
def strict(start_live: StartLive, authority: Authority) -> Live:
    pair = issue(authority, ["front.test"])
    return start_live(
        {
            # Long enough for whoever behaves, on a machine that stands still for a moment.
            "read_header_timeout": "5s",
            "endpoint_timeout": "5s",
            "enable_ssl": True,
            "ssl_port": free_port(),
            "client_cert_validation": "none",
            "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256",
            "tls_pem": [{"cert_chain": pair.certificate, "private_key": pair.private_key}],
        }
    )


class Crowd:
    """Many connections on which the same few bytes are sent again and again, to keep them alive."""

    def __init__(self, port: int, first: bytes, again: bytes) -> None:
        self.sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(MANY)]
        for each in self.sockets:
            each.settimeout(0)
            each.send(first)
        self._again = again
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._trickle, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(PATIENCE_S)
        for each in self.sockets:
            each.close()

    def open(self) -> int:
        """How many the router has not closed."""
        return sum(_is_open(each) for each in self.sockets)

    def _trickle(self) -> None:
        while self._again and not self._done.wait(0.2):
            for each in self.sockets:
                try:
                    each.send(self._again)
                except OSError:
                    continue


def _is_open(connection: socket.socket) -> bool:
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


ATTACKS: dict[str, tuple[bytes, bytes]] = {
    "slow heads": (b"GET / HTTP/1.1\r\nHost: slow.test\r\n", b"X: y\r\n"),
    "slow request lines": (b"GET /", b"x"),
    "heads that stop": (b"GET / HTTP/1.1\r\nHost: slow", b""),
    "slow bodies": (b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\n", b"x"),
    "slow chunks": (b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "bodies that stop": (b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\nx", b""),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_slow_clients_harm_nobody_and_are_let_go(name: str, strict: Live, make_backend: MakeBackend) -> None:
    slow, good = make_backend(), make_backend()
    hosts = strict.route(slow), strict.route(good)
    base = open_sockets(strict.router.worker)
    first, again = ATTACKS[name]
    with Crowd(strict.router.port, first.replace(b"{host}", hosts[0].encode()), again) as crowd:
        with Load(strict.router.port, hosts[1]) as load:
            wait_until(lambda: crowd.open() == 0, "all of them are closed")
        assert set(load.account.statuses) == {200}
        assert (load.account.refused, load.account.lost_first) == (0, 0)
    wait_until(lambda: slow.open_conversations() == 0, "no half request stays at the backend")
    assert all(len(each.requests) <= 1 for each in slow.conversations), "no half request was followed by another"
    wait_until(lambda: open_sockets(strict.router.worker) <= base + 20, "their sockets are closed")


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "a byte", "a hello cut"]
)
def test_stalled_handshakes_harm_nobody(
    first: bytes, strict: Live, authority: Authority, backend: RecordingBackend
) -> None:
    host = strict.route(backend)
    trusting = client_context(authority)
    with Crowd(strict.router.ssl_port, first, b"") as crowd:
        for _ in range(20):
            with RawClient(strict.router.ssl_port, tls=trusting, server_name="front.test") as client:
                assert client.get(host=host).status == 200
        assert crowd.open() == MANY
        wait_until(lambda: crowd.open() == 0, "they are let go after ten seconds")


def test_client_that_stops_in_its_body_costs_the_backend_no_half_request(
    strict: Live, make_backend: MakeBackend
) -> None:
    """The request ends at the backend as it did at the client: cut, and its connection never used again."""
    backend = make_backend()
    host = strict.route(backend)
    with strict.client() as stopping:
        stopping.send(f"POST /half HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10\r\n\r\nhello".encode())
        assert stopping.read_response().status == 502
        assert stopping.is_closed_by_peer()
    with strict.client() as client:
        assert client.get("/whole", host=host).status == 200
    assert [request.target for each in backend.conversations for request in each.requests] == ["/half", "/whole"]
    assert len(backend.conversations) == 2


def test_slow_but_living_upload_survives(start_live: StartLive, make_backend: MakeBackend) -> None:
    """The limit for heads is none for bodies."""
    live = start_live({"read_header_timeout": "3s"})
    lengths: list[int] = []

    def take(conversation: Conversation) -> None:
        lengths.append(len(conversation.read_request().body))
        conversation.answer()

    host = live.route(make_backend(take))
    pause = threading.Event()
    with live.client() as client:
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 20\r\n\r\n".encode())
        for _ in range(20):
            client.send(b"x")
            pause.wait(0.2)
        assert client.read_response().status == 200
    assert lengths == [20]
