"""One request over HTTP/2, in front of a recording HTTP/1 backend: what arrives there, what comes back."""

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator

import pytest

from router.backend.connection import BackendConnection
from tests.support.h2peer import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    RST_STREAM,
    Fields,
    H2Peer,
    frame,
    get,
    headers,
    reset,
    settings,
    window_update,
)
from tests.support.plane import RunningPlane, config
from tests.support.recorder import Conversation, RecordingBackend, Script, answering, plain, silent
from tests.support.waiting import wait_until

HOST = "app.test"
POST = get(method="POST")
CONNECT: Fields = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/chat"),
    (":authority", HOST),
    ("sec-websocket-version", "13"),
]
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Serve = Callable[[Script], RecordingBackend]


@pytest.fixture
def plane() -> Iterator[RunningPlane]:
    with RunningPlane(config(enable_http2_cleartext=True)) as running:
        yield running


@pytest.fixture
def serve(plane: RunningPlane) -> Iterator[Serve]:
    """Route the host to a backend with this script."""
    with contextlib.ExitStack() as stack:

        def start(script: Script) -> RecordingBackend:
            backend = stack.enter_context(RecordingBackend(script))
            plane.route(HOST, backend)
            return backend

        yield start


@pytest.fixture
def peer(plane: RunningPlane) -> Iterator[H2Peer]:
    with H2Peer(plane.port) as connected:
        yield connected


def test_the_backend_gets_a_plain_http1_request(peer: H2Peer, serve: Serve) -> None:
    backend = serve(plain)
    peer.request(
        1, get(HOST, "/x?y=1", ("user-agent", "u"), ("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"))
    )
    answer = peer.answer(1)
    assert (answer.status, answer.body, answer.header("content-length")) == (200, b"ok", "2")
    request = backend.requests[0]
    assert (request.method, request.target, request.version) == ("GET", "/x?y=1", "HTTP/1.1")
    assert request.values("host") == [HOST]
    assert request.values("cookie") == ["a=1; b=2"]
    assert request.values("te") == ["trailers"]
    assert request.values("x-forwarded-proto") == ["http"]
    assert request.values("connection") == request.values("transfer-encoding") == []


def test_bodies_go_both_ways_with_trailers(peer: H2Peer, serve: Serve) -> None:
    backend = serve(
        answering(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nKeep-Alive: 5\r\n\r\n"
            b"5\r\nhello\r\n0\r\nX-Sum: 9\r\n\r\n"
        )
    )
    peer.send(headers(1, POST, END_HEADERS), frame(DATA, 0, 1, b"wor"), frame(DATA, 0, 1, b"ld"))
    peer.send(headers(1, [("x-end", "1")]))
    answer = peer.answer(1)
    assert (answer.body, answer.trailers) == (b"hello", [("x-sum", "9")])
    assert (answer.values("transfer-encoding"), answer.values("keep-alive")) == ([], [])
    request = backend.requests[0]
    assert (request.body, request.trailers) == (b"world", [("X-End", "1")])
    assert request.values("transfer-encoding") == ["chunked"]


def test_a_body_with_a_length_keeps_it(peer: H2Peer, serve: Serve) -> None:
    backend = serve(plain)
    peer.request(1, [*POST, ("content-length", "5")], b"hello")
    assert peer.answer(1).status == 200
    assert (backend.requests[0].values("content-length"), backend.requests[0].body) == (["5"], b"hello")
    peer.request(3, POST)
    assert peer.answer(3).status == 200
    assert backend.requests[1].values("content-length") == ["0"]


@pytest.mark.parametrize(
    ("method", "raw", "status", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", 200, "77"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nEtag: x\r\n\r\n", 304, None),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "0"),
    ],
)
def test_responses_without_body_end_with_their_head(
    peer: H2Peer, serve: Serve, method: str, raw: bytes, status: int, length: str | None
) -> None:
    serve(answering(raw))
    peer.request(1, get(method=method))
    got = peer.until(HEADERS, 1)
    assert got.ended
    assert (peer.answers[1].status, peer.answers[1].header("content-length")) == (status, length)


