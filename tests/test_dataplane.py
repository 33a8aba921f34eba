import gc
import socket
import ssl
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from router import acceptor
from router.certs import Authority, issue, make_ca
from router.config.schema import Config
from router.dataplane import DataPlane
from router.log import Logger
from router.sync import Listener
from router.tls import TlsError
from tests.support.certificates import client_context
from tests.support.plane import RunningPlane, config
from tests.support.ports import free_port
from tests.support.rawclient import RawClient
from tests.support.recorder import Conversation, RecordingBackend, silent
from tests.support.waiting import wait_until

HOST = "app.test"
GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


@pytest.fixture
def secure(authority: Authority) -> Iterator[RunningPlane]:
    pair = issue(authority, [HOST])
    pem = [{"cert_chain": pair.certificate, "private_key": pair.private_key}]
    with RunningPlane(config(enable_ssl=True, tls_pem=pem, max_tls_version="TLSv1.3")) as plane:
        yield plane


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_over_tls_are_served_and_told_so(
    secure: RunningPlane, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = client_context(authority)
    context.minimum_version = context.maximum_version = version
    with RecordingBackend() as backend, RawClient(secure.port, tls=context, server_name=HOST) as client:
        secure.route(HOST, backend)
        client.send(GET + GET)

        assert [client.read_response().body for _ in range(2)] == [b"ok", b"ok"]
        assert backend.requests[0].header("X-Forwarded-Proto") == "https"


def test_large_bodies_pass_over_tls_both_ways(secure: RunningPlane, authority: Authority) -> None:
    body = bytes(range(256)) * 20_000

    def echo(conversation: Conversation) -> None:
        request = conversation.read_request()
        conversation.answer(request.body)
        conversation.wait_for_end()

    with (
        RecordingBackend(echo) as backend,
        RawClient(secure.port, tls=client_context(authority), server_name=HOST) as client,
    ):
        secure.route(HOST, backend)
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        assert client.read_response().body == body


def test_handshake_that_fails_is_no_connection(secure: RunningPlane) -> None:
    stranger = client_context(make_ca("another CA"))
    with pytest.raises(ssl.SSLCertVerificationError):
        RawClient(secure.port, tls=stranger, server_name=HOST)

    wait_until(lambda: "tls-handshake-failed" in secure.messages(), "failure is logged")
    wait_until(lambda: not secure.plane.acceptor.handshakes, "handshake is forgotten")
    assert not secure.clients


def test_plain_http_on_the_tls_port_is_told_so(secure: RunningPlane) -> None:
    with secure.client() as client:
        client.send(GET)

        assert client.read_until_end().endswith(b"Client sent an HTTP request to an HTTPS server.\n")


def test_refused_client_may_go_on_sending_and_still_reads_why(secure: RunningPlane) -> None:
    with secure.client() as client:
        client.send(GET)
        wait_until(lambda: "tls-handshake-failed" in secure.messages(), "failure is logged")
        for _ in range(10):
            client.send(b"x" * 10_000)

        assert client.read_until_end().endswith(b"Client sent an HTTP request to an HTTPS server.\n")


def test_refused_client_that_stays_is_cut_off(secure: RunningPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "LINGER_S", 0.05)
    with secure.client() as client:
        client.send(GET)
        wait_until(lambda: "tls-handshake-failed" in secure.messages(), "failure is logged")
        wait_until(lambda: not secure.plane.acceptor.handshakes, "handshake is forgotten")


def test_handshake_that_never_comes_is_given_up(secure: RunningPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_HANDSHAKE_S", 0.05)
    with secure.client() as client:
        client.send(b"\x16\x03\x01")

        assert client.is_closed_by_peer()
    wait_until(lambda: not secure.plane.acceptor.handshakes, "handshake is forgotten")


def test_drain_waits_for_handshakes_and_close_cuts_them(secure: RunningPlane) -> None:
    with secure.client() as client:
        wait_until(lambda: secure.plane.acceptor.handshakes, "client is accepted")
        secure.call(secure.plane.drain)
        assert not secure.plane.is_drained()
        secure.call(secure.plane.close)

        assert client.is_closed_by_peer()


def test_handshake_that_ends_during_a_drain_is_good_for_one_request(
    secure: RunningPlane, authority: Authority
) -> None:
    with secure.client() as client:
        wait_until(lambda: secure.plane.acceptor.handshakes, "client is accepted")
        secure.call(secure.plane.drain)
        client.socket = client_context(authority).wrap_socket(client.socket, server_hostname=HOST)

        assert client.get(host=HOST).header("connection") == "close"
        assert client.is_closed_by_peer()
    wait_until(secure.plane.is_drained, "drain is over")


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_nothing_of_an_ended_tls_connection_waits_for_the_cycle_collector(
    secure: RunningPlane, authority: Authority
) -> None:
    with RawClient(secure.port, tls=client_context(authority), server_name=HOST) as client:
        client.get(host="unknown.test")
        connection = weakref.ref(secure.only_client())

    wait_until(lambda: connection() is None, "client connection is gone from memory")


@pytest.mark.usefixtures("no_collector")
def test_nothing_of_a_failed_dial_waits_for_the_cycle_collector() -> None:
    with RunningPlane(config()) as plane:
        plane.route(HOST, free_port())
        with plane.client() as client:
            assert client.get(host=HOST).status == 502
            connection = weakref.ref(plane.only_client())

        wait_until(lambda: connection() is None, "client connection is gone from memory")


def test_gauges_tell_what_is_now(authority: Authority) -> None:
    with RunningPlane(config()) as plane, RecordingBackend(silent) as backend, plane.client() as client:
        plane.route(HOST, backend)
        client.send(GET)
        wait_until(lambda: backend.requests, "request at the backend")

        assert plane.plane.gauges() == {
            "client_connections": 1,
            "backend_connections": 1,
            "active_exchanges": 1,
            "routes": 1,
        }
        assert plane.plane.unfinished() == 1


def test_date_is_renewed_by_the_sweep() -> None:
    with RunningPlane(config()) as plane:
        plane.plane.proxy.date_line = b"Date: stale"
        plane.call(plane.plane.sweep)

        assert plane.plane.proxy.date_line.endswith(b" GMT")


def test_lines_lost_by_the_access_log_are_counted_and_told() -> None:
    with RunningPlane(config(access_log={"file": "/dev/full"})) as plane, plane.client() as client:
        assert client.get(host="unknown.test").status == 404
        wait_until(lambda: plane.plane.counts()["access_log_dropped"] == 1, "loss is counted")
        wait_until(lambda: "access-log-error" in plane.messages(), "loss is told")


def test_access_log_is_written_out_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with RunningPlane(config(access_log={"file": str(file)})) as plane, plane.client() as client:
        client.get(host="unknown.test")

    assert "unknown.test - [" in file.read_text()


def test_clients_that_wait_are_left_for_whoever_listens_next() -> None:
    """Stopping closes this process's descriptor; the socket lives on in the process that opened it."""
    with RunningPlane(config()) as first:
        listener = socket.create_server(("127.0.0.1", 0))
        copy = socket.fromfd(listener.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        kept = Listener(copy.detach(), "http", "")
        first.call(lambda: first.plane.listen([kept]))
        first.call(first.plane.acceptor.stop)
        port = listener.getsockname()[1]
        with RawClient(port) as client, RunningPlane(config()) as second:
            client.send(GET)
            again = Listener(listener.detach(), "http", "")
            second.call(lambda: second.plane.listen([again]))

            assert client.read_response().status == 404


def test_what_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    for wrong, error in (
        ({"enable_ssl": True}, TlsError),
        ({"ca_certs": ["no PEM"]}, TlsError),
        ({"access_log": {"file": str(tmp_path)}}, OSError),
    ):
        settings: Config = config(**wrong)
        with pytest.raises(error):
            DataPlane(settings, Logger(), lambda key, number: None)
