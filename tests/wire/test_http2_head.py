"""Header lists as heads of HTTP/1: what comes out, and what must not come in."""

import pytest

from router.wire.header_lines import BadMessage
from router.wire.http1 import CHUNKED, LENGTH, NO_BODY, RequestHead
from router.wire.http2_frames import PROTOCOL_ERROR, StreamFault
from router.wire.http2_head import request_of, trailers_of
from router.wire.http2_hpack import Field
from tests.support.h2peer import Fields, get

CONNECT: Fields = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":path", "/chat?x=1"),
    (":authority", "app.test"),
]


def listed(fields: Fields) -> list[Field]:
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    return [(name, value, len(name) + len(value) + 32) for name, value in pairs]


def head_of(fields: Fields, ended: bool = True) -> RequestHead:
    return request_of(listed(fields), ended, 1).head


def without(name: str) -> Fields:
    return [field for field in get() if field[0] != name]


def test_a_request_becomes_what_an_http1_client_would_have_sent() -> None:
    head = head_of(
        get("app.test:8443", "/a/b?c=%zz", ("user-agent", "x"), ("x-odd", "  ".strip()), ("accept", "*/*"))
    )
    assert (head.method, head.target, head.path, head.minor) == (b"GET", b"/a/b?c=%zz", b"/a/b?c=%zz", 1)
    assert (head.host, head.framing, head.keep_alive) == (b"app.test:8443", NO_BODY, True)
    assert head.lines == [b"User-Agent: x", b"X-Odd: ", b"Accept: */*"]
    assert head.special == {b"user-agent": b"x", b"host": b"app.test:8443"}
    assert head.count == 4


def test_its_size_is_that_of_the_http1_head() -> None:
    head = head_of(get("app.test", "/abc", ("accept", "*/*")))
    lines = [b"GET /abc HTTP/1.1", b"Accept: */*"]
    assert head.size == len(b"\r\n".join(lines))


def test_names_are_spelled_as_go_does() -> None:
    names = ["x-cf-app-instance2", "etag", "a", "x--y", "dnt", "x1a-b"]
    assert head_of(get("h", "/", *[(name, "1") for name in names])).lines == [
        b"X-Cf-App-Instance2: 1",
        b"Etag: 1",
        b"A: 1",
        b"X--Y: 1",
        b"Dnt: 1",
        b"X1a-B: 1",
    ]


