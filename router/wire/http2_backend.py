"""Heads of requests to a backend that speaks HTTP/2, and of its responses (RFC 9113 §8).

The proxy writes requests as HTTP/1.1 and reads responses as `wire.http1.ResponseHead`, whoever the backend is.
What only frames a message or a connection in HTTP/1 is left out on the way there; what RFC 9113 calls malformed is
a `StreamFault` on the way back.
"""

import hashlib
from base64 import b64encode

from router.wire.header_lines import RESPONSE_FIELDS, BadMessage, LineReader, line_name, parse_trailers
from router.wire.http1 import CHUNKED, LENGTH, NO_BODY, ResponseHead
from router.wire.http2_frames import PROTOCOL_ERROR, StreamFault
from router.wire.http2_head import line_of
from router.wire.http2_hpack import Field

_FRAMING_LINES = frozenset({b"Transfer-Encoding: chunked", b"Connection: close", b"Connection: Upgrade"})
"""As `proxy.rewrite` spells them; clients' own are not among the lines that it forwards."""
_OF_THE_HANDSHAKE = frozenset({b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-accept"})
"""Fields of a WebSocket's handshake that extended CONNECT does without (RFC 8441 §5)."""
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 §1.3."""
_HEAD_END_BYTES = 4
_HOST_BYTES = len(b"Host: ")

Fields = list[tuple[bytes, bytes]]

_reader = LineReader(RESPONSE_FIELDS)


class OutgoingHead:
    """A request's head for an HTTP/2 stream.

    Attributes:
        fields: pseudo-header fields.
        lines: the others, as lines of HTTP/1.
        accept: of a WebSocket, what the client wants to see in Sec-WebSocket-Accept; else empty.
    """

    __slots__ = ("accept", "fields", "lines")

    def __init__(self, fields: Fields, lines: list[bytes], accept: bytes) -> None:
        self.fields = fields
        self.lines = lines
        self.accept = accept


def outgoing_head(raw: bytes, scheme: bytes, websocket: bool) -> OutgoingHead:
    """Translate a head that the proxy has written.

    Args:
        raw: with its final empty line; its first field is Host.
        websocket: the request asks for a WebSocket, which becomes an extended CONNECT (RFC 8441 §4).
    """
    request_line, host, *lines = raw[:-_HEAD_END_BYTES].split(b"\r\n")
    method, target, _ = request_line.split(b" ")
    fields = [
        (b":method", b"CONNECT" if websocket else method),
        (b":scheme", scheme),
        (b":authority", host[_HOST_BYTES:]),
        (b":path", target if target[:1] == b"/" else _path_of(method, target)),
    ]
    if not websocket:
        return OutgoingHead(fields, [line for line in lines if line not in _FRAMING_LINES], b"")
    fields.append((b":protocol", b"websocket"))
    accept = b""
    kept = []
    for line in lines:
        name = line_name(line)
        if name == b"sec-websocket-key":
            accept = _accept_of(line.partition(b":")[2].strip(b" \t"))
        elif name not in _OF_THE_HANDSHAKE:
            kept.append(line)
    return OutgoingHead(fields, kept, accept)


def _path_of(method: bytes, target: bytes) -> bytes:
    """Return the path of a target in absolute form, or ``*`` (RFC 9113 §8.3.1)."""
    if target == b"*":
        return target
    rest = target.partition(b"://")[2]
    slash = rest.find(b"/")
    query = rest.find(b"?")
    if slash >= 0 and (query < 0 or slash < query):
        return rest[slash:]
    if query >= 0:
        return b"/" + rest[query:]
    return b"*" if method == b"OPTIONS" else b"/"


def _accept_of(key: bytes) -> bytes:
    # The protocol wants SHA-1, as a mark of understanding and not for any secrecy.
    return b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest())


def response_head(fields: list[Field], method: bytes, ended: bool, stream_id: int) -> ResponseHead:
    """Translate the header list of a response.

    Args:
        method: the request's.
        ended: no body follows.

    Raises:
        StreamFault: malformed in the sense of RFC 9113 §8.1.1.
    """
    name, status, _ = fields[0] if fields else (b"", b"", 0)
    if name != b":status" or len(status) != 3 or not status.isdigit() or status < b"100" or status == b"101":
        raise StreamFault(stream_id, PROTOCOL_ERROR, "bad :status")
    head = ResponseHead(int(status), 1)
    # A pseudo-header field among these has a name that no field may have.
    raw = [line_of(field, stream_id) for field in fields[1:]]
    try:
        _reader.read(raw, 0, head.lines, head.special)
    except BadMessage as error:
        raise StreamFault(stream_id, PROTOCOL_ERROR, error.reason) from None
    if head.status < 200:
        if ended:
            raise StreamFault(stream_id, PROTOCOL_ERROR, "informational response that ends the stream")
        head.framing = NO_BODY
    else:
        _frame(head, method, ended, stream_id)
    return head


def _frame(head: ResponseHead, method: bytes, ended: bool, stream_id: int) -> None:
    value = head.special.get(b"content-length")
    if value is not None:
        if not value.isdigit() or len(value) > 18:
            raise StreamFault(stream_id, PROTOCOL_ERROR, "bad content-length")
        head.length = int(value)
    if head.status in (204, 304) or method == b"HEAD":
        head.framing = NO_BODY
    elif ended:
        if head.length > 0:
            raise StreamFault(stream_id, PROTOCOL_ERROR, "no body, but a content-length")
        head.length = 0
        head.framing = NO_BODY
    elif head.length < 0 or b"trailer" in head.special:
        # A body of known length has no place for trailers in HTTP/1.
        head.framing, head.length = CHUNKED, -1
    else:
        head.framing = LENGTH if head.length else NO_BODY


def switched_head(head: ResponseHead, accept: bytes) -> ResponseHead:
    """Return the 101 that a successful answer to an extended CONNECT stands for (RFC 8441 §5).

    Args:
        accept: from `OutgoingHead`.
    """
    switched = ResponseHead(101, 1)
    switched.lines = [line for line in head.lines if line_name(line) not in _OF_THE_HANDSHAKE]
    switched.lines.append(b"Sec-Websocket-Accept: " + accept)
    switched.special = {**head.special, b"upgrade": b"websocket"}
    switched.framing = NO_BODY
    return switched


def response_trailers(fields: list[Field], stream_id: int) -> list[bytes]:
    """Translate trailers into lines to forward, as `header_lines.parse_trailers` does. Raises `StreamFault`."""
    if not fields:
        return []
    raw = b"\r\n".join([line_of(field, stream_id) for field in fields])
    return parse_trailers(raw, RESPONSE_FIELDS)
