"""HTTP/1 heads: bytes of one message head to typed values, strictly.

Owns the grammar of request lines and status lines and the decision how a body is framed; owns neither header lines
(`wire.header_lines`) nor sockets nor buffers. One law: what cannot be read in exactly one way is an error, never
repaired, because whoever reads the message after us may repair it differently (request smuggling, RFC 9112 §11.2).
"""

import re

from router.wire.header_lines import (
    REQUEST_FIELDS,
    RESPONSE_FIELDS,
    TOKEN,
    BadMessage,
    LineReader,
    checked_host,
    connection_tokens,
    line_name,
)

_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]++) HTTP/1\.([01])")
_OTHER_VERSION = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*+)?")
_LENGTH_DIGITS = 18
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*+)(.*+)")
BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")
"""Finds a LF without CR or a CR without LF; in a head neither is allowed (RFC 9112 §2.2 lets us refuse)."""
REQUEST_START = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*+(?: [\x21-\x7e]*+(?: [HTP/0-9.]*+\r?)?)?")
"""Matches every beginning of a request line; used to refuse other protocols before their head is complete."""

NO_BODY, LENGTH, CHUNKED, UNTIL_CLOSE = range(4)
"""How a body is framed (RFC 9112 §6)."""

_RARE = frozenset(
    {
        b"expect",
        b"te",
        b"trailer",
        b"upgrade",
        b"x-cf-app-instance",
        b"x-cf-process-instance",
        b"x-cf-proxy-signature",
        b"x-request-start",
    }
)
_STICKY_COOKIE = b"__VCAP_ID__"
_CACHED_STATUS_LINES = 256
_CACHED_STATUS_LINE_BYTES = 256
_MOST_LINES = 25_000
"""A head within its limit of bytes can still be so many tiny lines that they take ten times its size in memory."""


class EmptyContentLength(BadMessage):
    """A Content-Length field without a value, which is counted by itself."""

    def __init__(self) -> None:
        super().__init__(400, "bad Content-Length")


class UnsupportedVersion(BadMessage):
    """A request of an HTTP version that is not 1.0 or 1.1; ``major`` tells which answer it gets.

    Attributes:
        head: what is known of the request, for the log: all of it for 1.2 to 1.9, else its first line.
        version: as the client wrote it.
    """

    def __init__(self, major: int, head: "RequestHead", version: bytes) -> None:
        super().__init__(505, "unsupported protocol version")
        self.major = major
        self.head = head
        self.version = version


_NO_LINES: list[bytes] = []
_NO_FIELDS: dict[bytes, bytes] = {}


class RequestHead:
    """The head of one request.

    Attributes:
        method: as sent, case kept.
        target: the request target as sent, absolute-form included.
        path: what is routed and logged: the target without scheme and authority.
        minor: 0 or 1, of HTTP/1.
        lines: header lines to forward as they are.
        special: values of the fields a proxy deals with, by lower-case name.
        host: the Host field, or the authority of an absolute-form target, which wins (RFC 9112 §3.2.2).
        framing: `NO_BODY`, `LENGTH` or `CHUNKED`.
        length: bytes of body for `LENGTH`.
        keep_alive: whether the client lets the connection stay open.
        size: bytes of the head without its final empty line, for limits.
        count: number of header lines.
        block: all bytes after the request line.
        rare: there may be something in ``special`` that most requests do not have, and that needs more than being
            forwarded; False spares the proxy a dozen look-ups.
    """

    __slots__ = (
        "block",
        "count",
        "framing",
        "host",
        "keep_alive",
        "length",
        "lines",
        "method",
        "minor",
        "path",
        "rare",
        "size",
        "special",
        "target",
    )

    def __init__(self, method: bytes, target: bytes, minor: int) -> None:
        self.method = method
        self.target = target
        self.path = target
        self.minor = minor
        self.lines: list[bytes] = _NO_LINES
        self.special: dict[bytes, bytes] = _NO_FIELDS
        self.host = b""
        self.framing = NO_BODY
        self.length = 0
        self.keep_alive = minor == 1
        self.size = 0
        self.count = 0
        self.block = b""
        self.rare = True

    def copy(self) -> "RequestHead":
        """Return another head that says the same, for one who wants to change it: the next request on a connection
        takes over what this one's block was read as, changes included."""
        copy = RequestHead(self.method, self.target, self.minor)
        copy.path = self.path
        copy.lines = self.lines
        copy.special = self.special
        copy.host = self.host
        copy.framing = self.framing
        copy.length = self.length
        copy.keep_alive = self.keep_alive
        copy.size = self.size
        copy.count = self.count
        copy.block = self.block
        copy.rare = self.rare
        return copy