def test_crumbs_of_a_cookie_are_joined() -> None:
    head = head_of(get("h", "/", ("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("cookie", "c=3")))
    assert head.lines == [b"X-A: 1", b"Cookie: a=1; b=2; c=3"]
    assert head.special[b"cookie"] == b"a=1; b=2; c=3"
    assert head.count == 3


def test_authority_wins_over_host_and_host_serves_without_it() -> None:
    for name in ("right.test", "RIGHT.test", "right.test:80"):
        assert head_of(get("right.test", "/", ("host", name))).host == b"right.test"
    assert head_of([*without(":authority"), ("host", "right.test")]).host == b"right.test"
    assert head_of(without(":authority")).host == b""
    with pytest.raises(BadMessage, match="too many Host headers"):
        head_of([*without(":authority"), ("host", "a.test"), ("host", "b.test")])


def test_the_body_is_framed_by_its_length_or_in_chunks() -> None:
    post = get(method="POST")
    assert head_of(post, ended=False).framing == CHUNKED
    with_length = head_of([*post, ("content-length", "12")], ended=False)
    assert (with_length.framing, with_length.length) == (LENGTH, 12)
    empty = head_of([*post, ("content-length", "0")], ended=False)
    assert (empty.framing, empty.special[b"content-length"]) == (NO_BODY, b"0")


def test_a_post_without_body_says_so_to_http1() -> None:
    assert head_of(get(method="POST")).special[b"content-length"] == b"0"
    assert b"content-length" not in head_of(get()).special


def test_the_asterisk_is_for_options() -> None:
    assert head_of(get(path="*", method="OPTIONS")).target == b"*"
    with pytest.raises(BadMessage):
        head_of(get(path="*"))


def test_te_may_say_trailers_only() -> None:
    assert head_of(get("h", "/", ("te", "trailers"))).special[b"te"] == b"trailers"


def test_look_alikes_of_trusted_fields_are_dropped() -> None:
    assert head_of(get("h", "/", ("x_forwarded_for", "1.2.3.4"), ("x_mine", "1"))).lines == [b"X_mine: 1"]


MALFORMED: dict[str, Fields] = {
    "no method": without(":method"),
    "no scheme": without(":scheme"),
    "no path": without(":path"),
    "empty path": get(path=""),
    "two methods": [(":method", "GET"), *get()],
    "two schemes": [(":scheme", "http"), *get()],
    "two paths": [(":path", "/"), *get()],
    "two authorities": [(":authority", "h"), *get()],
    "unknown pseudo-header": [(":test", "x"), *get()],
    "pseudo-header of responses": [(":status", "200"), *get()],
    "pseudo-header after a field": [*without(":path"), ("x-a", "1"), (":path", "/")],
    "repeated after a field": [*get(), ("x-a", "1"), (":path", "/")],
    "uppercase name": [*get(), ("X-A", "1")],
    "empty name": [*get(), ("", "1")],
    "space in a name": [*get(), ("x a", "1")],
    "colon in a name": [*get(), ("x:a", "1")],
    "line end in a name": [*get(), ("x\r\ny", "1")],
    "name beyond ASCII": [*get(), ("x-\xe4", "1")],
    "line end in a value": [*get(), ("x-a", "1\r\nx-b: 2")],
    "line feed in a value": [*get(), ("x-a", "1\n2")],
    "carriage return in a value": [*get(), ("x-a", "1\r2")],
    "NUL in a value": [*get(), ("x-a", "1\x002")],
    "space before a value": [*get(), ("x-a", " 1")],
    "tab after a value": [*get(), ("x-a", "1\t")],
    "line end in a cookie": [*get(), ("cookie", "a\r\nx: y")],
    "connection": [*get(), ("connection", "keep-alive")],
    "keep-alive": [*get(), ("keep-alive", "3")],
    "proxy-connection": [*get(), ("proxy-connection", "keep-alive")],
    "transfer-encoding": [*get(), ("transfer-encoding", "chunked")],
    "upgrade": [*get(), ("upgrade", "websocket")],
    "te": [*get(), ("te", "trailers, deflate")],
    "line end in the path": get(path="/ HTTP/1.1\r\nX: y"),
    "NUL in the path": get(path="/\0"),
    "line end in the method": get(method="GET\r\n"),
    "line end in the authority": get("app.test\r\nX: y"),
    "line end in the scheme": [*without(":scheme"), (":scheme", "http\r")],
    "host of another name": get("right.test", "/", ("host", "wrong.test")),
    "host of another port": get("right.test", "/", ("host", "right.test:443")),
    "two hosts, one of another name": get("a.test", "/", ("host", "a.test"), ("host", "b.test")),
    "host that is no host": get("a.test", "/", ("host", "a.test\r\nX: y")),
    "length without body": [*get(), ("content-length", "1")],
    "length that is no number": [*get(), ("content-length", "+1")],
    "protocol without CONNECT": [*get(), (":protocol", "websocket")][3:] + get(),
    "CONNECT with a path": get(method="CONNECT"),
    "CONNECT without authority": [(":method", "CONNECT")],
    "extended CONNECT without path": [field for field in CONNECT if field[0] != ":path"],
    "extended CONNECT without scheme": [field for field in CONNECT if field[0] != ":scheme"],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_are_errors_of_the_stream(fields: Fields) -> None:
    with pytest.raises(StreamFault) as caught:
        head_of(fields)
    assert (caught.value.code, caught.value.stream_id) == (PROTOCOL_ERROR, 1)


REFUSED: dict[str, tuple[Fields, int]] = {
    "space in the path": (get(path="/a b"), 400),
    "path beyond ASCII": (get(path="/\xe4"), 400),
    "relative path": (get(path="a"), 400),
    "absolute path": (get(path="http://other.test/"), 400),
    "bad escape": (get(path="/%zz"), 400),
    "space in the method": (get(method="GET /evil"), 400),
    "empty method": (get(method=""), 400),
    "userinfo in the authority": (get("user@app.test"), 400),
    "slash in the authority": (get("app.test/x"), 400),
    "comma-joined authorities are no host": (get("a.test b.test"), 400),
    "different lengths": ([*get(method="POST"), ("content-length", "1"), ("content-length", "2")], 400),
    "CONNECT": ([(":method", "CONNECT"), (":authority", "app.test:443")], 400),
    "another protocol": ([(n, "connect-udp" if n == ":protocol" else v) for n, v in CONNECT], 501),
}


@pytest.mark.parametrize(("fields", "status"), REFUSED.values(), ids=REFUSED)
def test_requests_that_http1_would_read_differently_are_refused(fields: Fields, status: int) -> None:
    with pytest.raises(BadMessage) as caught:
        head_of(fields, ended=False)
    assert caught.value.status == status


def test_an_extended_connect_asks_for_an_upgrade() -> None:
    fields = [*CONNECT, ("sec-websocket-version", "13"), ("sec-websocket-key", "theirs"), ("origin", "https://o")]
    request = request_of(listed(fields), False, 1)
    head = request.head
    assert (request.protocol, head.method, head.target, head.framing) == (
        b"websocket",
        b"GET",
        b"/chat?x=1",
        NO_BODY,
    )
    assert (head.special[b"upgrade"], head.special[b"connection"]) == (b"websocket", b"Upgrade")
    assert head.lines == [b"Sec-Websocket-Version: 13", b"Origin: https://o"]


def test_trailers_become_lines_without_what_frames_or_identifies() -> None:
    fields: Fields = [("x-sum", "9"), ("content-length", "9"), ("host", "h"), ("x-forwarded-for", "1")]
    assert trailers_of(listed(fields), 1) == [b"X-Sum: 9"]
    assert trailers_of([], 1) == []


@pytest.mark.parametrize("field", [(":path", "/"), ("X-A", "1"), ("a", "1\r\n"), ("connection", "close")])
def test_malformed_trailers_are_errors_of_the_stream(field: tuple[str, str]) -> None:
    with pytest.raises(StreamFault):
        trailers_of(listed([field]), 1)
