import pytest

from router.proxy.rewrite import (
    RewriteOptions,
    forwarded_for,
    forwarded_proto,
    header_count,
    header_size,
    request_prefix,
    response_lines,
    strip_listed,
    websocket_token,
)
from router.wire.http1 import RequestHead, parse_request_head, parse_response_head

DATE = b"Date: today"


def options(
    *, force: bool = False, sanitize: bool = False, kept: frozenset[bytes] = frozenset(), close: bool = False
) -> RewriteOptions:
    return RewriteOptions(force, sanitize, kept, close)


def head(*lines: bytes, start: bytes = b"GET /a?b HTTP/1.1", host: bytes = b"a.test") -> RequestHead:
    return parse_request_head(b"\r\n".join([start, b"Host: " + host, *lines]))


def prefix(one: RequestHead, *, close: bool = False, upgrade: bytes = b"") -> list[bytes]:
    forwarded = forwarded_for(one, b"1.2.3.4"), forwarded_proto(one, False, options())
    made = request_prefix(one, options(close=close), forwarded, b"id", 1234, upgrade)
    assert made.endswith(b"\r\n")
    return made.split(b"\r\n")[:-1]


VOUCHED = [b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: http", b"X-Vcap-Request-Id: id"]


def test_request_is_passed_on_with_what_the_router_adds() -> None:
    lines = prefix(head(b"accept: */*", b"Cookie: c", b"X: 1", b"X: 2"))

    assert lines == [
        b"GET /a?b HTTP/1.1",
        b"Host: a.test",
        b"accept: */*",
        b"Cookie: c",
        b"X: 1",
        b"X: 2",
        b"X-Request-Start: 1234",
        *VOUCHED,
    ]


@pytest.mark.parametrize(
    ("lines", "start", "expected"),
    [
        ([b"Content-Length: 5"], b"POST / HTTP/1.1", [b"Content-Length: 5"]),
        ([b"Content-Length: 0"], b"POST / HTTP/1.1", [b"Content-Length: 0"]),
        ([], b"POST / HTTP/1.1", [b"Content-Length: 0"]),
        ([], b"PUT / HTTP/1.0", [b"Content-Length: 0"]),
        ([], b"PATCH / HTTP/1.1", [b"Content-Length: 0"]),
        ([], b"DELETE / HTTP/1.1", []),
        ([b"Transfer-Encoding: CHUNKED"], b"POST / HTTP/1.1", [b"Transfer-Encoding: chunked"]),
        (
            [b"Transfer-Encoding: chunked", b"Trailer: X-Sum"],
            b"POST / HTTP/1.1",
            [b"Transfer-Encoding: chunked", b"Trailer: X-Sum"],
        ),
        ([b"Trailer: X-Sum"], b"GET / HTTP/1.1", []),
        ([b"TE: gzip, trailers"], b"GET / HTTP/1.1", [b"Te: trailers"]),
        ([b"TE: gzip"], b"GET / HTTP/1.1", []),
        (
            [b"Expect: 100-Continue", b"Content-Length: 1"],
            b"PUT / HTTP/1.1",
            [b"Content-Length: 1", b"Expect: 100-continue"],
        ),
        ([b"Expect: 100-continue", b"Content-Length: 1"], b"PUT / HTTP/1.0", [b"Content-Length: 1"]),
        ([b"Upgrade: h2c", b"HTTP2-Settings: x", b"Connection: Upgrade, HTTP2-Settings"], b"GET / HTTP/1.1", []),
        ([b"Keep-Alive: 5", b"Proxy-Connection: x", b"Proxy-Authorization: x"], b"GET / HTTP/1.1", []),
        ([b"X-Cf-ApplicationId: spoof", b"X-CF-InstanceID: s", b"X-Cf-App-Instance: s"], b"GET / HTTP/1.1", []),
        ([b"X-Cf-Process-Instance: kept"], b"GET / HTTP/1.1", [b"X-Cf-Process-Instance: kept"]),
        ([b"X-Vcap-Request-Id: spoof"], b"GET / HTTP/1.1", []),
    ],
)
def test_fields_of_a_request_go_on_by_their_rules(lines: list[bytes], start: bytes, expected: list[bytes]) -> None:
    made = prefix(head(*lines, start=start))

    assert [line for line in made[2:] if line not in (*VOUCHED, b"X-Request-Start: 1234")] == expected


def test_request_start_of_the_client_is_kept_even_if_empty() -> None:
    assert b"X-Request-Start: " in prefix(head(b"X-Request-Start: "))
    assert b"X-Request-Start: 1234" not in prefix(head(b"X-Request-Start: "))


def test_connection_to_the_endpoint_is_close_or_upgrade_or_not_mentioned() -> None:
    assert b"Connection: close" in prefix(head(), close=True)
    made = prefix(head(), close=True, upgrade=b"WebSocket")
    assert made[-5:-3] == [b"Connection: Upgrade", b"Upgrade: WebSocket"]
    assert b"Connection: close" not in made


def test_http_1_0_and_absolute_targets_go_on_as_http_1_1() -> None:
    assert prefix(head(start=b"GET /x HTTP/1.0"))[0] == b"GET /x HTTP/1.1"
    made = prefix(head(start=b"GET http://b.test/x HTTP/1.1"))
    assert made[:2] == [b"GET http://b.test/x HTTP/1.1", b"Host: b.test"]


def test_address_is_appended_to_what_the_client_claims() -> None:
    assert forwarded_for(head(), b"9.9.9.9") == b"9.9.9.9"
    assert forwarded_for(head(b"X-Forwarded-For: 1", b"X-Forwarded-For: 2"), b"9.9.9.9") == b"1, 2, 9.9.9.9"
    assert forwarded_for(head(b"X-Forwarded-For: "), b"9.9.9.9") == b"9.9.9.9"


@pytest.mark.parametrize(
    ("claimed", "secure", "how", "expected"),
    [
        (b"", False, options(), b"http"),
        (b"", True, options(), b"https"),
        (b"https", False, options(), b"https"),
        (b"https", False, options(sanitize=True), b"http"),
        (b"http", True, options(sanitize=True), b"https"),
        (b"http", False, options(force=True), b"https"),
        (b"http", False, options(force=True, sanitize=True), b"https"),
    ],
)
def test_scheme_is_forced_sanitized_or_believed(
    claimed: bytes, secure: bool, how: RewriteOptions, expected: bytes
) -> None:
    lines = [b"X-Forwarded-Proto: " + claimed] if claimed else []

    assert forwarded_proto(head(*lines), secure, how) == expected


def stripped(*lines: bytes, kept: frozenset[bytes] = frozenset()) -> RequestHead:
    one = head(*lines)
    strip_listed(one, options(kept=kept))
    return one


def test_listed_fields_are_dropped_however_they_are_spelt() -> None:
    one = stripped(b"Connection: X-One , x-TWO,close", b"x-one: 1", b"X-Two: 2", b"X-Three: 3", b"TE: trailers")

    assert one.lines == [b"X-Three: 3"]
    assert b"te" in one.special


def test_te_goes_on_though_it_has_to_be_listed() -> None:
    one = stripped(b"TE: trailers, gzip", b"Connection: TE")

    assert b"Te: trailers" in prefix(one)


def test_fields_that_frame_or_route_cannot_be_listed_away() -> None:
    lines = (b"Connection: Host, Content-Length, Transfer-Encoding, Connection, Upgrade", b"Content-Length: 5")
    one = stripped(*lines)

    assert (one.host, one.length) == (b"a.test", 5)
    assert {b"host", b"content-length", b"connection"} <= set(one.special)


def test_protected_fields_cannot_be_listed_away() -> None:
    one = stripped(b"Connection: X-One, X-Two", b"X-One: 1", b"X-Two: 2", kept=frozenset({b"x-one"}))

    assert one.lines == [b"X-One: 1"]


def test_what_the_router_sets_comes_back_after_being_listed() -> None:
    names = b"X-Forwarded-For, X-Forwarded-Proto, X-Vcap-Request-Id, X-Request-Start, X-Cf-Applicationid"
    one = stripped(b"Connection: " + names, b"X-Request-Start: 1", b"X-Forwarded-For: 6.6.6.6")

    assert [line for line in prefix(one) if line.startswith(b"X-")] == [b"X-Request-Start: 1234", *VOUCHED]


def test_what_is_logged_cannot_be_listed_away() -> None:
    one = stripped(b"Connection: User-Agent, Referer", b"User-Agent: ua", b"Referer: r")

    assert (one.special[b"user-agent"], one.special[b"referer"], one.lines) == (b"ua", b"r", [])


def test_stripping_does_not_touch_a_head_that_shares_the_block() -> None:
    first = head(b"Connection: X", b"X: 1")
    lines, special = first.lines, first.special
    strip_listed(first, options())

    assert lines == [b"X: 1"]
    assert special is not first.special


@pytest.mark.parametrize(
    ("lines", "start", "token"),
    [
        ([b"Connection: Upgrade", b"Upgrade: WebSocket"], b"GET / HTTP/1.1", b"WebSocket"),
        ([b"Connection: keep-alive, upgrade", b"Upgrade: websocket"], b"GET / HTTP/1.1", b"websocket"),
        ([b"Connection: Upgrade", b"Upgrade: websocket"], b"POST / HTTP/1.1", b""),
        ([b"Connection: Upgrade", b"Upgrade: websocket"], b"GET / HTTP/1.0", b""),
        ([b"Connection: Upgrade", b"Upgrade: h2c"], b"GET / HTTP/1.1", b""),
        ([b"Connection: Upgrade", b"Upgrade: websocket, h2c"], b"GET / HTTP/1.1", b""),
        ([b"Upgrade: websocket"], b"GET / HTTP/1.1", b""),
        ([b"Connection: Upgrade"], b"GET / HTTP/1.1", b""),
    ],
)
def test_only_a_proper_websocket_request_is_an_upgrade(lines: list[bytes], start: bytes, token: bytes) -> None:
    assert websocket_token(head(*lines, start=start)) == token


def answered(*lines: bytes, status: bytes = b"200 OK") -> list[bytes]:
    one = parse_response_head(b"\r\n".join([b"HTTP/1.1 " + status, *lines]), b"GET")
    return response_lines(one, b"id", DATE)


def test_response_gets_an_id_and_a_date_unless_it_has_them() -> None:
    assert answered(b"X: 1") == [b"X: 1", b"X-Vcap-Request-Id: id", DATE]
    own = [b"X-Vcap-Request-Id: own", b"Date: own"]
    assert answered(*own) == own


def test_response_loses_what_ends_here() -> None:
    made = answered(
        b"Connection: close, X-Hop", b"X-Hop: 1", b"Keep-Alive: 1", b"Upgrade: x", b"Date: d",
        b"X-Cf-Proxy-Signature: s", b"Content-Length: 0",
    )  # fmt: skip

    assert made == [b"Date: d", b"X-Vcap-Request-Id: id"]


def test_trailers_are_announced_for_chunked_bodies_alone() -> None:
    assert b"Trailer: X-Sum" in answered(b"Transfer-Encoding: chunked", b"Trailer: X-Sum")
    assert b"Trailer: X-Sum" not in answered(b"Content-Length: 1", b"Trailer: X-Sum")


def test_size_is_that_of_gorouters_formula() -> None:
    one = head(b"Name: value")
    # Method, target and version with 4 more, and each name and value with 4 more.
    assert header_size(one) == (3 + 4 + 8 + 4) + (6 + 8) + (4 + 5 + 4)


def test_host_does_not_count_among_the_headers() -> None:
    assert header_count(head(b"X: 1", b"X: 2")) == 2
    assert header_count(parse_request_head(b"GET / HTTP/1.0\r\nX: 1")) == 1
