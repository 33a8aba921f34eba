"""Heads on the way to a backend that speaks HTTP/2, and back."""

import pytest

from router.wire.http1 import CHUNKED, LENGTH, NO_BODY
from router.wire.http2_backend import outgoing_head, response_head, response_trailers, switched_head
from router.wire.http2_frames import PROTOCOL_ERROR, StreamFault
from router.wire.http2_hpack import Field


def fields(*pairs: tuple[str, str]) -> list[Field]:
    return [(name.encode(), value.encode(), len(name) + len(value) + 32) for name, value in pairs]


def outgoing(request_line: str, *lines: str, websocket: bool = False) -> tuple[dict[str, str], list[str]]:
    raw = "\r\n".join([request_line + " HTTP/1.1", "Host: a.test:80", *lines, "", ""]).encode()
    head = outgoing_head(raw, b"https", websocket)
    return {name.decode(): value.decode() for name, value in head.fields}, [line.decode() for line in head.lines]


def test_request_line_and_host_become_pseudo_header_fields() -> None:
    pseudo, lines = outgoing("PUT /a?b=c", "X-One: 1", "X-Two: 2")
    assert pseudo == {":method": "PUT", ":scheme": "https", ":authority": "a.test:80", ":path": "/a?b=c"}
    assert lines == ["X-One: 1", "X-Two: 2"]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://a.test/x/y?z", "/x/y?z"),
        ("http://a.test", "/"),
        ("http://a.test?q=/a", "/?q=/a"),
        ("HTTP://a.test/?q", "/?q"),
    ],
)
def test_absolute_target_loses_scheme_and_authority(target: str, path: str) -> None:
    assert outgoing(f"GET {target}")[0][":path"] == path


@pytest.mark.parametrize("target", ["*", "http://a.test"])
def test_options_of_the_server_itself_have_a_star(target: str) -> None:
    assert outgoing(f"OPTIONS {target}")[0][":path"] == "*"


def test_what_frames_messages_and_connections_in_http1_is_left_out() -> None:
    lines = outgoing("POST /", "Transfer-Encoding: chunked", "Trailer: X", "Te: trailers", "Connection: close")[1]
    assert lines == ["Trailer: X", "Te: trailers"]


def test_websocket_becomes_an_extended_connect() -> None:
    pseudo, lines = outgoing(
        "GET /chat",
        "Sec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Connection: Upgrade",
        "Upgrade: WebSocket",
        websocket=True,
    )
    assert (pseudo[":method"], pseudo[":protocol"], pseudo[":path"]) == ("CONNECT", "websocket", "/chat")
    assert lines == ["Sec-WebSocket-Version: 13"]


def test_accepted_websocket_proves_that_its_key_was_seen() -> None:
    """The example of RFC 6455 §1.3."""
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    accept = outgoing_head(raw, b"https", True).accept
    head = response_head(fields((":status", "200"), ("sec-websocket-protocol", "chat")), b"CONNECT", False, 1)
    switched = switched_head(head, accept)
    assert switched.status == 101
    assert switched.special[b"upgrade"] == b"websocket"
    assert switched.lines == [
        b"Sec-Websocket-Protocol: chat",
        b"Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ]


@pytest.mark.parametrize(
    ("method", "status", "length", "ended", "framing", "told"),
    [
        (b"GET", "200", "5", False, LENGTH, 5),
        (b"GET", "200", "0", False, NO_BODY, 0),
        (b"GET", "200", None, False, CHUNKED, -1),
        (b"GET", "200", None, True, NO_BODY, 0),
        (b"HEAD", "200", "5", True, NO_BODY, 5),
        (b"HEAD", "200", None, False, NO_BODY, -1),
        (b"GET", "304", "5", True, NO_BODY, 5),
        (b"GET", "304", None, True, NO_BODY, -1),
        (b"GET", "204", None, True, NO_BODY, -1),
    ],
)
def test_body_is_framed_by_length_and_end(
    method: bytes, status: str, length: str | None, ended: bool, framing: int, told: int
) -> None:
    pairs = [(":status", status)] + ([("content-length", length)] if length is not None else [])
    head = response_head(fields(*pairs), method, ended, 1)
    assert (head.framing, head.length) == (framing, told)


def test_body_that_announces_trailers_is_chunked_for_http1_although_its_length_is_known() -> None:
    head = response_head(
        fields((":status", "200"), ("content-length", "5"), ("trailer", "x-sum")), b"GET", False, 1
    )
    assert (head.framing, head.length) == (CHUNKED, -1)


@pytest.mark.parametrize(
    ("pairs", "ended"),
    [
        ([], False),
        ([("content-type", "a")], False),
        ([(":status", "2000")], False),
        ([(":status", "099")], False),
        ([(":status", "abc")], False),
        ([(":status", "101")], False),
        ([(":status", "103")], True),
        ([(":status", "200"), (":status", "200")], False),
        ([(":status", "200"), ("a", "b"), (":path", "/")], False),
        ([(":status", "200"), ("Upper", "b")], False),
        ([(":status", "200"), ("connection", "close")], False),
        ([(":status", "200"), ("transfer-encoding", "chunked")], False),
        ([(":status", "200"), ("a", "b\r\nc: d")], False),
        ([(":status", "200"), ("content-length", "+5")], False),
        ([(":status", "200"), ("content-length", "5"), ("content-length", "6")], False),
        ([(":status", "200"), ("content-length", "5")], True),
    ],
)
def test_malformed_responses_are_faults_of_their_stream(pairs: list[tuple[str, str]], ended: bool) -> None:
    with pytest.raises(StreamFault) as caught:
        response_head(fields(*pairs), b"GET", ended, 7)
    assert (caught.value.stream_id, caught.value.code) == (7, PROTOCOL_ERROR)


def test_early_hints_have_no_body_and_keep_their_lines() -> None:
    head = response_head(fields((":status", "103"), ("link", "</a>")), b"GET", False, 1)
    assert (head.status, head.framing, head.lines) == (103, NO_BODY, [b"Link: </a>"])


def test_fields_the_proxy_deals_with_are_found_by_name() -> None:
    head = response_head(fields((":status", "200"), ("set-cookie", "a=b"), ("date", "now")), b"GET", True, 1)
    assert (head.special[b"set-cookie"], head.special[b"date"]) == (b"a=b", b"now")
    assert head.lines == [b"Set-Cookie: a=b", b"Date: now"]


def test_trailers_that_would_frame_or_identify_are_left_out() -> None:
    got = response_trailers(fields(("grpc-status", "0"), ("content-length", "5"), ("x-vcap-request-id", "a")), 1)
    assert got == [b"Grpc-Status: 0"]
    assert response_trailers([], 1) == []


def test_pseudo_header_fields_in_trailers_are_a_fault() -> None:
    with pytest.raises(StreamFault):
        response_trailers(fields((":status", "200")), 3)
