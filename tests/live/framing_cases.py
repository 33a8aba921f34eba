"""The table of request shapes for `test_framing`: what is sent, and what may come of it.

A case is bytes with ``HOST`` standing for the routed host. Verdicts:

* ``REJECT``: 4xx or 5xx of the router's own, connection closed, no byte of it reaches a backend.
* ``REFUSE``: answered with such a status and not forwarded; being well framed, the connection may go on.
* ``CUT``: the head was good and may have been forwarded; the body is not: 400 or a cut connection, and the
  backend is never shown the end of a message.
* ``PASS``: 200, and what the backend got is strict.
* ``EITHER``: the RFC leaves a choice; whatever it is, what reaches the backend is strict, and counts agree.
"""

from typing import NamedTuple

REJECT, REFUSE, CUT, PASS, EITHER = "reject", "refuse", "cut", "pass", "either"


class Case(NamedTuple):
    name: str
    raw: bytes
    verdict: str
    statuses: frozenset[int] = frozenset({400})


HOST_LINE = b"Host: HOST\r\n"
BODY_5 = b"hello"
CHUNKED_5 = b"5\r\nhello\r\n0\r\n\r\n"


def _get(*lines: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: HOST", *lines]) + b"\r\n\r\n"


def _post(*lines: bytes, body: bytes = b"") -> bytes:
    return _get(*lines, line=b"POST / HTTP/1.1") + body


def _show(raw: bytes) -> str:
    return raw.decode("latin-1").encode("unicode_escape").decode() or "empty"


def transfer_encodings() -> list[Case]:
    """Transfer-Encoding that is anything but one plain ``chunked``."""
    values = (
        [
            b"xchunked",
            b"chunkedx",
            b"chunke",
            b'"chunked"',
            b"'chunked'",
            b"chunked, identity",
            b"identity, chunked",
            b"identity",
            b"gzip",
            b"gzip, chunked",
            b"chunked, gzip",
            b"chunked, chunked",
            b"chunked,",
            b",chunked",
            b"chunked;q=1",
            b"chunked; foo=bar",
            b"chunked foo",
            b"cow",
            b"",
            b"chun\tked",
            b"chunked\x0b",
            b"\x0bchunked",
            b"chunked\x0c",
            b"\x0cchunked",
            b"\x00chunked",
            b"chunked\x00",
            b"\xa0chunked",
            b"chunked\xa0",
            b"\xffchunked",
            b"ch\xc3\xbcnked",
            b"\xef\xbd\x83hunked",
            b"[chunked]",
            b"{chunked}",
            b"chunked\x7f",
            b"\x1fchunked",
            b"chunked\x01",
            b"chunked\x1b[0m",
            b"\\chunked",
            b"chunked\\",
            b"/chunked",
            b"chunked:",
            b"trailers",
            b"deflate",
            b"*",
            b"0",
        ]
        + [b"chunked%c" % byte for byte in b"!#$%&*+-.^_`|~"]
        + [b"%cchunked" % byte for byte in b"!#$%&*+-.^_`|~"]
    )
    cases = [
        Case(
            f"te {_show(value)}",
            _post(b"Transfer-Encoding: " + value, body=CHUNKED_5),
            REJECT,
            frozenset({400, 501}),
        )
        for value in values
    ]
    for first, second in [
        (b"chunked", b"chunked"),
        (b"chunked", b"identity"),
        (b"identity", b"chunked"),
        (b"x", b"y"),
    ]:
        raw = _post(b"Transfer-Encoding: " + first, b"Transfer-Encoding: " + second, body=CHUNKED_5)
        cases.append(Case(f"te twice {_show(first)} {_show(second)}", raw, REJECT, frozenset({400, 501})))
    raw = _post(b"Transfer-Encoding: chunked", body=CHUNKED_5).replace(b"HTTP/1.1", b"HTTP/1.0")
    cases.append(Case("te in HTTP/1.0", raw, REJECT, frozenset({400, 501})))
    return cases


def good_transfer_encodings() -> list[Case]:
    spellings = [
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: chunked",
        b"TRANSFER-ENCODING: CHUNKED",
        b"Transfer-Encoding: Chunked",
        b"Transfer-Encoding:chunked",
        b"Transfer-Encoding:   chunked",
        b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding: chunked ",
        b"Transfer-Encoding: chunked\t",
        b"Transfer-Encoding: \t chunked \t",
    ]
    return [Case(f"good te {_show(line)}", _post(line, body=CHUNKED_5), PASS) for line in spellings]


def both_framings() -> list[Case]:
    """Content-Length beside Transfer-Encoding, in both orders and every spelling."""
    codings = [
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: chunked",
        b"TRANSFER-ENCODING: chunked",
        b"Transfer-Encoding:chunked",
        b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding: CHUNKED",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding : chunked",
        b" Transfer-Encoding: chunked",
        b"Transfer-Encoding\t: chunked",
        b"Transfer-Encoding: \x0bchunked",
        b"X: x\nTransfer-Encoding: chunked",
        b"X: x\rTransfer-Encoding: chunked",
        b"Transfer-Encoding\r\n: chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding:\n chunked",
        b'Transfer-Encoding: "chunked"',
        b"Transfer\x00-Encoding: chunked",
        b"Transfer-Encoding\x00: chunked",
    ]
    lengths = [b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 15", b"content-length: 6"]
    cases = []
    for coding in codings:
        for length in lengths:
            for lines in ((coding, length), (length, coding)):
                name = f"both {_show(lines[0])} and {_show(lines[1])}"
                cases.append(Case(name, _post(*lines, body=CHUNKED_5), REJECT, frozenset({400, 501})))
    return cases


def content_lengths() -> list[Case]:
    values = [
        b"",
        b"+5",
        b"-5",
        b"-0",
        b"5 5",
        b"5,5",
        b"5, 6",
        b"5;5",
        b"0x5",
        b"5x",
        b"x5",
        b"5.0",
        b"5e0",
        b"1_0",
        b'"5"',
        b"five",
        b"\x0b5",
        b"5\x0b",
        b"5\x0c",
        b"5\x00",
        b"\xa05",
        b"5\xa0",
        b"\xd9\xa5",
        b"\xef\xbc\x95",
        b"9223372036854775808",
        b"18446744073709551616",
        b"18446744073709551621",
        b"99999999999999999999999999",
        b"5\x01",
        b"5\t5",
        b"++5",
        b"5-",
        b"5:",
        b"nan",
        b"inf",
    ]
    cases = [
        Case(f"cl {_show(value)}", _post(b"Content-Length: " + value, body=BODY_5), REJECT) for value in values
    ]
    for first, second in [(b"5", b"6"), (b"6", b"5"), (b"5", b"05"), (b"0", b"5"), (b"5", b"+5"), (b"5", b"")]:
        raw = _post(b"Content-Length: " + first, b"Content-Length: " + second, body=BODY_5)
        cases.append(Case(f"cl {_show(first)} and {_show(second)}", raw, REJECT))
    raw = _post(b"Content-Length: 5", b"Content-Length: 5", body=BODY_5)
    cases.append(Case("cl twice the same", raw, EITHER))
    cases.append(Case("cl same in a list", _post(b"Content-Length: 5, 5", body=BODY_5), EITHER))
    for value in (b"5", b"05", b"0000000005", b" 5 ", b"\t5\t"):
        verdict = PASS if value.strip() == b"5" else EITHER
        cases.append(Case(f"good cl {_show(value)}", _post(b"Content-Length:" + value, body=BODY_5), verdict))
    for name in (
        b"Content-Length ",
        b"Content-Length\t",
        b" Content-Length",
        b"\tContent-Length",
        b"Content Length",
    ):
        cases += [Case(f"cl name {_show(name)}", _post(name + b": 5", body=BODY_5), REJECT)]
    for name in (b"Content_Length", b"Content-Lengt", b"X-Content-Length"):
        raw = _post(name + b": 5", b"Content-Length: 5", body=BODY_5)
        cases += [Case(f"look-alike {_show(name)}", raw, EITHER)]
    return cases


def lines_and_bytes() -> list[Case]:
    """Line ends, control bytes, folding, names and colons."""
    good = _get(b"X-A: 1")
    cases = [
        Case("bare LF everywhere", good.replace(b"\r\n", b"\n"), REJECT),
        Case("bare LF after request line", good.replace(b"\r\n", b"\n", 1), REJECT),
        Case("bare LF between fields", good.replace(b"HOST\r\n", b"HOST\n"), REJECT),
        Case("bare LF ends last field", good.replace(b"1\r\n\r\n", b"1\n\r\n"), REJECT),
        Case("bare LF ends head", good[:-2] + b"\n", REJECT),
        Case("LF LF ends head", good[:-4] + b"\n\n", REJECT),
        Case("CR CR LF", good.replace(b"HOST\r\n", b"HOST\r\r\n"), REJECT),
        Case("bare CR in value", _get(b"X-A: 1\r2"), REJECT),
        Case("bare CR in name", _get(b"X\r-A: 1"), REJECT),
        Case("bare CR in request line", _get(line=b"GET /\r HTTP/1.1"), REJECT),
        Case("bare CR hides a field", _get(b"X-A: 1\rContent-Length: 5"), REJECT),
        Case("bare LF hides a field", _get(b"X-A: 1\nContent-Length: 5"), REJECT),
        Case("LF CR", good.replace(b"\r\n", b"\n\r"), REJECT),
        Case("obs-fold with space", _get(b"X-A: 1\r\n 2"), REJECT),
        Case("obs-fold with tab", _get(b"X-A: 1\r\n\t2"), REJECT),
        Case("obs-fold in first field", b"GET / HTTP/1.1\r\n X: 1\r\nHost: HOST\r\n\r\n", REJECT),
        Case("obs-fold of nothing", _get(b"X-A: 1\r\n "), REJECT),
        Case("obs-fold hides length", _get(b"X-A: 1\r\n Content-Length: 5"), REJECT),
        Case("field line of spaces", _get(b"   "), REJECT),
        Case("leading space line", b" " + good, REJECT),
        Case("leading tab", b"\t" + good, REJECT),
        Case("leading NUL", b"\0" + good, REJECT),
        Case("leading LF", b"\n" + good, EITHER),
        Case("leading CRLF", b"\r\n" + good, EITHER),
        Case("two leading CRLF", b"\r\n\r\n" + good, EITHER),
        Case("leading CR", b"\r" + good, REJECT),
        Case("no colon", _get(b"X-A"), REJECT),
        Case("no colon but equals", _get(b"X-A=1"), REJECT),
        Case("space before colon", _get(b"X-A : 1"), REJECT),
        Case("tab before colon", _get(b"X-A\t: 1"), REJECT),
        Case("empty name", _get(b": 1"), REJECT),
        Case("space in name", _get(b"X A: 1"), REJECT),
        Case("name in quotes", _get(b'"X-A": 1'), REJECT),
        Case("umlaut in name", _get(b"X-\xfc: 1"), REJECT),
        Case("utf-8 in name", _get("X-ü: 1".encode()), REJECT),
        Case("DEL in name", _get(b"X-\x7f: 1"), REJECT),
        Case("value with latin-1", _get(b"X-A: \xfc\xe9"), EITHER),
        Case("value with utf-8", _get("X-A: ü€".encode()), EITHER),
        Case("empty value", _get(b"X-A:"), PASS),
        Case("blank value", _get(b"X-A:   "), PASS),
        Case("tab in value", _get(b"X-A: 1\t2"), PASS),
        Case("colon in value", _get(b"X-A: b:c:d"), PASS),
        Case("no space after colon", _get(b"X-A:1"), PASS),
        Case("same field twice", _get(b"X-A: 1", b"X-A: 2"), PASS),
        Case("strange but legal name", _get(b"!#$%&'*+-.^_`|~1aZ: 1"), PASS),
    ]
    controls = [byte for byte in range(32) if byte not in (9, 10, 13)] + [127]
    for byte in controls:
        character = bytes([byte])
        cases.append(Case(f"control {byte:#04x} in value", _get(b"X-A: 1" + character + b"2"), REJECT))
        cases.append(Case(f"control {byte:#04x} in name", _get(b"X" + character + b"A: 1"), REJECT))
        cases.append(
            Case(f"control {byte:#04x} in target", _get(line=b"GET /" + character + b"a HTTP/1.1"), REJECT)
        )
        cases.append(
            Case(f"control {byte:#04x} in method", _get(line=b"GE" + character + b"T / HTTP/1.1"), REJECT)
        )
    for byte in b'(),/:;<=>?@[\\]{}" ':
        verdict = PASS if byte == ord(":") else REJECT
        cases += [Case(f"separator {chr(byte)!r} in name", _get(b"X%cA: 1" % byte), verdict)]
    for byte in b'(),/:;<=>?@[\\]{}"':
        line = b"GE%cT / HTTP/1.1" % byte
        cases.append(Case(f"separator {chr(byte)!r} in method", _get(line=line), REJECT))
    return cases


def chunks() -> list[Case]:
    """Bodies in the chunked coding; the head is good."""

    def case(name: str, body: bytes, verdict: str = CUT) -> Case:
        return Case(f"chunk {name}", _post(b"Transfer-Encoding: chunked", body=body), verdict)

    end = b"0\r\n\r\n"
    return [
        case("plain", CHUNKED_5, PASS),
        case("empty body", end, PASS),
        case("several", b"1\r\nh\r\n4\r\nello\r\n" + end, PASS),
        case("upper-case hex", b"A\r\n0123456789\r\n" + end, PASS),
        case("lower-case hex", b"a\r\n0123456789\r\n" + end, PASS),
        case("leading zeros", b"0005\r\nhello\r\n" + end, EITHER),
        case("many leading zeros", b"0" * 30 + b"5\r\nhello\r\n" + end, EITHER),
        case("many zeros as last", b"5\r\nhello\r\n000\r\n\r\n", EITHER),
        case("extension", b"5;a=b\r\nhello\r\n" + end, EITHER),
        case("quoted extension", b'5;a="b;c"\r\nhello\r\n' + end, EITHER),
        case("extension without value", b"5;a\r\nhello\r\n" + end, EITHER),
        case("extension on last", b"5\r\nhello\r\n0;a=b\r\n\r\n", EITHER),
        case("space before extension", b"5 ;a=b\r\nhello\r\n" + end, EITHER),
        case("trailing space", b"5 \r\nhello\r\n" + end, EITHER),
        case("trailing tab", b"5\t\r\nhello\r\n" + end, EITHER),
        case("LF in extension", b"5;a\nb\r\nhello\r\n" + end),
        case("CR in extension", b"5;a\rb\r\nhello\r\n" + end),
        case("NUL in extension", b"5;a\0b\r\nhello\r\n" + end),
        case("extension cut by LF", b"5;\nhello\r\n" + end),
        case("huge extension", b"5;" + b"a" * 20_000 + b"\r\nhello\r\n" + end),
        case("leading space", b" 5\r\nhello\r\n" + end),
        case("0x prefix", b"0x5\r\nhello\r\n" + end),
        case("plus sign", b"+5\r\nhello\r\n" + end),
        case("minus sign", b"-5\r\nhello\r\n" + end),
        case("minus zero", b"5\r\nhello\r\n-0\r\n\r\n"),
        case("underscore", b"0_5\r\nhello\r\n" + end),
        case("letter", b"g\r\nhello\r\n" + end),
        case("empty size", b"\r\nhello\r\n" + end),
        case("only extension", b";a=b\r\nhello\r\n" + end),
        case("quoted", b'"5"\r\nhello\r\n' + end),
        case("comma", b"5,5\r\nhello\r\n" + end),
        case("two sizes", b"5 5\r\nhello\r\n" + end),
        case("overflow 64 bit", b"10000000000000005\r\nhello\r\n" + end),
        case("overflow 128 bit", b"1" + b"0" * 31 + b"5\r\nhello\r\n" + end),
        case("all f", b"ffffffffffffffff\r\nhello\r\n" + end),
        case("all f and one", b"fffffffffffffffff\r\nhello\r\n" + end),
        case("LF after size", b"5\nhello\r\n" + end),
        case("CR after size", b"5\rhello\r\n" + end),
        case("LF after data", b"5\r\nhello\n" + end),
        case("CR after data", b"5\r\nhello\r" + end),
        case("nothing after data", b"5\r\nhello" + end),
        case("longer data", b"5\r\nhello!\r\n" + end),
        case("much longer data", b"5\r\nhello worlds\r\n" + end),
        case("shorter data", b"6\r\nhello\r\n" + end),
        case("LF ends last", b"5\r\nhello\r\n0\n\r\n"),
        case("LF ends body", b"5\r\nhello\r\n0\r\n\n"),
        case("CR CR ends body", b"5\r\nhello\r\n0\r\n\r\r"),
        case("control byte in size", b"5\x01\r\nhello\r\n" + end),
        case("NUL size", b"\x005\r\nhello\r\n" + end),
        case("vertical tab", b"5\x0b\r\nhello\r\n" + end),
        case("full-width digit", b"\xef\xbc\x95\r\nhello\r\n" + end),
        case("latin-1 superscript", b"\xb2\r\nhello\r\n" + end),
    ]


def trailers() -> list[Case]:
    """Trailer sections; fields that frame or route may not come through."""

    def case(name: str, lines: bytes, verdict: str) -> Case:
        body = b"5\r\nhello\r\n0\r\n" + lines + b"\r\n"
        return Case(f"trailer {name}", _post(b"Transfer-Encoding: chunked", body=body), verdict)

    forbidden = [b"Transfer-Encoding: chunked", b"Content-Length: 5", b"Host: other.test", b"Connection: close"]
    forbidden += [b"content-length: 0", b"TRANSFER-ENCODING: identity", b"Trailer: X", b"Keep-Alive: 1", b"TE: x"]
    forbidden += [b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Proto: https", b"X-Vcap-Request-Id: spoof"]
    forbidden += [b"X-Cf-Applicationid: spoof", b"X-Cf-Instanceid: spoof", b"Upgrade: websocket"]
    cases = [case(f"with {_show(line)}", line + b"\r\n", EITHER) for line in forbidden]
    return [
        *cases,
        case("one", b"X-Sum: 1\r\n", PASS),
        case("two", b"X-Sum: 1\r\nX-More: 2\r\n", PASS),
        case("bare LF", b"X-Sum: 1\n", CUT),
        case("bare CR", b"X-Sum: 1\r2\r\n", CUT),
        case("NUL", b"X-Sum: \0\r\n", CUT),
        case("control byte", b"X-Sum: \x01\r\n", CUT),
        case("obs-fold", b"X-Sum: 1\r\n 2\r\n", CUT),
        case("no colon", b"X-Sum\r\n", CUT),
        case("space before colon", b"X-Sum : 1\r\n", CUT),
        case("empty name", b": 1\r\n", CUT),
        case("non-token name", b"X(Sum: 1\r\n", CUT),
    ]


def hosts() -> list[Case]:
    def case(name: str, lines: bytes, verdict: str = REJECT) -> Case:
        return Case(f"host {name}", b"GET / HTTP/1.1\r\n" + lines + b"\r\n", verdict)

    return [
        case("none", b""),
        case("none but others", b"X-A: 1\r\n"),
        case("empty", b"Host:\r\n", REFUSE),
        case("blank", b"Host:  \r\n", REFUSE),
        case("twice the same", HOST_LINE + HOST_LINE),
        case("twice different", HOST_LINE + b"Host: other.test\r\n"),
        case("twice in odd case", HOST_LINE + b"hOST: other.test\r\n"),
        case("twice with others between", HOST_LINE + b"X-A: 1\r\n" + HOST_LINE),
        case("comma-joined", b"Host: HOST, other.test\r\n"),
        case("comma without space", b"Host: HOST,other.test\r\n"),
        case("with space", b"Host: HOST other.test\r\n"),
        case("with userinfo", b"Host: user@HOST\r\n"),
        case("with user and password", b"Host: u:p@HOST\r\n"),
        case("with slash", b"Host: HOST/\r\n"),
        case("with path", b"Host: HOST/path\r\n"),
        case("with scheme", b"Host: http://HOST\r\n"),
        case("with backslash", b"Host: HOST\\x\r\n"),
        case("with query", b"Host: HOST?a\r\n"),
        case("with fragment", b"Host: HOST#a\r\n"),
        case("with NUL", b"Host: HOST\0\r\n"),
        case("with tab inside", b"Host: HO\tST\r\n"),
        case("with port letters", b"Host: HOST:http\r\n"),
        case("with two ports", b"Host: HOST:80:81\r\n"),
        case("with quote", b'Host: "HOST"\r\n'),
        case("with angle", b"Host: <HOST>\r\n"),
        case("with latin-1", b"Host: HOST\xfc\r\n"),
        case("with DEL", b"Host: HOST\x7f\r\n"),
        case("broken IPv6", b"Host: [::1\r\n"),
        case("plain", HOST_LINE, PASS),
        case("with port", b"Host: HOST:80\r\n", PASS),
        case("with empty port", b"Host: HOST:\r\n", EITHER),
        case("odd case of the name", b"hOsT: HOST\r\n", PASS),
        case("padded", b"Host: \t HOST \t \r\n", PASS),
        case("space before colon", b"Host : HOST\r\n"),
    ]


def targets() -> list[Case]:
    def case(target: bytes, verdict: str = REJECT, method: bytes = b"GET") -> Case:
        raw = _get(line=method + b" " + target + b" HTTP/1.1")
        return Case(f"target {method.decode()} {_show(target)}", raw, verdict, frozenset({400, 404, 405}))

    return [
        case(b"/", PASS),
        case(b"/a/b?c=d&e", PASS),
        case(b"/%41%2fb", PASS),
        case(b"//double", PASS),
        case(b"/a;b=c", PASS),
        case(b"/a//b/../c/./d", PASS),
        case(b"/?", PASS),
        case(b"/a?b?c", PASS),
        case(b"http://HOST/abs", PASS),
        case(b"HTTP://HOST/abs", PASS),
        case(b"http://HOST", PASS),
        case(b"http://HOST?q=1", EITHER),
        case(b"a"),
        case(b"a/b"),
        case(b"?a"),
        case(b"*"),
        case(b"", EITHER),
        case(b"/a b"),
        case(b"/\xfc"),
        case("/ü".encode()),
        case(b"/a#fragment", EITHER),
        case(b"/%zz"),
        case(b"/%"),
        case(b"/%4"),
        case(b"http:///x"),
        case(b"http://user@HOST/x"),
        case(b"ftp://HOST/x", EITHER),
        case(b"HOST:80"),
        case(b"HOST:80", REJECT, b"CONNECT"),
        case(b"/", EITHER, b"CONNECT"),
        case(b"\\x"),
    ]


def request_lines() -> list[Case]:
    def case(line: bytes, verdict: str = REJECT) -> Case:
        return Case(f"line {_show(line)}", _get(line=line), verdict, frozenset({400, 505}))

    return [
        case(b"GET /"),
        case(b"GET"),
        case(b"GET  / HTTP/1.1"),
        case(b"GET /  HTTP/1.1"),
        case(b"GET / HTTP/1.1 "),
        case(b"GET\t/\tHTTP/1.1"),
        case(b"GET / HTTP/1.1 x"),
        case(b"GET / http/1.1"),
        case(b"GET / HTTP/1"),
        case(b"GET / HTTP/11"),
        case(b"GET / HTTP/1.10"),
        case(b"GET / HTTP/1.2"),
        case(b"GET / HTTP/01.1"),
        case(b"GET / HTTP/+1.1"),
        case(b"GET / HTTP/1,1"),
        case(b"GET / HTTP/1.x"),
        case(b"GET / HTTP/0.9"),
        case(b"GET / HTTP/2.0"),
        case(b"GET / HTTP/3.0"),
        case(b"GET / HTTPS/1.1"),
        case(b"GET / ICY/1.1"),
        case(b"GET / 1.1"),
        case(b"PRI * HTTP/2.0"),
        case(b" GET / HTTP/1.1"),
        case(b"/ HTTP/1.1"),
        case(b"get / HTTP/1.1", PASS),
        case(b"PATCH / HTTP/1.1", PASS),
        case(b"M-SEARCH / HTTP/1.1", EITHER),
        case(b"FOO / HTTP/1.1", EITHER),
        case(b"GET" * 400 + b" / HTTP/1.1", EITHER),
        Case("line garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", REJECT),
        Case("line h2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REJECT, frozenset({400, 505})),
        Case("line SMTP", b"HELO HOST\r\n\r\n", REJECT),
    ]


def every_case() -> list[Case]:
    groups = (
        transfer_encodings,
        good_transfer_encodings,
        both_framings,
        content_lengths,
        lines_and_bytes,
        chunks,
        trailers,
        hosts,
        targets,
        request_lines,
    )
    cases = [case for group in groups for case in group()]
    assert len({case.name for case in cases}) == len(cases), "names of cases are unique"
    return cases
