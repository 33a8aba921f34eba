"""Header lists of HTTP/2 and the heads of HTTP/1 they stand for (RFC 9113 §8).

An endpoint behind HTTP/1.1 must get exactly the request that was sent, so whatever HTTP/1 could read in another
way is refused here: what RFC 9113 calls malformed is a `StreamFault`, what is well-formed HTTP/2 but no request we
accept a `BadMessage`. Lines are those of `wire.header_lines`, names spelled as HTTP/1 clients spell them.
"""

import re

from router.wire.header_lines import REQUEST_FIELDS, BadMessage, LineReader, parse_trailers
from router.wire.http1 import CHUNKED, LENGTH, NO_BODY, RequestHead, check_expectation
from router.wire.http2_frames import PROTOCOL_ERROR, StreamFault
from router.wire.http2_hpack import OVERHEAD, Field

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++")
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*+(?<![\t ]))?)?")
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")
_TARGET = re.compile(rb"[\x21-\x7e]++")
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*+")
_BREAKING = re.compile(rb"[\0\r\n]")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONNECTION_FIELDS = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""Have no meaning in HTTP/2 (RFC 9113 §8.2.2), and much in what they would be translated to."""
_REQUEST_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
_WITH_CONTENT = frozenset({b"POST", b"PUT", b"PATCH"})
_UNKEPT = frozenset({b"cookie", b"authorization", b"proxy-authorization"})
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_KNOWN_FIELDS = 8192
_KNOWN_FIELD_BYTES = 256 + OVERHEAD
_LENGTH_DIGITS = 18

_lines: dict[Field, bytes] = {}
_reader = LineReader(REQUEST_FIELDS)


class Http2Request:
    """A request as HTTP/2 has it.

    Attributes:
        head: as an HTTP/1.1 client would have sent it; of a WebSocket the GET that asks for the upgrade, without
            its key.
        protocol: of an extended CONNECT (RFC 8441), empty for other requests.
    """

    __slots__ = ("head", "protocol")

    def __init__(self, head: RequestHead, protocol: bytes) -> None:
        self.head = head
        self.protocol = protocol


def line_of(field: Field, stream_id: int) -> bytes:
    """Return a field as a line of HTTP/1. Raises `StreamFault` for what may not be in any header list."""
    line = _lines.get(field)
    if line is None:
        name, value, size = field
        if _NAME.fullmatch(name) is None:
            raise StreamFault(stream_id, PROTOCOL_ERROR, "bad field name")
        if _VALUE.fullmatch(value) is None:
            raise StreamFault(stream_id, PROTOCOL_ERROR, "bad field value")
        if name in _CONNECTION_FIELDS or (name == b"te" and value.lower() != b"trailers"):
            raise StreamFault(stream_id, PROTOCOL_ERROR, "connection-specific field")
        # Spelled as Go's servers and most HTTP/1 clients do, for endpoints that compare names letter by letter.
        line = b"%b: %b" % (b"-".join(map(bytes.capitalize, name.split(b"-"))), value)
        if size <= _KNOWN_FIELD_BYTES and name not in _UNKEPT:
            if len(_lines) >= _KNOWN_FIELDS:
                _lines.clear()
            _lines[field] = line
    return line


def request_of(fields: list[Field], ended: bool, stream_id: int) -> Http2Request:
    """Translate the header list of a request.

    Args:
        ended: no body follows.

    Raises:
        StreamFault: malformed in the sense of RFC 9113 §8.1.1.
        BadMessage: not a request we accept; ``status`` is what to answer.
    """
    pseudo, regular = _split(fields, stream_id)
    try:
        return _request_of(pseudo, regular, ended, stream_id)
    except BadMessage:
        # What no field may contain is not only no request we accept (RFC 9113 §8.2.1).
        if any(_BREAKING.search(value) for value in pseudo.values()):
            raise StreamFault(stream_id, PROTOCOL_ERROR, "bad value of a pseudo-header field") from None
        raise


def _request_of(pseudo: dict[bytes, bytes], regular: list[Field], ended: bool, stream_id: int) -> Http2Request:
    protocol = pseudo.get(b":protocol", b"")
    method = pseudo[b":method"]
    _check_pseudo(pseudo, stream_id)
    if method == b"CONNECT" and not protocol:
        raise BadMessage(400, "CONNECT is not supported")
    head = RequestHead(b"GET" if protocol else method, pseudo[b":path"], 1)
    head.size = sum(field[2] for field in regular) - (OVERHEAD - 4) * len(regular) + _line_size(head)
    _read_lines(head, pseudo, regular, stream_id)
    if protocol:
        _ask_for_upgrade(head, protocol)
    else:
        _frame(head, ended, stream_id)
    _check_target(head)
    check_expectation(head)
    return Http2Request(head, protocol)


def trailers_of(fields: list[Field], stream_id: int) -> list[bytes]:
    """Translate trailers into lines to forward, as `header_lines.parse_trailers` does. Raises `StreamFault`."""
    for name, _, _ in fields:
        if name[:1] == b":":
            raise StreamFault(stream_id, PROTOCOL_ERROR, "pseudo-header field in trailers")
    lines = [line_of(field, stream_id) for field in fields]
    return parse_trailers(b"\r\n".join(lines), REQUEST_FIELDS) if lines else []


def _line_size(head: RequestHead) -> int:
    return len(head.method) + len(head.target) + len("  HTTP/1.1")


def _split(fields: list[Field], stream_id: int) -> tuple[dict[bytes, bytes], list[Field]]:
    """Divide pseudo-header fields from the others, which they must precede (RFC 9113 §8.3)."""
    pseudo: dict[bytes, bytes] = {}
    count = 0
    for name, value, _ in fields:
        if name[:1] != b":":
            break
        if name not in _REQUEST_PSEUDO or name in pseudo:
            raise StreamFault(stream_id, PROTOCOL_ERROR, "unknown or repeated pseudo-header field")
        pseudo[name] = value
        count += 1
    if b":method" not in pseudo:
        raise StreamFault(stream_id, PROTOCOL_ERROR, "no :method")
    return pseudo, fields[count:]


def _check_pseudo(pseudo: dict[bytes, bytes], stream_id: int) -> None:
    connect = pseudo[b":method"] == b"CONNECT"
    extended = b":protocol" in pseudo
    if connect and not extended:
        if b":scheme" in pseudo or b":path" in pseudo or not pseudo.get(b":authority"):
            raise StreamFault(stream_id, PROTOCOL_ERROR, "CONNECT with :scheme or :path, or without :authority")
        pseudo[b":path"] = pseudo[b":authority"]
    elif extended and not connect:
        raise StreamFault(stream_id, PROTOCOL_ERROR, ":protocol without CONNECT")
    elif not pseudo.get(b":scheme") or not pseudo.get(b":path"):
        raise StreamFault(stream_id, PROTOCOL_ERROR, "no :scheme or no :path")
    elif _SCHEME.fullmatch(pseudo[b":scheme"]) is None:
        raise StreamFault(stream_id, PROTOCOL_ERROR, "bad :scheme")
    if _METHOD.fullmatch(pseudo[b":method"]) is None:
        raise BadMessage(400, "malformed :method")
    if _TARGET.fullmatch(pseudo[b":path"]) is None:
        raise BadMessage(400, "malformed :path")


def _read_lines(head: RequestHead, pseudo: dict[bytes, bytes], regular: list[Field], stream_id: int) -> None:
    authority = pseudo.get(b":authority")
    raw = []
    cookies: list[bytes] = []
    for field in regular:
        name = field[0]
        if name == b"cookie":
            line_of(field, stream_id)
            cookies.append(field[1])
        elif name != b"host" or authority is None:
            raw.append(line_of(field, stream_id))
        elif field[1] != authority and _host_of(field[1], pseudo) != _host_of(authority, pseudo):
            # Whoever reads the one and whoever reads the other must not see two requests (RFC 9113 §8.3.1).
            raise StreamFault(stream_id, PROTOCOL_ERROR, "host is not the :authority")
    if authority is not None:
        raw.append(b"Host: " + authority)
    if cookies:
        raw.append(b"Cookie: " + b"; ".join(cookies))
    head.count = len(raw)
    head.lines = []
    head.special = {}
    _reader.read(raw, 0, head.lines, head.special)
    head.host = head.special.get(b"host", b"")


def _host_of(authority: bytes, pseudo: dict[bytes, bytes]) -> bytes:
    """Return what an authority means: the case of its letters does not matter, nor does a port that goes without
    saying (RFC 9110 §4.2.3)."""
    return authority.lower().removesuffix(_DEFAULT_PORTS.get(pseudo.get(b":scheme", b""), b":"))


def _frame(head: RequestHead, ended: bool, stream_id: int) -> None:
    special = head.special
    value = special.get(b"content-length")
    if value is None:
        if not ended:
            head.framing = CHUNKED
        elif head.method in _WITH_CONTENT:
            # Without this line a server behind HTTP/1 may wait for a body (RFC 9110 §8.6).
            special[b"content-length"] = b"0"
        return
    if not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise StreamFault(stream_id, PROTOCOL_ERROR, "bad content-length")
    head.length = int(value)
    if head.length and ended:
        raise StreamFault(stream_id, PROTOCOL_ERROR, "no body, but a content-length")
    head.framing = LENGTH if head.length else NO_BODY


def _ask_for_upgrade(head: RequestHead, protocol: bytes) -> None:
    """Make of an extended CONNECT the request that asks for the same over HTTP/1.1 (RFC 8441 §5)."""
    if protocol != b"websocket":
        raise BadMessage(501, "Unsupported :protocol")
    head.special[b"connection"] = b"Upgrade"
    head.special[b"upgrade"] = protocol
    head.special.pop(b"content-length", None)
    head.lines = [line for line in head.lines if not line.startswith(b"Sec-Websocket-Key:")]


def _check_target(head: RequestHead) -> None:
    target = head.target
    if target[0] != 0x2F and not (target == b"*" and head.method == b"OPTIONS"):
        raise BadMessage(400, "malformed :path")
    if b"%" in target and _BAD_ESCAPE.search(target.partition(b"?")[0]):
        raise BadMessage(400, "invalid URL escape")
