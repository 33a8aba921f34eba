"""HTTP/2 to backends, seen from both ends: every pair of versions, resets, slow peers, real servers."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from router.certs import issue, make_ca
from tests.support.h2backend import H2Backend, H2Conversation, H2Request, plain
from tests.support.h2peer import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    REFUSED_STREAM,
    Answer,
    Frame,
    H2Peer,
    block,
    frame,
    get,
    headers,
    window_update,
)
from tests.support.needs import needs
from tests.support.plane import RunningPlane, config
from tests.support.ports import free_port
from tests.support.rawclient import RawClient, Truncated
from tests.support.recorder import Conversation, RecordingBackend
from tests.support.waiting import PATIENCE_S, wait_until

HOST = "app.test"
MIB = 1024 * 1024
INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, ENABLE_CONNECT_PROTOCOL = 0x4, 0x3, 0x8
BOTH = {
    "enable_http2_cleartext": True,
    "enable_http2_cleartext_backends": True,
    "backends": {"max_attempts": 3},
}


@pytest.fixture
def plane() -> Iterator[RunningPlane]:
    with RunningPlane(config(**BOTH)) as running:
        yield running


def route(plane: RunningPlane, backend: H2Backend, **fields: str) -> None:
    plane.route(HOST, backend.port, protocol="http2", **fields)


# Every pair of versions.


@dataclass(slots=True)
class Seen:
    """What a backend saw of a request."""

    body: bytes
    trailers: dict[str, str]


def echo2(conversation: H2Conversation) -> None:
    """Answer with hints, the request's body and a trailer."""
    while True:
        request = conversation.head()
        conversation.head_of(request, 103, ("link", "</style.css>"))
        conversation.complete(request)
        conversation.head_of(request, 200, ("trailer", "x-digest"))
        for start in range(0, len(request.body), 16384):
            conversation.body(request, request.body[start : start + 16384])
        conversation.trailers(request, ("x-digest", digest(request.body)))


def echo1(conversation: Conversation) -> None:
    """Do the same over HTTP/1.1."""
    while True:
        request = conversation.read_head()
        conversation.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        conversation.read_body(request)
        conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Digest\r\n\r\n")
        body = b"%x\r\n%b\r\n" % (len(request.body), request.body) if request.body else b""
        conversation.send(body + f"0\r\nX-Digest: {digest(request.body)}\r\n\r\n".encode())


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(params=["back 1", "back 2"])
def seen(request: pytest.FixtureRequest, plane: RunningPlane) -> Iterator[Callable[[], Seen]]:
    """Route an echo that speaks one of the versions; tell what it saw last."""
    if request.param == "back 1":
        with RecordingBackend(echo1) as backend1:
            plane.route(HOST, backend1)
            yield lambda: Seen(backend1.requests[-1].body, lower(backend1.requests[-1].trailers))
    else:
        with H2Backend(echo2) as backend2:
            route(plane, backend2)
            yield lambda: Seen(backend2.requests[-1].body, lower(backend2.requests[-1].trailers))


def lower(pairs: list[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in pairs}


@pytest.mark.parametrize("size", [0, 1, 70_000, MIB])
def test_http1_clients_bodies_trailers_and_hints_pass(
    plane: RunningPlane, seen: Callable[[], Seen], size: int
) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with plane.client() as client:
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(chunk + b"0\r\nX-Sum: 7\r\n\r\n")
        response = client.read_response()
    assert (seen().body, seen().trailers) == (body, {"x-sum": "7"})
    assert (response.status, response.body) == (200, body)
    assert lower(response.trailers) == {"x-digest": digest(body)}
    assert [(hint.status, hint.header("Link")) for hint in response.interim] == [(103, "</style.css>")]


@pytest.mark.parametrize("size", [0, 1, 60_000])
def test_http2_clients_bodies_trailers_and_hints_pass(
    plane: RunningPlane, seen: Callable[[], Seen], size: int
) -> None:
    body = b"y" * size
    with H2Peer(plane.port) as peer:
        peer.send(headers(1, get(HOST, "/", method="POST"), END_HEADERS))
        for start in range(0, size, 16384):
            peer.send(frame(DATA, 0, 1, body[start : start + 16384]))
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block([("x-sum", "7")])))
        answer = peer.answer(1)
    assert (seen().body, seen().trailers) == (body, {"x-sum": "7"})
    assert (answer.status, answer.body, answer.interim) == (200, body, [103])
    assert dict(answer.trailers) == {"x-digest": digest(body)}


