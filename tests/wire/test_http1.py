import contextlib

import httptools
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.wire import http1
from router.wire.header_lines import BadMessage
from router.wire.http1 import (
    CHUNKED,
    LENGTH,
    NO_BODY,
    UNTIL_CLOSE,
    RequestHead,
    UnsupportedVersion,
    parse_request_head,
    parse_response_head,
)

HOST = b"Host: app.test"
fuzz = settings(deadline=None, derandomize=True, max_examples=200)


def request(*lines: bytes, start: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join([start, *lines])


def get(*lines: bytes, start: bytes = b"GET / HTTP/1.1") -> RequestHead:
    return parse_request_head(request(HOST, *lines, start=start))


def refusal(raw: bytes) -> tuple[int, str]:
    with pytest.raises(BadMessage) as caught:
        parse_request_head(raw)
    return caught.value.status, caught.value.reason


def accepted(raw: bytes) -> RequestHead | None:
    try:
        return parse_request_head(raw)
    except BadMessage:
        return None


class Oracle:
    """What llhttp, in its strict mode, makes of a request."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def read_by_llhttp(raw: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    oracle = Oracle()
    parser = httptools.HttpRequestParser(oracle)
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(raw + b"\r\n\r\n")
    return parser.get_method(), oracle.target, oracle.headers


def is_refused_by_llhttp(raw: bytes) -> bool:
    try:
        read_by_llhttp(raw)
    except httptools.HttpParserError:
        return True
    return False


# Requests.


def test_request_is_read() -> None:
    head = get(b"Accept: */*", b"User-Agent: \t ua/1 \t", start=b"GET /a?b HTTP/1.1")

    assert (head.method, head.target, head.path, head.minor) == (b"GET", b"/a?b", b"/a?b", 1)
    assert head.host == b"app.test"
    assert head.lines == [b"Accept: */*", b"User-Agent: \t ua/1 \t"]
    assert head.special == {b"host": b"app.test", b"user-agent": b"ua/1"}
    assert (head.framing, head.length, head.keep_alive, head.count) == (NO_BODY, 0, True, 3)
    assert head.size == len(request(HOST, b"Accept: */*", b"User-Agent: \t ua/1 \t", start=b"GET /a?b HTTP/1.1"))


def test_http_1_0_needs_no_host_and_closes_unless_asked() -> None:
    head = parse_request_head(b"GET / HTTP/1.0")

    assert (head.minor, head.host, head.keep_alive) == (0, b"", False)
    assert parse_request_head(b"GET / HTTP/1.0\r\nConnection: Keep-Alive").keep_alive
    assert not parse_request_head(b"GET / HTTP/1.0\r\nConnection: keep-alive, close").keep_alive


@pytest.mark.parametrize(
    ("connection", "stays"),
    [
        (b"keep-alive", True),
        (b"Close", False),
        (b"x, close ,y", False),
        (b"closed", True),
        (b"", True),
        (b"upgrade", True),
    ],
)
def test_connection_field_decides_over_keep_alive(connection: bytes, stays: bool) -> None:
    assert get(b"Connection: " + connection).keep_alive is stays


def test_connection_lines_count_together() -> None:
    assert get(b"Connection: x", b"Connection: close").special[b"connection"] == b"x, close"


@pytest.mark.parametrize(
    ("lines", "framing", "length"),
    [
        ([b"Content-Length: 5"], LENGTH, 5),
        ([b"Content-Length: 0"], NO_BODY, 0),
        ([b"Content-Length: 007"], LENGTH, 7),
        ([b"Content-Length: 5", b"content-length:5 "], LENGTH, 5),
        ([b"Content-Length: 999999999999999999"], LENGTH, 10**18 - 1),
        ([b"Transfer-Encoding: chunked"], CHUNKED, 0),
        ([b"transfer-encoding: CHUNKED"], CHUNKED, 0),
    ],
)
def test_body_is_framed(lines: list[bytes], framing: int, length: int) -> None:
    head = get(*lines, start=b"POST / HTTP/1.1")

    assert (head.framing, head.length) == (framing, length)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"Content-Length: 5", b"Content-Length: 6"], 400),
        ([b"Content-Length: 5, 5"], 400),
        ([b"Content-Length: +5"], 400),
        ([b"Content-Length: -5"], 400),
        ([b"Content-Length: 5.0"], 400),
        ([b"Content-Length: 0x5"], 400),
        ([b"Content-Length: 5 6"], 400),
        ([b"Content-Length: \xb2"], 400),
        ([b"Content-Length:"], 400),
        ([b"Content-Length: 1" + b"0" * 18], 400),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], 400),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 0"], 400),
        ([b"Transfer-Encoding: gzip"], 501),
        ([b"Transfer-Encoding: gzip, chunked"], 501),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 501),
        ([b"Transfer-Encoding: chunked, identity"], 501),
        ([b"Transfer-Encoding:"], 501),
        ([b"Transfer-Encoding: \xa0chunked"], 501),
    ],
)
def test_framing_in_doubt_is_refused(lines: list[bytes], status: int) -> None:
    assert refusal(request(HOST, *lines, start=b"POST / HTTP/1.1"))[0] == status


def test_chunked_body_of_http_1_0_is_refused() -> None:
    assert refusal(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked")[0] == 400


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET /",
        b"GET  / HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET /a b HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /\xc3\xbc HTTP/1.1",
        b"G(T / HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1",
        b"GET / HTTP/1.1\r",
        b"GET / HTTP/1.1\nX: y",
    ],
)
def test_malformed_request_line_is_refused(line: bytes) -> None:
    assert refusal(request(HOST, start=line)) == (400, "malformed request line")


@pytest.mark.parametrize(
    ("line", "major", "version", "host"),
    [
        (b"GET / HTTP/1.2", 1, b"HTTP/1.2", b"a.test"),
        (b"GET / HTTP/2.0", 2, b"HTTP/2.0", b""),
        (b"GET / HTTP/0.9", 0, b"HTTP/0.9", b""),
        (b"PRI * HTTP/2.0", 2, b"HTTP/2.0", b""),
    ],
)
def test_other_version_is_told_apart(line: bytes, major: int, version: bytes, host: bytes) -> None:
    with pytest.raises(UnsupportedVersion) as caught:
        parse_request_head(request(b"Host: a.test", start=line))

    error = caught.value
    assert (error.status, error.major, error.version, error.head.host) == (505, major, version, host)


@pytest.mark.parametrize("lines", [[], [b"Host: a", b"Host: b"], [b"Host: a", b"no colon"]])
def test_mistakes_below_the_line_count_for_more_than_another_1_x_version(lines: list[bytes]) -> None:
    assert refusal(request(*lines, start=b"GET / HTTP/1.2"))[0] == 400


@pytest.mark.parametrize(
    "line",
    [
        b"NoColon",
        b": value",
        b"Name : value",
        b"Na me: value",
        b" Folded: value",
        b"\tfolded",
        b"X: a\x00b",
        b"X: a\x1fb",
        b"X: a\x7fb",
        b"X: a\rb",
        b"X: a\nb",
        b"X: a\r",
        b"N\xc3\xa4me: value",
        b"Name;: value",
        b"",
    ],
)
def test_malformed_header_line_is_refused(line: bytes) -> None:
    assert refusal(request(HOST, line)) == (400, "malformed header line")
    assert refusal(request(HOST, line, b"After: it")) == (400, "malformed header line")


@pytest.mark.parametrize("value", [b"\x80\xff", b"\xc3\xbc", b"a\tb", b"", b"  "])
def test_unusual_but_allowed_values_pass_unchanged(value: bytes) -> None:
    assert get(b"X: " + value).lines == [b"X: " + value]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "missing required Host header"),
        ([HOST, HOST], "too many Host headers"),
        ([b"Host: a.test, b.test"], "malformed Host header"),
        ([b"Host: a.test,b.test"], "malformed Host header"),
        ([b"Host: user@a.test"], "malformed Host header"),
        ([b"Host: a.test/x"], "malformed Host header"),
        ([b"Host: a.test:80:80"], "malformed Host header"),
        ([b"Host: a.test:x"], "malformed Host header"),
        ([b"Host: [::1"], "malformed Host header"),
        ([b"Host: a\\b"], "malformed Host header"),
    ],
)
def test_host_is_given_once_and_well_formed(lines: list[bytes], reason: str) -> None:
    assert refusal(request(*lines)) == (400, reason)


@pytest.mark.parametrize(
    "host", [b"a.test", b"a.test:8080", b"a.test:", b"[::1]:80", b"10.0.0.1", b"a_b.test", b""]
)
def test_host_is_kept_as_sent(host: bytes) -> None:
    assert parse_request_head(request(b"Host: " + host)).host == host


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"http://other.test/a?b", b"other.test", b"/a?b"),
        (b"HTTPS://Other.test:1", b"Other.test:1", b"/"),
        (b"http://other.test?q", b"other.test", b"/?q"),
    ],
)
def test_absolute_target_names_the_host(target: bytes, host: bytes, path: bytes) -> None:
    head = get(start=b"GET " + target + b" HTTP/1.1")

    assert (head.target, head.host, head.path) == (target, host, path)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"GET a HTTP/1.1", "malformed request target"),
        (b"GET http:///a HTTP/1.1", "malformed request target"),
        (b"GET ftp://a.test/ HTTP/1.1", "malformed request target"),
        (b"GET * HTTP/1.1", "malformed request target"),
        (b"OPTIONS ** HTTP/1.1", "malformed request target"),
        (b"GET http://u@a.test/ HTTP/1.1", "malformed Host header"),
        (b"CONNECT a.test:443 HTTP/1.1", "CONNECT is not supported"),
        (b"CONNECT /a HTTP/1.1", "CONNECT is not supported"),
        (b"GET /%zz HTTP/1.1", "invalid URL escape"),
        (b"GET /% HTTP/1.1", "invalid URL escape"),
        (b"GET http://a.test/%2 HTTP/1.1", "invalid URL escape"),
    ],
)
def test_target_in_no_allowed_form_is_refused(start: bytes, reason: str) -> None:
    assert refusal(request(HOST, start=start)) == (400, reason)


def test_escapes_are_judged_in_the_path_alone_and_kept() -> None:
    assert get(start=b"GET /%2F%61?%zz HTTP/1.1").path == b"/%2F%61?%zz"
    assert get(start=b"OPTIONS * HTTP/1.1").target == b"*"


def test_fields_that_end_here_are_taken_out() -> None:
    head = get(b"Keep-Alive: 5", b"TE: trailers", b"Upgrade: h2c", b"HTTP2-Settings: AAA", b"X: kept")

    assert head.lines == [b"X: kept"]
    assert head.special[b"te"] == b"trailers"


def test_forwarded_for_lines_are_joined_and_of_others_the_first_counts() -> None:
    head = get(
        b"X-Forwarded-For: 1", b"X-Forwarded-Proto: https", b"X-Forwarded-For: 2", b"X-Forwarded-Proto: http"
    )

    assert head.special[b"x-forwarded-for"] == b"1, 2"
    assert head.special[b"x-forwarded-proto"] == b"https"
    assert head.lines == []


@pytest.mark.parametrize(
    "name", [b"X_Forwarded_For", b"x_cf-applicationid", b"Content_Length", b"X-Vcap_Request_Id"]
)
def test_look_alikes_of_fields_the_router_vouches_for_are_dropped(name: bytes) -> None:
    head = get(name + b": spoofed", b"My_Header: kept")

    assert head.lines == [b"My_Header: kept"]
    assert (head.framing, list(head.special)) == (NO_BODY, [b"host"])


def test_line_seen_before_is_read_the_same_again() -> None:
    first, second = get(b"Referer: r", b"X: 1"), get(b"Referer: r", b"X: 1")

    assert (first.lines, first.special) == (second.lines, second.special)
    for _ in range(2):
        assert refusal(request(b"Host: a b"))[1] == "malformed Host header"


def test_repeated_block_is_read_as_if_it_were_the_first() -> None:
    lines = (b"X: 1", b"Connection: close, x", b"Content-Length: 3")
    first = get(*lines, start=b"POST http://other.test/ HTTP/1.1")
    again = parse_request_head(request(HOST, *lines, start=b"POST /b HTTP/1.1"), first)
    alone = get(*lines, start=b"POST /b HTTP/1.1")

    for name in RequestHead.__slots__:
        assert getattr(again, name) == getattr(alone, name), name


def test_block_repeated_under_another_minor_version_is_read_anew() -> None:
    old = parse_request_head(b"GET / HTTP/1.0\r\nX: 1")

    with pytest.raises(BadMessage, match="missing required Host header"):
        parse_request_head(b"GET / HTTP/1.1\r\nX: 1", old)


# Against llhttp.

tokens = st.text("!#$%&'*+-.^_`|~0123456789azAZ", min_size=1, max_size=8).map(str.encode)
values = st.binary(max_size=12) | st.sampled_from([b"chunked", b"5", b"close", b"websocket", b"a, b", b""])
names = tokens | st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"X"]
)
separators = st.sampled_from([b": ", b":", b":\t", b" :", b"", b": \r\n "])
methods = st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"DELETE", b"PUT"])
targets = st.sampled_from([b"/", b"/a?b=c", b"*", b"http://x.test/y", b"/%41", b"a"]) | st.binary(
    min_size=1, max_size=6
)
versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.1 ", b"HTTP/2.0", b""])
field_lines = st.builds(lambda name, separator, value: name + separator + value, names, separators, values)
heads = st.builds(
    lambda method, target, version, lines: b"\r\n".join([b" ".join([method, target, version]), *lines]),
    methods,
    targets,
    versions,
    st.lists(field_lines, max_size=4).map(lambda lines: [HOST, *lines]) | st.lists(field_lines, max_size=4),
)


@fuzz
@given(heads)
def test_what_is_accepted_is_accepted_by_llhttp_with_the_same_meaning(raw: bytes) -> None:
    head = accepted(raw)
    if head is None:
        return
    method, target, headers = read_by_llhttp(raw)

    assert (method, target) == (head.method, head.target)
    assert len(headers) == head.count
    kept = [tuple(part.strip(b" \t") for part in line.split(b":", 1)) for line in head.lines]
    assert [each for each in kept if each not in [(name, value.strip(b" \t")) for name, value in headers]] == []


@fuzz
@given(heads, st.integers(0, 200), st.binary(min_size=1, max_size=2))
def test_what_llhttp_refuses_is_refused_after_any_change(raw: bytes, place: int, noise: bytes) -> None:
    place %= len(raw) + 1
    changed = raw[:place] + noise + raw[place:]
    # More heads than one are not a parser of one head's business.
    assume(b"\r\n\r\n" not in changed)
    # llhttp knows a list of methods, we any token.
    assume(changed.partition(b" ")[0] == raw.partition(b" ")[0])
    assume(is_refused_by_llhttp(changed))

    with pytest.raises(BadMessage):
        parse_request_head(changed)


plain_values = st.text("".join(map(chr, [9, *range(32, 127), *range(128, 256)])), max_size=8)
plain_lines = st.builds(
    lambda name, value: b"X-%b: %b" % (name.replace(b"_", b"-"), value.encode("latin-1")), tokens, plain_values
)


@fuzz
@given(st.sampled_from([b"GET", b"POST", b"DELETE"]), st.lists(plain_lines, max_size=5))
def test_ordinary_requests_that_llhttp_accepts_are_accepted(method: bytes, lines: list[bytes]) -> None:
    raw = request(HOST, *lines, start=method + b" /a HTTP/1.1")

    assert not is_refused_by_llhttp(raw)
    assert parse_request_head(raw).lines == lines


# Responses.


def respond(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET") -> http1.ResponseHead:
    return parse_response_head(b"\r\n".join([start, *lines]), method)


@pytest.mark.parametrize(
    ("lines", "start", "method", "framing", "length"),
    [
        ([b"Content-Length: 5"], b"HTTP/1.1 200 OK", b"GET", LENGTH, 5),
        ([b"Content-Length: 0"], b"HTTP/1.1 200 OK", b"GET", NO_BODY, 0),
        ([b"Content-Length: 5"], b"HTTP/1.1 200 OK", b"HEAD", NO_BODY, 5),
        ([b"Content-Length: 5"], b"HTTP/1.1 304 Not Modified", b"GET", NO_BODY, 5),
        ([b"Content-Length: 5"], b"HTTP/1.1 204 No Content", b"GET", NO_BODY, 5),
        ([b"Transfer-Encoding: Chunked"], b"HTTP/1.1 200 OK", b"GET", CHUNKED, -1),
        ([b"Transfer-Encoding: chunked"], b"HTTP/1.1 200 OK", b"HEAD", NO_BODY, -1),
        ([], b"HTTP/1.1 200 OK", b"GET", UNTIL_CLOSE, -1),
        ([], b"HTTP/1.0 200 OK", b"GET", UNTIL_CLOSE, -1),
        ([], b"HTTP/1.1 103 Early Hints", b"GET", NO_BODY, -1),
        ([], b"HTTP/1.1 200", b"GET", UNTIL_CLOSE, -1),
        ([], b"HTTP/1.1 999 \xe4", b"GET", UNTIL_CLOSE, -1),
    ],
)
def test_response_is_framed(lines: list[bytes], start: bytes, method: bytes, framing: int, length: int) -> None:
    head = respond(*lines, start=start, method=method)

    assert (head.framing, head.length) == (framing, length)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/2.0 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 OK\nX: y",
        b"HTTP/1.1 200 OK\r\nX : y",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5x",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
    ],
)
def test_response_in_doubt_is_refused(raw: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_response_head(raw, b"GET")


def test_response_keeps_its_lines_but_those_that_end_here() -> None:
    head = respond(b"Date: now", b"Keep-Alive: 5", b"X-Cf-Proxy-Signature: s", b"X-Cf-RouterError: e", b"X: y")

    assert head.lines == [b"Date: now", b"X-Cf-RouterError: e", b"X: y"]
    assert (head.special[b"date"], head.special[b"x-cf-routererror"]) == (b"now", b"e")


def test_response_says_whether_its_connection_stays() -> None:
    assert respond().keep_alive
    assert not respond(b"Connection: close").keep_alive
    assert not respond(start=b"HTTP/1.0 200 OK").keep_alive
    assert respond(b"Connection: keep-alive", start=b"HTTP/1.0 200 OK").keep_alive


def test_head_of_ever_so_many_tiny_lines_is_refused() -> None:
    with pytest.raises(BadMessage) as refused:
        parse_request_head(b"GET / HTTP/1.1\r\nHost: a" + b"\r\na:" * 25_000)
    assert refused.value.status == 431
    head = parse_request_head(b"GET / HTTP/1.1\r\nHost: a" + b"\r\na:" * 20_000)
    assert head.count == 20_001


def test_unknown_expectation_is_refused_after_everything_else() -> None:
    assert refusal(request(HOST, b"Expect: tea")) == (417, "unknown expectation")
    assert refusal(request(HOST, b"Expect: tea", start=b"GET /%zz HTTP/1.1"))[0] == 400
    assert refusal(request(b"Expect: tea"))[0] == 400
    assert get(b"Expect: 100-Continue").special[b"expect"] == b"100-Continue"
