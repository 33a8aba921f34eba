"""The wait for a PROXY protocol header on both event loops, with a look inside; `tests.live` has it as a whole."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from router.certs import Authority, issue, make_ca
from router.frontend import proxy_protocol
from tests.support.certificates import client_context
from tests.support.plane import RunningPlane, config
from tests.support.rawclient import RawClient
from tests.support.recorder import RecordingBackend
from tests.support.waiting import wait_until

HOST = "app.test"
V1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 51000 443\r\n"
V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x21"
    + struct.pack("!H", 36)
    + socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + bytes(16)
    + struct.pack("!HH", 51000, 443)
)
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
REQUEST = b"GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"

StartPlane = Callable[..., RunningPlane]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def start_plane(request: pytest.FixtureRequest) -> Iterator[StartPlane]:
    started: list[RunningPlane] = []

    def start(**keys: Any) -> RunningPlane:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(asyncio, "new_event_loop", request.param)
            plane = RunningPlane(config(enable_proxy=True, **keys))
        started.append(plane.__enter__())
        return plane

    yield start
    for plane in started:
        plane.__exit__(None, None, None)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine may be, no header comes too late."""
    monkeypatch.setattr(proxy_protocol, "HEADER_S", 60.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No header comes at all before the first look at the deadline."""
    monkeypatch.setattr(proxy_protocol, "HEADER_S", 0.0)


@pytest.fixture
def backend() -> Iterator[RecordingBackend]:
    with RecordingBackend() as running:
        yield running


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


def secure(authority: Authority) -> dict[str, Any]:
    pair = issue(authority, [HOST])
    return {"enable_ssl": True, "tls_pem": [{"cert_chain": pair.certificate, "private_key": pair.private_key}]}


def forwarded_for(backend: RecordingBackend) -> list[str | None]:
    return [request.header("X-Forwarded-For") for request in backend.requests]


def has_read(plane: RunningPlane, part: bytes) -> None:
    """Wait until a connection that waits for its header has got this part of it."""
    wait_until(
        lambda: any(each._reader._buffer == part for each in list(plane.plane.acceptor.headers)),
        "first part is read",
    )


def time_is_up(plane: RunningPlane) -> None:
    for each in list(plane.plane.acceptor.headers):
        each.deadline = 0.0


def get_by_tls(client: RawClient, authority: Authority, before: bytes, cut: int = 0) -> bytes:
    """Send a request over TLS, with bytes before the client's hello and in one segment with it, except for the
    first ``cut`` bytes of both; return the status line."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(authority).wrap_bio(incoming, outgoing, server_hostname=HOST)

    def until_done(step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                client.send(outgoing.read())
                incoming.write(client.socket.recv(65536))

    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    start = before + outgoing.read()
    if cut:
        client.send(start[:cut])
    client.send(start[cut:])
    until_done(tls.do_handshake)
    tls.write(REQUEST)
    return bytes(until_done(tls.read).partition(b"\r\n")[0])


@pytest.mark.parametrize(("header", "ip"), [(V1, "203.0.113.7"), (V2, "2001:db8::7"), (LOCAL, "127.0.0.1")])
@pytest.mark.usefixtures("patient")
def test_header_may_be_split_anywhere(
    header: bytes, ip: str, start_plane: StartPlane, backend: RecordingBackend
) -> None:
    plane = start_plane()
    plane.route(HOST, backend)
    for at in range(len(header)):
        with plane.client() as client:
            client.send(header[:at])
            has_read(plane, header[:at])
            client.send(header[at:] + REQUEST)
            assert client.read_response().status == 200

    assert forwarded_for(backend) == [f"9.9.9.9, {ip}"] * len(header)


@pytest.mark.usefixtures("patient")
def test_header_may_come_byte_by_byte(start_plane: StartPlane, backend: RecordingBackend) -> None:
    plane = start_plane()
    plane.route(HOST, backend)
    with plane.client() as client:
        client.send_bytewise(V1 + REQUEST)
        assert client.read_response().status == 200

    assert forwarded_for(backend) == ["9.9.9.9, 203.0.113.7"]


@pytest.mark.parametrize(
    ("header", "ip"), [(V1, "203.0.113.7"), (V2, "2001:db8::7"), (LOCAL, "127.0.0.1"), (b"", "127.0.0.1")]
)
@pytest.mark.usefixtures("patient")
def test_tls_may_follow_in_the_same_packet(
    header: bytes, ip: str, start_plane: StartPlane, backend: RecordingBackend, authority: Authority
) -> None:
    plane = start_plane(**secure(authority))
    plane.route(HOST, backend)
    for cut in (0, 1, len(header), len(header) + 1):
        with plane.client() as client:
            assert get_by_tls(client, authority, header, cut) == b"HTTP/1.1 200 OK"

    assert forwarded_for(backend) == [f"9.9.9.9, {ip}"] * 4


@pytest.mark.usefixtures("patient")
def test_announced_client_holds_for_every_request_of_the_connection(
    start_plane: StartPlane, backend: RecordingBackend
) -> None:
    plane = start_plane()
    plane.route(HOST, backend)
    with plane.client() as client:
        client.send(V1 + REQUEST * 3)
        assert [client.read_response().status for _ in range(3)] == [200] * 3
        assert (plane.only_client().peer, plane.only_client().peer_ip) == (b"203.0.113.7:51000", b"203.0.113.7")

    assert forwarded_for(backend) == ["9.9.9.9, 203.0.113.7"] * 3


@pytest.mark.usefixtures("patient")
def test_request_for_the_announced_address_itself_has_no_host(start_plane: StartPlane) -> None:
    with start_plane().client() as client:
        client.send(V1)
        assert client.get(host="203.0.113.7").status == 400


@pytest.mark.usefixtures("patient")
def test_second_header_is_no_header(start_plane: StartPlane) -> None:
    with start_plane().client() as client:
        client.send(V1 + V1)
        assert client.read_response().status == 400


@pytest.mark.parametrize("bad", [b"PROXY UNKNOWN\r\n", b"PROXY TCP4 1 2 3 4\r\n", V2[:12] + b"\x31\x00\x00\x00"])
@pytest.mark.usefixtures("patient")
def test_malformed_header_closes_the_connection_and_the_log_says_why(bad: bytes, start_plane: StartPlane) -> None:
    plane = start_plane()
    with plane.client() as client:
        client.send(bad + REQUEST)
        assert client.is_closed_by_peer()

    assert plane.plane.counters.requests == 0
    (line,) = [line for line in plane.log if line["message"] == "proxy-protocol-refused"]
    assert line["data"]["peer"] == "127.0.0.1"
    assert line["data"]["error"]


@pytest.mark.usefixtures("impatient")
def test_who_is_silent_is_a_direct_client(start_plane: StartPlane, backend: RecordingBackend) -> None:
    plane = start_plane()
    plane.route(HOST, backend)
    with plane.client() as client:
        plane.only_client()
        client.send(REQUEST)
        assert client.read_response().status == 200

    assert forwarded_for(backend) == ["9.9.9.9, 127.0.0.1"]


@pytest.mark.usefixtures("patient")
def test_what_might_have_become_a_header_is_the_direct_client_s_when_time_is_up(start_plane: StartPlane) -> None:
    plane = start_plane()
    with plane.client() as client:
        client.send(b"P")
        has_read(plane, b"P")
        time_is_up(plane)
        plane.only_client()
        client.send(b"OST / HTTP/1.1\r\nHost: unknown.test\r\n\r\n")
        assert client.read_response().status == 404


@pytest.mark.parametrize("half", [V1[:6], V1[:-1], V2[:12], V2[:-1]])
@pytest.mark.usefixtures("patient")
def test_half_a_header_closes_the_connection_when_time_is_up(half: bytes, start_plane: StartPlane) -> None:
    plane = start_plane()
    with plane.client() as client:
        client.send(half)
        has_read(plane, half)
        time_is_up(plane)
        assert client.is_closed_by_peer()


@pytest.mark.usefixtures("patient")
def test_client_that_leaves_before_its_header_is_forgotten(start_plane: StartPlane) -> None:
    plane = start_plane()
    with plane.client() as client:
        client.send(V1[:9])
        has_read(plane, V1[:9])
    wait_until(lambda: not plane.plane.acceptor.headers, "the connection is forgotten")

    assert plane.plane.is_drained()


@pytest.mark.usefixtures("patient")
def test_peers_outside_the_list_may_connect_but_not_announce(
    start_plane: StartPlane, backend: RecordingBackend
) -> None:
    plane = start_plane(enable_proxy_from=["127.0.0.9/32", "::1/128"])
    plane.route(HOST, backend)
    with plane.client(source="127.0.0.9") as listed, plane.client() as other:
        listed.send(V1 + REQUEST)
        assert listed.read_response().status == 200
        other.send(REQUEST)
        assert other.read_response().status == 200
    for header in (V1, V1[:6], V2, LOCAL):
        with plane.client() as other:
            other.send(header)
            assert other.is_closed_by_peer()

    assert forwarded_for(backend) == ["9.9.9.9, 203.0.113.7", "9.9.9.9, 127.0.0.1"]


@pytest.mark.usefixtures("patient")
def test_drain_waits_for_headers_and_close_cuts_them(start_plane: StartPlane) -> None:
    plane = start_plane()
    with plane.client() as client:
        has_read(plane, b"")
        plane.call(plane.plane.drain)
        assert not plane.plane.is_drained()
        plane.call(plane.plane.close)
        assert client.is_closed_by_peer()
    wait_until(plane.plane.is_drained, "nothing is waited for")


@pytest.mark.usefixtures("patient")
def test_header_that_comes_during_a_drain_is_good_for_one_request(
    start_plane: StartPlane, backend: RecordingBackend
) -> None:
    plane = start_plane()
    plane.route(HOST, backend)
    with plane.client() as client:
        has_read(plane, b"")
        plane.call(plane.plane.drain)
        client.send(V1 + REQUEST)
        assert client.read_response().header("connection") == "close"
        assert client.is_closed_by_peer()
    wait_until(plane.plane.is_drained, "drain is over")


@pytest.mark.usefixtures("patient")
def test_header_is_a_bad_request_where_the_protocol_is_off() -> None:
    with RunningPlane(config()) as plane, plane.client() as client:
        client.send(V1 + REQUEST)
        assert client.read_response().status == 400
        assert not plane.plane.acceptor.headers


@pytest.mark.usefixtures("patient")
def test_internal_listeners_know_no_header(start_plane: StartPlane) -> None:
    plane = start_plane(internal={"enabled": True, "domains": [{"name": "apps.internal"}]})
    with plane.internal_client() as client:
        client.send(V1 + REQUEST)
        assert client.read_response().status == 400
        assert not plane.plane.acceptor.headers
