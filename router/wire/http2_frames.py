"""Frames of HTTP/2 (RFC 9113 §4, 6): numbers, their bytes, what a payload must look like.

Owns what can be said about one frame alone; what a frame means on a stream is the engine's (`wire.http2`).
"""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
SETTINGS_TIMEOUT = 0x4
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
CONNECT_ERROR = 0xA
ENHANCE_YOUR_CALM = 0xB
INADEQUATE_SECURITY = 0xC
HTTP_1_1_REQUIRED = 0xD

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6
ENABLE_CONNECT_PROTOCOL = 0x8
"""RFC 8441 §3."""

DEFAULT_WINDOW = 65535
LARGEST_WINDOW = 2**31 - 1
LARGEST_STREAM_ID = 2**31 - 1
FRAME_BYTES = 16384
"""Largest payload unless settings say otherwise; we neither ask for more nor send more."""
_LARGEST_FRAME_BYTES = 2**24 - 1

HEAD_BYTES = 9
HEAD = struct.Struct(">BHBBL")
"""High byte and low bytes of the length, kind, flags, stream."""
_UINT = struct.Struct(">L")
_SETTING = struct.Struct(">HL")
_PAIR = struct.Struct(">LL")


class ConnectionFault(Exception):
    """The peer broke the protocol so that the connection cannot go on (RFC 9113 §5.4.1).

    Attributes:
        code: for GOAWAY.
        reason: one sentence, for its debug data and the log.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamFault(Exception):
    """The peer broke the protocol on one stream (RFC 9113 §5.4.2); attributes as in `ConnectionFault`."""

    def __init__(self, stream_id: int, code: int, reason: str) -> None:
        super().__init__(reason)
        self.stream_id = stream_id
        self.code = code
        self.reason = reason


# Reading payloads. All raise `ConnectionFault` for what no endpoint may send.


def without_padding(payload: bytes) -> bytes:
    """Return the payload of a `PADDED` DATA or HEADERS without its padding."""
    if not payload:
        raise ConnectionFault(FRAME_SIZE_ERROR, "padded frame without a pad length")
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "padding longer than the frame")
    return payload[1 : len(payload) - padding]


def parse_settings(payload: bytes, from_server: bool) -> list[tuple[int, int]]:
    """Return the settings of a frame, in order, values checked (RFC 9113 §6.5.2)."""
    if len(payload) % _SETTING.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
    settings = list(_SETTING.iter_unpack(payload))
    for name, value in settings:
        if name == ENABLE_PUSH and (value > 1 or (from_server and value)):
            raise ConnectionFault(PROTOCOL_ERROR, "bad SETTINGS_ENABLE_PUSH")
        if name == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "bad SETTINGS_INITIAL_WINDOW_SIZE")
        if name == MAX_FRAME_SIZE and not FRAME_BYTES <= value <= _LARGEST_FRAME_BYTES:
            raise ConnectionFault(PROTOCOL_ERROR, "bad SETTINGS_MAX_FRAME_SIZE")
        if name == ENABLE_CONNECT_PROTOCOL and value > 1:
            raise ConnectionFault(PROTOCOL_ERROR, "bad SETTINGS_ENABLE_CONNECT_PROTOCOL")
    return settings


def parse_window_update(payload: bytes) -> int:
    """Return the increment, which may be the forbidden 0."""
    if len(payload) != 4:
        raise ConnectionFault(FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
    return int(_UINT.unpack(payload)[0]) & LARGEST_WINDOW


def parse_reset(payload: bytes) -> int:
    """Return the error code."""
    if len(payload) != 4:
        raise ConnectionFault(FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
    return int(_UINT.unpack(payload)[0])


def parse_goaway(payload: bytes) -> tuple[int, int]:
    """Return the last stream that is served, and the error code."""
    if len(payload) < _PAIR.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "GOAWAY of a wrong length")
    last, code = _PAIR.unpack_from(payload)
    return last & LARGEST_STREAM_ID, code


def depends_on(payload: bytes) -> int:
    """Return the stream that the priority at the beginning of a payload depends on."""
    return int(_UINT.unpack_from(payload)[0]) & LARGEST_STREAM_ID


# Building frames.


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    length = len(payload)
    return HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream_id) + payload


def header_frames(stream_id: int, block: bytes, ended: bool) -> bytes:
    """Build HEADERS, and as many CONTINUATION as the block needs."""
    flags = END_STREAM if ended else 0
    if len(block) <= FRAME_BYTES:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [frame(HEADERS, flags, stream_id, block[:FRAME_BYTES])]
    for start in range(FRAME_BYTES, len(block), FRAME_BYTES):
        last = END_HEADERS if start + FRAME_BYTES >= len(block) else 0
        parts.append(frame(CONTINUATION, last, stream_id, block[start : start + FRAME_BYTES]))
    return b"".join(parts)


def settings_frame(settings: list[tuple[int, int]]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in settings))


def reset_frame(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, _UINT.pack(code))


def window_update_frame(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, _UINT.pack(increment))


def goaway_frame(last_stream_id: int, code: int, reason: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _PAIR.pack(last_stream_id, code) + reason.encode())


PING_FRAME = frame(PING, 0, 0, b"answer?!")
"""A question whether the peer is still there."""