class ResponseHead:
    """The head of one response; attributes as in `RequestHead`. ``length`` is -1 without Content-Length."""

    __slots__ = ("framing", "keep_alive", "length", "lines", "minor", "special", "status")

    def __init__(self, status: int, minor: int) -> None:
        self.status = status
        self.minor = minor
        self.lines: list[bytes] = []
        self.special: dict[bytes, bytes] = {}
        self.framing = UNTIL_CLOSE
        self.length = -1
        self.keep_alive = minor == 1


_request_lines = LineReader(REQUEST_FIELDS)
_response_lines = LineReader(RESPONSE_FIELDS)


def parse_request_head(raw: bytes, previous: RequestHead | None = None) -> RequestHead:
    """Parse a request head without its final empty line.

    Args:
        previous: the head before this one on the same connection, if any. Clients tend to repeat their header
            block word for word, and equal bytes mean equal fields: that saves two thirds of the work.

    Raises:
        UnsupportedVersion: well-formed request line of another HTTP version.
        BadMessage: anything else that is not strict HTTP/1, with the status to answer.
    """
    end = raw.find(b"\r\n")
    line, block = (raw[:end], raw[end:]) if end >= 0 else (raw, b"")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _bad_request_line(line, block)
    method, target, minor = match.groups()
    if method == b"CONNECT":
        raise BadMessage(400, "CONNECT is not supported")
    head = RequestHead(method, target, 1 if minor == b"1" else 0)
    head.size = len(raw)
    head.block = block
    if previous is not None and block == previous.block and head.minor == previous.minor:
        _repeat_block(head, previous)
    else:
        _read_block(head, block)
    if target[0] != 0x2F or b"%" in target:
        _check_target(head)
    if head.rare:
        check_expectation(head)
    return head


def _repeat_block(head: RequestHead, previous: RequestHead) -> None:
    head.lines = previous.lines
    head.special = previous.special
    head.host = previous.special.get(b"host", b"")
    head.framing = previous.framing
    head.length = previous.length
    head.keep_alive = previous.keep_alive
    head.count = previous.count
    head.rare = previous.rare


def _read_block(head: RequestHead, block: bytes) -> None:
    if len(block) > _MOST_LINES and block.count(b"\r\n") > _MOST_LINES:
        raise BadMessage(431, "too many header lines")
    raw_lines = block.split(b"\r\n")
    head.count = len(raw_lines) - 1
    head.lines = []
    special = head.special = {}
    _request_lines.read(raw_lines, 1, head.lines, special)
    if b"host" in special:
        head.host = special[b"host"]
    elif head.minor:
        raise BadMessage(400, "missing required Host header")
    if b"content-length" in special or b"transfer-encoding" in special:
        _frame_request(head)
    connection = special.get(b"connection", b"keep-alive")
    if b"connection" in special:
        head.keep_alive = _keeps_alive(connection, head.minor)
    head.rare = (
        connection != b"keep-alive"
        or not _RARE.isdisjoint(special)
        or _STICKY_COOKIE in special.get(b"cookie", b"")
    )


def _bad_request_line(line: bytes, block: bytes) -> BadMessage:
    """Return the error of a request line that is not HTTP/1.0 or 1.1; raises that of the lines below it."""
    match = _OTHER_VERSION.fullmatch(line)
    if match is None:
        return BadMessage(400, "malformed request line")
    method, target, major, minor = match.groups()
    if major == b"1":
        head = parse_request_head(b"%b %b HTTP/1.1%b" % (method, target, block))
    else:
        head = RequestHead(method, target, 1)
    return UnsupportedVersion(int(major), head, b"HTTP/%b.%b" % (major, minor))


