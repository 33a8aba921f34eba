"""PROXY protocol in front of a whole router: behind a layer-4 balancer, apps and logs know the client.

Headers here are sent before the worker accepts, since the real limit of 100 ms applies; splits are in
`tests.frontend`.
"""

import os
import signal
import ssl
from typing import Any

import pytest

from router.certs import Authority, issue, make_ca
from tests.live.conftest import Live, StartLive
from tests.support.certificates import client_context
from tests.support.ports import free_port
from tests.support.processes import freeze
from tests.support.rawclient import RawClient
from tests.support.recorder import RecordingBackend
from tests.support.waiting import wait_until

V1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 51000 443\r\n"
V1_IPV6 = b"PROXY TCP6 2001:db8::7 ::1 51000 443\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V2 = SIGNATURE + b"\x21\x11\x00\x0f" + bytes([203, 0, 113, 7, 10, 0, 0, 1, 0xC7, 0x38, 1, 0xBB]) + b"\x04\x00\x00"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> ssl.SSLContext:
    return client_context(authority)


def https(authority: Authority) -> dict[str, Any]:
    pair = issue(authority, ["app.test"])
    return {
        "enable_ssl": True,
        "ssl_port": free_port(),
        "client_cert_validation": "none",
        "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256",
        "tls_pem": [{"cert_chain": pair.certificate, "private_key": pair.private_key}],
    }


@pytest.fixture(scope="module")
def behind(start_live: StartLive, authority: Authority) -> Live:
    return start_live({"enable_proxy": True, **https(authority)})


def send_first(live: Live, octets: bytes, **options: Any) -> RawClient:
    """Connect and send before the worker gets to know of the connection, however slow this process may be."""
    freeze(live.router.worker)
    try:
        client = RawClient(options.pop("port", live.router.port), **options)
        client.send(octets)
    finally:
        os.kill(live.router.worker, signal.SIGCONT)
    return client


def request(host: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("header", "ip", "peer"),
    [
        (V1, "203.0.113.7", "203.0.113.7:51000"),
        (V1_IPV6, "2001:db8::7", "[2001:db8::7]:51000"),
        (V2, "203.0.113.7", "203.0.113.7:51000"),
    ],
)
def test_announced_client_is_the_client_of_app_and_log(
    header: bytes, ip: str, peer: str, behind: Live, backend: RecordingBackend
) -> None:
    host = behind.route(backend)
    with send_first(behind, header + request(host)) as client:
        assert client.read_response().status == 200
        client.send(request(host))
        assert client.read_response().status == 200

    assert [seen.header("X-Forwarded-For") for seen in backend.requests] == [ip, ip]
    line = behind.router.wait_access_line(host, count=2)
    assert f'"{peer}"' in line
    assert f'x_forwarded_for:"{ip}"' in line


@pytest.mark.parametrize("header", [b"", LOCAL])
def test_without_an_announced_client_the_peer_is_the_client(
    header: bytes, behind: Live, backend: RecordingBackend
) -> None:
    host = behind.route(backend)
    with send_first(behind, header + request(host)) as client:
        assert client.read_response().status == 200

    assert [seen.header("X-Forwarded-For") for seen in backend.requests] == ["127.0.0.1"]


@pytest.mark.parametrize("header", [V1, V2])
def test_tls_may_follow(header: bytes, behind: Live, backend: RecordingBackend, trusting: ssl.SSLContext) -> None:
    host = behind.route(backend)
    with send_first(behind, header, port=behind.router.ssl_port) as client:
        client.socket = trusting.wrap_socket(client.socket, server_hostname="app.test")
        assert client.get(host=host).status == 200

    (seen,) = backend.requests
    assert (seen.header("X-Forwarded-For"), seen.header("X-Forwarded-Proto")) == ("203.0.113.7", "https")


def test_client_of_the_tls_port_needs_no_header(
    behind: Live, backend: RecordingBackend, trusting: ssl.SSLContext
) -> None:
    host = behind.route(backend)
    with RawClient(behind.router.ssl_port, tls=trusting, server_name="app.test") as client:
        assert client.get(host=host).status == 200

    assert [seen.header("X-Forwarded-For") for seen in backend.requests] == ["127.0.0.1"]


@pytest.mark.parametrize(
    "bad",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 51000\r\n",
        b"PROXY TCP4 203.0.113.700 10.0.0.1 51000 443\r\n",
        b"PROXY " + b"A" * 200,
        SIGNATURE + b"\x21\x11\xff\xff",
        SIGNATURE + b"\x41\x11\x00\x0c" + bytes(12),
        V1[:20],
        V2[:20],
    ],
)
def test_broken_header_costs_only_its_own_connection(bad: bytes, behind: Live, backend: RecordingBackend) -> None:
    host = behind.route(backend)
    with send_first(behind, V1 + request(host)) as good, send_first(behind, bad) as broken:
        assert good.read_response().status == 200
        assert broken.is_closed_by_peer()
        good.send(request(host))
        assert good.read_response().status == 200

    assert len(backend.requests) == 2


def test_only_listed_peers_may_announce(start_live: StartLive, backend: RecordingBackend) -> None:
    live = start_live({"enable_proxy": True, "enable_proxy_from": ["127.0.0.0/30"]})
    host = live.route(backend)
    with send_first(live, V1 + request(host), source="127.0.0.3") as listed:
        assert listed.read_response().status == 200
    with live.client(source="127.0.0.4") as other:
        other.send(request(host))
        assert other.read_response().status == 200
    with send_first(live, V1 + request(host), source="127.0.0.4") as other:
        assert other.is_closed_by_peer()

    assert [seen.header("X-Forwarded-For") for seen in backend.requests] == ["203.0.113.7", "127.0.0.4"]
    wait_until(
        lambda: any(line["message"] == "proxy-protocol-refused" for line in live.router.log), "the log says why"
    )