def test_content_length_is_kept_towards_the_backend(plane: RunningPlane) -> None:
    with H2Backend() as backend, plane.client() as client:
        route(plane, backend)
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello")
        assert client.read_response().body == b"ok"
        assert (backend.requests[0].header("content-length"), backend.requests[0].body) == ("5", b"hello")


def test_fields_of_http1_connections_do_not_reach_the_backend(plane: RunningPlane) -> None:
    with H2Backend() as backend, plane.client() as client:
        route(plane, backend)
        lines = "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: a\r\nTE: gzip\r\n"
        client.get(host=HOST, headers=lines)
        names = {name for name, _ in backend.requests[0].fields}
        assert not names & {"connection", "x-hop", "keep-alive", "proxy-connection", "te", "host", "upgrade"}
        assert all(name == name.lower() for name in names)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [200, 204, 304])
def test_responses_without_a_body_end_with_their_head(plane: RunningPlane, status: int, method: str) -> None:
    def head_only(conversation: H2Conversation) -> None:
        while True:
            conversation.head_of(conversation.request(), status, ended=True)

    with H2Backend(head_only) as backend, plane.client() as client:
        route(plane, backend)
        for _ in range(2):
            client.send(f"{method} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert client.read_response(method).status == status


# Resets and the like.


def test_client_that_goes_away_cancels_the_stream_at_the_backend(plane: RunningPlane) -> None:
    def wait(conversation: H2Conversation) -> None:
        first = conversation.request()
        while first.reset is None:
            conversation.read()
        plain(conversation)

    with H2Backend(wait) as backend:
        route(plane, backend)
        with plane.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            wait_until(lambda: len(backend.requests) == 1, "the request has arrived")
        wait_until(lambda: backend.requests[0].reset == CANCEL, "the backend is told")
        with plane.client() as client:
            assert client.get(host=HOST).body == b"ok"
        assert len(backend.conversations) == 1


def test_reset_by_a_client_cancels_the_stream_at_the_backend(plane: RunningPlane) -> None:
    with H2Backend(H2Conversation.wait_for_end) as backend, H2Peer(plane.port) as peer:
        route(plane, backend)
        peer.request(1, get(HOST))
        wait_until(lambda: len(backend.requests) == 1, "the request has arrived")
        peer.send(frame(0x3, 0, 1, CANCEL.to_bytes(4, "big")))
        wait_until(lambda: backend.requests[0].reset == CANCEL, "the backend is told")


def half(conversation: H2Conversation) -> None:
    request = conversation.request()
    conversation.head_of(request, 200, ("content-length", "100"))
    conversation.body(request, b"half")
    conversation.reset(request, 0x2)
    conversation.wait_for_end()


def test_reset_by_the_backend_cuts_the_response(plane: RunningPlane) -> None:
    with H2Backend(half) as backend, plane.client() as client:
        route(plane, backend)
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        with pytest.raises(Truncated):
            client.read_response()


def test_reset_by_the_backend_is_a_reset_to_the_client(plane: RunningPlane) -> None:
    with H2Backend(half) as backend, H2Peer(plane.port) as peer:
        route(plane, backend)
        assert peer.get(1, HOST).reset == 0x2


def test_reset_before_the_response_is_a_502(plane: RunningPlane) -> None:
    def reset(conversation: H2Conversation) -> None:
        conversation.reset(conversation.request(), 0x2)
        conversation.wait_for_end()

    with H2Backend(reset) as backend, plane.client() as client:
        route(plane, backend)
        response = client.get(host=HOST)
        assert response.status == 502
        text = "endpoint_failure (stream error: stream ID 1; INTERNAL_ERROR; received from peer)"
        assert response.header("X-Cf-RouterError") == text


@pytest.mark.parametrize("how", ["refused", "goaway"])
def test_request_that_was_not_looked_at_is_sent_again_with_its_body(plane: RunningPlane, how: str) -> None:
    def refuse_first(conversation: H2Conversation) -> None:
        request = conversation.request()
        if conversation is backend.conversations[0]:
            conversation.reset(request, REFUSED_STREAM) if how == "refused" else conversation.leave(0)
            conversation.wait_for_end()
        conversation.answer(request, request.body + str(dict(request.trailers)).encode())
        plain(conversation)

    with H2Backend(refuse_first) as backend, plane.client() as client:
        route(plane, backend)
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
        response = client.read_response()
        assert (response.status, response.body) == (200, b"hello{'x-sum': '1'}")
        assert len(backend.conversations) == 2
        assert not plane.messages()


def test_request_that_is_refused_again_goes_to_another_endpoint(plane: RunningPlane) -> None:
    def refuse(conversation: H2Conversation) -> None:
        while True:
            conversation.reset(conversation.request(), REFUSED_STREAM)

    with H2Backend(refuse) as bad, H2Backend() as good, plane.client() as client:
        plane.route(HOST, bad.port, good.port, protocol="http2")
        assert {client.get(host=HOST).status for _ in range(4)} == {200}
        assert bad.requests


def test_request_that_every_endpoint_refuses_is_a_502(plane: RunningPlane) -> None:
    def refuse(conversation: H2Conversation) -> None:
        while True:
            conversation.reset(conversation.request(), REFUSED_STREAM)

    with H2Backend(refuse) as backend, plane.client() as client:
        route(plane, backend)
        assert client.get(host=HOST).status == 502


def test_time_out_ends_the_stream_and_not_its_neighbours() -> None:
    def answer_second(conversation: H2Conversation) -> None:
        slow = conversation.request()
        conversation.head_of(conversation.request(), 200)
        while slow.reset is None:
            conversation.read()
        conversation.body(conversation.requests[3], b"on", ended=True)
        conversation.wait_for_end()

    with (
        RunningPlane(config(**BOTH, http_1_endpoint_timeout=0.3, http_2_endpoint_timeout=30)) as plane,
        H2Backend(answer_second) as backend,
        H2Peer(plane.port) as peer,
        plane.client() as client,
    ):
        route(plane, backend)
        with plane.without_deadlines():
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            wait_until(lambda: len(backend.requests) == 1, "the slow one has arrived")
            peer.request(1, get(HOST))
            wait_until(lambda: len(backend.requests) == 2, "and its neighbour")
        assert client.read_response().status == 502
        assert peer.answer(1).body == b"on"


# Flow control.


def test_slow_client_stops_its_stream_and_no_other(plane: RunningPlane) -> None:
    """Two streams of one backend connection: one client reads nothing, the other gets everything."""
    sent = {"slow": 0}
    windows: dict[int, int] = {}

    def flood(conversation: H2Conversation) -> None:
        request = conversation.request()
        conversation.head_of(request, 200)
        windows[1] = 128 * 1024
        while len(backend.requests) == 1:
            if windows[1] >= 16384:
                conversation.body(request, bytes(16384))
                windows[1] -= 16384
                sent["slow"] += 16384
            else:
                credit(conversation.read())
        plain(conversation)

    def credit(got: Frame) -> None:
        if got.kind == 0x8 and got.stream_id == 1:
            windows[1] += got.number()

    with H2Backend(flood) as backend, plane.client(receive_buffer=4096) as slow:
        route(plane, backend)
        slow.send(b"GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n")
        wait_until(lambda: is_withheld(plane), "the stream is withheld")
        wait_until(lambda: windows[1] < 16384, "its window is used up")
        assert sent["slow"] < 16 * MIB
        with plane.client() as quick:
            quick.send(b"GET /quick HTTP/1.1\r\nHost: app.test\r\n\r\n")
            assert quick.read_response().body == b"ok"
        assert len(backend.conversations) == 1


def is_withheld(plane: RunningPlane) -> bool:
    exchanges = list(plane.plane.proxy.active)
    return any(getattr(exchange.connection, "withheld", False) for exchange in exchanges)


def test_backend_that_takes_nothing_stops_the_client(plane: RunningPlane) -> None:
    def take_nothing(conversation: H2Conversation) -> None:
        conversation.credits = False
        request = conversation.head()
        go_on.wait(PATIENCE_S)
        conversation.credits = True
        conversation.send(window_update(0, 64 * MIB), window_update(request.id, 64 * MIB))
        conversation.complete(request)
        conversation.answer(request, digest(request.body).encode())
        conversation.wait_for_end()

    go_on = threading.Event()
    body = bytes(range(256)) * (4 * 4096)
    with H2Backend(take_nothing) as backend, plane.client() as client:
        route(plane, backend)
        upload = threading.Thread(
            target=lambda: client.send(
                b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            ),
            daemon=True,
        )
        upload.start()
        wait_until(lambda: bool(backend.requests), "the request has arrived")
        wait_until(lambda: any(is_full(exchange) for exchange in list(plane.plane.proxy.active)), "it is full")
        assert max(pending(exchange) for exchange in list(plane.plane.proxy.active)) < MIB
        go_on.set()
        assert client.read_response().body == digest(body).encode()
        upload.join(PATIENCE_S)


def is_full(exchange: object) -> bool:
    return bool(getattr(getattr(exchange, "connection", None), "is_full", False))


def pending(exchange: object) -> int:
    return int(getattr(getattr(exchange, "connection", None), "pending_bytes", 0))


# WebSockets.

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
CONNECT = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/ws"),
    (":authority", HOST),
    ("sec-websocket-version", "13"),
]