def test_interim_responses_come_before_the_final_one(peer: H2Peer, serve: Serve) -> None:
    serve(answering(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    answer = peer.get()
    assert (answer.interim, answer.status) == ([103], 200)


def test_continue_is_the_backends_word(peer: H2Peer, serve: Serve) -> None:
    def script(conversation: Conversation) -> None:
        request = conversation.read_head()
        conversation.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        conversation.read_body(request)
        conversation.answer(request.body)

    serve(script)
    peer.send(headers(1, [*POST, ("expect", "100-continue")], END_HEADERS))
    peer.until(HEADERS, 1)
    assert peer.answers[1].interim == [100]
    peer.send(frame(DATA, END_STREAM, 1, b"now"))
    assert peer.answer(1).body == b"now"


def test_a_truncated_response_is_reset_not_ended(peer: H2Peer, serve: Serve) -> None:
    serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", close=True))
    answer = peer.get()
    assert (answer.status, answer.body, answer.ended, answer.reset) == (200, b"half", False, INTERNAL_ERROR)


def test_an_answer_before_the_body_is_complete_ends_the_upload(peer: H2Peer, serve: Serve) -> None:
    def early(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.answer(b"no", status="413 Too Large")
        conversation.wait_for_end()

    serve(early)
    peer.send(headers(1, POST, END_HEADERS), frame(DATA, 0, 1, b"some"))
    answer = peer.answer(1)
    assert (answer.status, answer.body) == (413, b"no")
    peer.synchronise()
    assert answer.reset is None
    peer.send(frame(DATA, 0, 1, b"more on its way"))
    peer.until(RST_STREAM, 1)
    assert answer.reset == NO_ERROR
    peer.send(frame(DATA, 0, 1, b"even more"))
    assert peer.get(3, "unknown.test").status == 404


def test_a_short_upload_may_end_after_an_answer_that_came_before(peer: H2Peer) -> None:
    peer.send(headers(1, get("unknown.test", method="POST"), END_HEADERS), frame(DATA, 0, 1, b"some"))
    assert peer.answer(1).status == 404
    peer.send(frame(DATA, END_STREAM, 1, b"more"))
    assert peer.get(3, "unknown.test").status == 404
    assert peer.answers[1].reset is None


def test_a_long_upload_is_stopped_by_an_answer_that_came_before(peer: H2Peer) -> None:
    upload = [frame(DATA, 0, 1, bytes(16384))] * 8
    peer.send(headers(1, get("unknown.test", method="POST"), END_HEADERS), *upload)
    peer.until(RST_STREAM, 1)
    assert (peer.answers[1].status, peer.answers[1].reset) == (404, NO_ERROR)
    assert peer.credit.get(1) is None
    assert peer.get(3, "unknown.test").status == 404


def test_a_cancelled_request_aborts_the_backend_and_is_logged_as_such(
    peer: H2Peer, plane: RunningPlane, serve: Serve
) -> None:
    backend = serve(silent)
    peer.request(1, get())
    wait_until(lambda: backend.requests, "the request has arrived")
    peer.send(reset(1))
    wait_until(lambda: not backend.open_conversations(), "the backend is let go of")
    assert plane.call(lambda: plane.plane.counters.client_aborts) == 1
    assert peer.get(3, "unknown.test").status == 404


@pytest.mark.parametrize("end", [b"", b"toolong"], ids=["too short", "too long"])
def test_a_body_of_another_length_never_becomes_a_request(
    peer: H2Peer, serve: Serve, plane: RunningPlane, end: bytes
) -> None:
    backend = serve(plain)
    peer.request(1, [*POST, ("content-length", "5")], b"abc" + end)
    assert peer.answer(1).reset == PROTOCOL_ERROR
    wait_until(plane.is_idle, "the exchange is over")
    assert peer.get(3).status == 200
    assert [request.method for request in backend.requests if request.body or request.method == "GET"] == ["GET"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(n, v) for n, v in get() if n != ":authority"], 400),
        (get("user@app.test"), 400),
        (get(path="/a b"), 400),
        ([(":method", "CONNECT"), (":authority", "app.test:443")], 400),
        ([(n, "other" if n == ":protocol" else v) for n, v in CONNECT], 501),
        (get("unknown.test"), 404),
        ([*get(), ("expect", "something")], 417),
        (get(path="*", method="OPTIONS"), 200),
        ([*get(), ("x-big", "x" * 1_060_000)], 431),
    ],
    ids=["no authority", "userinfo", "path", "CONNECT", "protocol", "unknown", "expect", "OPTIONS *", "size"],
)
def test_requests_that_are_not_forwarded_are_answered(
    peer: H2Peer, serve: Serve, fields: Fields, status: int
) -> None:
    backend = serve(plain)
    if status == 431:
        raw = headers(1, fields, 0)[9:]
        pieces = [raw[start : start + 16384] for start in range(0, len(raw), 16384)]
        peer.send(frame(HEADERS, END_STREAM, 1, pieces[0]), *[frame(9, 0, 1, piece) for piece in pieces[1:]])
        peer.send(frame(9, END_HEADERS, 1))
    else:
        peer.send(headers(1, fields))
    assert peer.answer(1).status == status
    assert backend.requests == []


