"""Behaviour 7 once more, where TLS lies between: its buffers are bounded too."""

import ssl
import threading
from pathlib import Path

import pytest

from router.certs import Authority, issue, make_ca
from tests.live.conftest import Live, StartLive
from tests.live.test_flow import MEBIBYTE, PIECE, Sink, pour, read_away, read_head, settled
from tests.support.certificates import client_context, server_context
from tests.support.ports import free_port
from tests.support.processes import open_sockets, resident_bytes
from tests.support.rawclient import RawClient
from tests.support.recorder import MakeBackend
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


@pytest.fixture(scope="module")
def https(start_live: StartLive, authority: Authority) -> Live:
    pair = issue(authority, ["app.test"])
    return start_live(
        {
            "enable_ssl": True,
            "ssl_port": free_port(),
            "client_cert_validation": "none",
            "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256",
            "max_tls_version": "TLSv1.3",
            "tls_pem": [{"cert_chain": pair.certificate, "private_key": pair.private_key}],
            "ca_certs": [authority.pair.certificate],
        }
    )


@pytest.fixture(scope="module")
def instance(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """What an instance serves TLS with."""
    directory: Path = tmp_path_factory.mktemp("instance")
    return server_context(issue(authority, ["instance"]), directory)


def connect(https: Live, authority: Authority, *, receive_buffer: int | None = None) -> RawClient:
    return RawClient(
        https.router.ssl_port, tls=client_context(authority), server_name="app.test", receive_buffer=receive_buffer
    )


def test_readers_that_do_not_read_cost_little_memory(
    https: Live, authority: Authority, make_backend: MakeBackend
) -> None:
    backend = make_backend(pour(64))
    host = https.route(backend)
    worker = https.router.worker
    sockets, before = open_sockets(worker), resident_bytes(worker)
    clients = [connect(https, authority, receive_buffer=4096) for _ in range(20)]
    for client in clients:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    wait_until(lambda: len(backend.requests) == 20, "all requests are with the backend")
    grown = settled(lambda: resident_bytes(worker)) - before
    for client in clients:
        client.close()
    # Plain and encrypted copies of what is on its way, and the state of the TLS session.
    assert grown < 20 * MEBIBYTE
    wait_until(lambda: open_sockets(worker) <= sockets + 1, "everything is freed when they leave")


def test_tls_backend_that_does_not_read_costs_little_memory(
    https: Live, authority: Authority, instance: ssl.SSLContext, make_backend: MakeBackend
) -> None:
    sink = Sink()
    host = https.route(make_backend(sink.script, tls=instance), server_cert_domain_san="instance")
    worker = https.router.worker
    before = resident_bytes(worker)
    sent = [0]

    def upload(client: RawClient) -> None:
        try:
            for _ in range(64 * 16):
                sent[0] += client.socket.send(PIECE)
        except OSError:
            pass

    with https.client() as client:
        client.socket.settimeout(None)
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {64 * MEBIBYTE}\r\n\r\n".encode())
        sending = threading.Thread(target=upload, args=(client,), daemon=True)
        sending.start()
        settled(lambda: sent[0])
        grown = resident_bytes(worker) - before
        assert sent[0] < 64 * MEBIBYTE, "the sender was never held back"
        sink.may_read.set()
        client.socket.settimeout(PATIENCE_S)
        assert client.read_response().status == 200
        sending.join(PATIENCE_S)
    assert grown < 4 * MEBIBYTE
    assert sink.taken == 64 * MEBIBYTE


def test_large_bodies_pass_both_ways_in_bounded_memory(
    https: Live, authority: Authority, instance: ssl.SSLContext, make_backend: MakeBackend
) -> None:
    down = https.route(make_backend(pour(64), tls=instance), server_cert_domain_san="instance")
    sink = Sink()
    sink.may_read.set()
    up = https.route(make_backend(sink.script, tls=instance), server_cert_domain_san="instance")
    worker = https.router.worker
    before = most = resident_bytes(worker)
    with connect(https, authority) as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {down}\r\n\r\n".encode())
        read_head(client)
        read_away(client, 64 * MEBIBYTE - len(client.buffer))
        client.buffer.clear()
        most = max(most, resident_bytes(worker))
        client.send(f"POST / HTTP/1.1\r\nHost: {up}\r\nContent-Length: {64 * MEBIBYTE}\r\n\r\n".encode())
        for _ in range(64 * 16):
            client.send(PIECE)
        assert client.read_response().status == 200
    most = max(most, resident_bytes(worker))
    assert sink.taken == 64 * MEBIBYTE
    assert most - before < 20 * MEBIBYTE