def _check_target(head: RequestHead) -> None:
    target = head.target
    if target[0] != 0x2F and not (target == b"*" and head.method == b"OPTIONS"):
        match = _ABSOLUTE.fullmatch(target)
        if match is None or not match[1]:
            raise BadMessage(400, "malformed request target")
        head.host = checked_host(match[1])
        head.path = match[2] if match[2][:1] == b"/" else b"/" + match[2]
    if _BAD_ESCAPE.search(head.path.partition(b"?")[0]):
        raise BadMessage(400, "invalid URL escape")


def check_expectation(head: RequestHead) -> None:
    """Raise `BadMessage` for an ``Expect`` other than ``100-continue`` (RFC 9110 §10.1.1)."""
    if head.special.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise BadMessage(417, "unknown expectation")


def _frame_request(head: RequestHead) -> None:
    special = head.special
    if b"transfer-encoding" in special:
        if b"content-length" in special:
            raise BadMessage(400, "both Transfer-Encoding and Content-Length")
        if special[b"transfer-encoding"].lower() != b"chunked":
            raise BadMessage(501, "Unsupported transfer encoding")
        if head.minor == 0:
            raise BadMessage(400, "Transfer-Encoding in an HTTP/1.0 request")
        head.framing = CHUNKED
        return
    head.length = _content_length(special[b"content-length"])
    if head.length:
        head.framing = LENGTH


def _content_length(value: bytes) -> int:
    if not value:
        raise EmptyContentLength
    # For bytes, isdigit knows the ten ASCII digits only.
    if not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise BadMessage(400, "bad Content-Length")
    return int(value)


def _keeps_alive(connection: bytes, minor: int) -> bool:
    if connection == b"keep-alive":
        return True
    tokens = connection_tokens(connection)
    if minor == 0:
        return b"keep-alive" in tokens and b"close" not in tokens
    return b"close" not in tokens


def parse_response_head(raw: bytes, method: bytes) -> ResponseHead:
    """Parse a response head without its final empty line; ``method`` is the request's, for the framing.

    Raises `BadMessage` for whatever is not strict HTTP/1.
    """
    raw_lines = raw.split(b"\r\n")
    status = _status_lines.get(raw_lines[0])
    if status is None:
        status = _read_status_line(raw_lines[0])
    head = ResponseHead(status[0], status[1])
    special = head.special
    _response_lines.read(raw_lines, 1, head.lines, special)
    if b"connection" in special:
        head.keep_alive = _keeps_alive(special[b"connection"], head.minor)
    _frame_response(head, method)
    return head


_status_lines: dict[bytes, tuple[int, int]] = {}


def _read_status_line(line: bytes) -> tuple[int, int]:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadMessage(502, "malformed HTTP status line")
    status = int(match[2]), 1 if match[1] == b"1" else 0
    if len(_status_lines) < _CACHED_STATUS_LINES and len(line) <= _CACHED_STATUS_LINE_BYTES:
        _status_lines[line] = status
    return status


def _frame_response(head: ResponseHead, method: bytes) -> None:
    special = head.special
    if b"content-length" in special:
        if b"transfer-encoding" in special:
            raise BadMessage(502, "both Transfer-Encoding and Content-Length in a response")
        head.length = _content_length(special[b"content-length"])
        head.framing = LENGTH if head.length else NO_BODY
    elif b"transfer-encoding" in special:
        if special[b"transfer-encoding"].lower() != b"chunked" or head.minor == 0:
            raise BadMessage(502, "unsupported transfer encoding in a response")
        head.framing = CHUNKED
    status = head.status
    if status < 200 or status == 204 or status == 304 or method == b"HEAD":
        head.framing = NO_BODY


def first_value(head: RequestHead, name: bytes) -> bytes:
    """Return the value of the first field of this lower-case name, empty if there is none."""
    if name in head.special:
        return head.special[name]
    for line in head.lines:
        if line_name(line) == name:
            return line[len(name) + 1 :].strip(b" \t")
    return b""