def test_a_refused_request_with_a_body_leaves_the_connection_usable(peer: H2Peer) -> None:
    peer.send(headers(1, get("bad host", method="POST"), END_HEADERS), frame(DATA, 0, 1, bytes(5000)))
    assert peer.answer(1).status == 400
    peer.send(frame(DATA, END_STREAM, 1, b"rest"))
    assert peer.get(3, "unknown.test").status == 404


def test_the_time_out_of_http2_exchanges_is_their_own() -> None:
    keys = {"enable_http2_cleartext": True, "http_2_endpoint_timeout": 0.1, "http_1_endpoint_timeout": 60.0}
    with RunningPlane(config(**keys)) as hasty, RecordingBackend(silent) as backend:
        hasty.route(HOST, backend)
        with H2Peer(hasty.port) as peer, hasty.client() as old:
            old.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            wait_until(lambda: backend.requests, "the older request has arrived")
            assert peer.get().status == 502
            assert not hasty.is_idle()


# WebSockets (RFC 8441).


def echoing(conversation: Conversation) -> None:
    request = conversation.read_head()
    key = request.values("sec-websocket-key")[0]
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
    conversation.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello"
    )
    while True:
        conversation.send(conversation.read(1))


def test_a_websocket_is_an_upgrade_behind_and_data_frames_in_front(
    peer: H2Peer, plane: RunningPlane, serve: Serve
) -> None:
    backend = serve(echoing)
    peer.send(headers(1, CONNECT, END_HEADERS), frame(DATA, 0, 1, b"early "))
    peer.until(HEADERS, 1)
    answer = peer.answers[1]
    assert (answer.status, answer.ended) == (200, False)
    assert answer.header("sec-websocket-protocol") == "chat"
    assert not answer.values("upgrade") + answer.values("connection") + answer.values("sec-websocket-accept")
    peer.send(frame(DATA, 0, 1, b"bird"))
    while len(answer.body) < len(b"helloearly bird"):
        peer.until(DATA, 1)
    assert answer.body == b"helloearly bird"
    request = backend.requests[0]
    assert (request.method, request.target, request.values("upgrade")) == ("GET", "/chat", ["websocket"])
    assert len(base64.b64decode(request.values("sec-websocket-key")[0])) == 16
    assert plane.call(lambda: plane.plane.counters.websocket_upgrades) == 1
    assert plane.call(lambda: [client.is_tunnel() for client in plane.clients]) == [True]
    peer.send(reset(1))
    wait_until(plane.is_idle, "the tunnel is over")


def test_the_ends_of_a_tunnel_are_passed_on(peer: H2Peer, plane: RunningPlane, serve: Serve) -> None:
    def polite(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        conversation.wait_for_end()
        conversation.send(b"goodbye")

    serve(polite)
    peer.send(headers(1, CONNECT, END_HEADERS))
    peer.until(HEADERS, 1)
    peer.send(frame(DATA, END_STREAM, 1))
    answer = peer.answer(1)
    assert (answer.body, answer.ended, answer.reset) == (b"goodbye", True, None)
    wait_until(plane.is_idle, "the tunnel is over")


def test_a_tunnel_that_breaks_is_reset(peer: H2Peer, serve: Serve) -> None:
    def breaking(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        conversation.read(1)
        conversation.reset()

    serve(breaking)
    peer.send(headers(1, CONNECT, END_HEADERS))
    peer.until(HEADERS, 1)
    peer.send(frame(DATA, 0, 1, b"x"))
    assert peer.answer(1).reset == CANCEL


@pytest.mark.parametrize(("raw", "status"), [(b"403 Forbidden", 403), (b"200 OK", 502)])
def test_only_a_101_opens_a_tunnel(peer: H2Peer, serve: Serve, raw: bytes, status: int) -> None:
    serve(answering(b"HTTP/1.1 " + raw + b"\r\nContent-Length: 2\r\n\r\nno"))
    peer.send(headers(1, CONNECT, END_HEADERS))
    assert peer.answer(1).status == status


def test_a_tunnel_nobody_reads_stops_its_backend(plane: RunningPlane, serve: Serve) -> None:
    def talking(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        for _ in range(64):
            conversation.send(bytes(1 << 20))

    serve(talking)
    with H2Peer(plane.port, (4, 0)) as deaf:
        deaf.send(headers(1, CONNECT, END_HEADERS))
        deaf.until(HEADERS, 1)
        backend = plane.call(lambda: next(iter(plane.plane.proxy.active)).connection)
        assert isinstance(backend, BackendConnection)
        wait_until(lambda: plane.call(lambda: backend._paused), "the backend is not read any more")
        deaf.send(settings((4, 1 << 20)), window_update(0, 1 << 24), window_update(1, 1 << 24))
        while len(deaf.answers[1].body) < 1 << 20:
            deaf.until(DATA, 1)