def echo_tunnel(conversation: H2Conversation) -> None:
    request = conversation.head()
    conversation.head_of(request, 200)
    done = 0
    while not request.ended:
        conversation.read()
        if len(request.body) > done:
            conversation.body(request, request.body[done:])
            done = len(request.body)
    conversation.body(request, b"", ended=True)
    conversation.wait_for_end()


def test_websocket_over_http1_reaches_a_backend_with_extended_connect(plane: RunningPlane) -> None:
    with H2Backend(echo_tunnel, (ENABLE_CONNECT_PROTOCOL, 1)) as backend, plane.client() as client:
        route(plane, backend)
        client.send(
            f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode()
        )
        switched = client.read_response()
        assert switched.status == 101
        assert switched.header("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        client.send(b"\x81\x05hello")
        assert client.read_exactly(7) == b"\x81\x05hello"
        assert backend.requests[0].header(":protocol") == "websocket"


def test_websocket_over_http2_from_end_to_end(plane: RunningPlane) -> None:
    with H2Backend(echo_tunnel, (ENABLE_CONNECT_PROTOCOL, 1)) as backend, H2Peer(plane.port) as peer:
        route(plane, backend)
        peer.send(headers(1, CONNECT, END_HEADERS))
        peer.send(frame(DATA, 0, 1, b"one"))
        peer.send(frame(DATA, END_STREAM, 1, b"two"))
        answer: Answer = peer.answer(1)
        assert (answer.status, answer.body) == (200, b"onetwo")
        request: H2Request = backend.requests[0]
        assert (request.header(":method"), request.header(":protocol")) == ("CONNECT", "websocket")
        assert request.header("sec-websocket-key") is None


# Real servers.


NGINX = """
daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  server {{
    listen 127.0.0.1:{port} http2; keepalive_requests 7; http2_max_concurrent_streams 4;
    location / {{ return 200 "hello\\n"; }}
  }}
}}
"""


def test_no_request_fails_at_an_nginx_that_closes_connections_after_seven(
    plane: RunningPlane, tmp_path: Path
) -> None:
    port = free_port()
    path = tmp_path / "nginx.conf"
    path.write_text(NGINX.format(directory=tmp_path, port=port))
    with subprocess.Popen([needs("nginx"), "-p", tmp_path, "-c", path], stderr=subprocess.DEVNULL) as nginx:
        try:
            wait_until(lambda: accepts(port), "nginx listens")
            plane.route(HOST, port, protocol="http2")
            with H2Peer(plane.port) as peer:
                streams = range(1, 401, 2)
                for stream in streams:
                    peer.request(stream, get(HOST))
                assert {peer.answer(stream).body for stream in streams} == {b"hello\n"}
        finally:
            nginx.terminate()


@pytest.mark.parametrize("secure", [True, False])
def test_nghttpd_that_pads_and_has_few_streams_and_small_windows_gets_and_gives_everything(
    tmp_path: Path, secure: bool
) -> None:
    authority = make_ca()
    pair = issue(authority, ["instance"])
    (tmp_path / "cert").write_text(pair.certificate)
    (tmp_path / "key").write_text(pair.private_key)
    (tmp_path / "page").write_bytes(b"page" * 50_000)
    port = free_port()
    options = [
        "-a",
        "127.0.0.1",
        "-d",
        tmp_path,
        "-b",
        200,
        "-m",
        4,
        "-w",
        10,
        "--echo-upload",
        "--trailer",
        "x-sum: 9",
    ]
    ends = [port, tmp_path / "key", tmp_path / "cert"] if secure else ["--no-tls", port]
    command = [str(each) for each in (needs("nghttpd"), *options, *ends)]
    upload = bytes(range(256)) * 1000
    with (
        RunningPlane(config(**BOTH, ca_certs=[authority.pair.certificate])) as plane,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server,
    ):
        try:
            wait_until(lambda: accepts(port), "nghttpd listens")
            plane.route(HOST, port, protocol="http2", tls=secure, san="instance" if secure else "")
            with H2Peer(plane.port, (INITIAL_WINDOW_SIZE, MIB)) as peer:
                peer.send(window_update(0, 64 * MIB))
                streams = range(1, 81, 2)
                for stream in streams:
                    peer.request(stream, get(HOST, "/page"))
                answers = [peer.answer(stream) for stream in streams]
                assert {each.body == b"page" * 50_000 for each in answers} == {True}
                assert {each.trailers[0] for each in answers} == {("x-sum", "9")}
            with plane.client() as client:
                client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: %d\r\n\r\n" % len(upload))
                client.send(upload)
                assert client.read_response().body == upload
        finally:
            server.terminate()


HYPERCORN = """
import asyncio, sys
from hypercorn.asyncio import serve
from hypercorn.config import Config

async def app(scope, receive, send):
    body, more = b"", scope["type"] == "http"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    version = scope.get("http_version", "").encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-version", version)]})
    await send({"type": "http.response.body", "body": body})

config = Config()
config.bind = [f"127.0.0.1:{sys.argv[1]}"]
config.certfile, config.keyfile = sys.argv[2:4]
asyncio.run(serve(app, config))
"""


@pytest.mark.parametrize(("enabled", "version"), [(True, "2"), (False, "1.1")])
def test_hypercorn_is_spoken_to_in_the_version_that_is_configured(
    tmp_path: Path, enabled: bool, version: str
) -> None:
    authority = make_ca()
    pair = issue(authority, ["instance"])
    (tmp_path / "cert").write_text(pair.certificate)
    (tmp_path / "key").write_text(pair.private_key)
    port = free_port()
    command = [sys.executable, "-c", HYPERCORN, str(port), str(tmp_path / "cert"), str(tmp_path / "key")]
    certificates = [authority.pair.certificate]
    with (
        RunningPlane(config(enable_http2=enabled, ca_certs=certificates)) as plane,
        subprocess.Popen(command, stderr=subprocess.DEVNULL) as server,
    ):
        try:
            wait_until(lambda: accepts(port), "hypercorn listens")
            plane.route(HOST, port, protocol="http2", tls=True, san="instance")
            with plane.client() as client:
                for body in (b"", b"hello", bytes(300_000)):
                    client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: %d\r\n\r\n" % len(body))
                    client.send(body)
                    response = client.read_response()
                    assert (response.status, response.body) == (200, body)
                    assert response.header("X-Version") == version
        finally:
            server.terminate()


def accepts(port: int) -> bool:
    try:
        RawClient(port).close()
    except OSError:
        return False
    return True
