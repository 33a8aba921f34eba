"""What an HTTP/2 client does, and what comes of it by the letter of RFC 9113 and RFC 7541: rows of frames.

Streams of rows are below 200. A row concerns the protocol alone: its outcome is the same whatever a host answers.
"""

import struct

from tests.support.h2peer import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Fields,
    block,
    frame,
    get,
    headers,
    priority,
    reset,
    settings,
    window_update,
)

OPEN = END_HEADERS
CLOSED = END_HEADERS | END_STREAM
LARGEST = 2**31 - 1
UNKNOWN = 0xBE

Outcome = int | tuple[int, int] | None
"""Code of the connection's error; stream and code of the stream's; nothing."""
Row = tuple[list[bytes], Outcome]


def data(stream_id: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return frame(DATA, flags, stream_id, payload)


def without(fields: Fields, name: str) -> Fields:
    return [field for field in fields if field[0] != name]


def frames_and_sizes(host: str) -> dict[str, Row]:
    """RFC 9113 §4."""
    asked = block(get(host))
    return {
        "unknown frame": ([frame(UNKNOWN, 0xFF, 0, b"whatever")], None),
        "unknown frame on an idle stream": ([frame(UNKNOWN, 0, 7, b"whatever")], None),
        "unknown frame on an open stream": ([headers(1, get(host), OPEN), frame(UNKNOWN, 1, 1)], None),
        "undefined flags": ([frame(PING, 0xFE, 0, bytes(8))], None),
        "reserved bit": ([frame(PING, 0, 1 << 31, bytes(8))], None),
        "reserved bit of a request": ([headers(1 | 1 << 31, get(host))], None),
        "data of the largest size": ([headers(1, get(host), OPEN), data(1, bytes(16384), END_STREAM)], None),
        "data too long": ([headers(1, get(host), OPEN), data(1, bytes(16385))], FRAME_SIZE_ERROR),
        "headers too long": (
            [headers(1, [*get(host), *[("x-long", "v" * 1000)] * 17])],
            FRAME_SIZE_ERROR,
        ),
        "settings too long": ([frame(SETTINGS, 0, 0, bytes(6) * 2731)], FRAME_SIZE_ERROR),
        "unknown frame too long": ([frame(UNKNOWN, 0, 0, bytes(16385))], FRAME_SIZE_ERROR),
        "priority in a block": ([frame(HEADERS, END_STREAM, 1, asked), priority(1)], PROTOCOL_ERROR),
        "ping in a block": ([frame(HEADERS, END_STREAM, 1, asked), frame(PING, 0, 0, bytes(8))], PROTOCOL_ERROR),
        "unknown in a block": ([frame(HEADERS, END_STREAM, 1, asked), frame(UNKNOWN, 0, 1)], PROTOCOL_ERROR),
        "unknown between continuations": (
            [frame(HEADERS, 1, 1, asked[:9]), frame(CONTINUATION, 0, 1, asked[9:]), frame(UNKNOWN, 0, 0)],
            PROTOCOL_ERROR,
        ),
        "headers of another stream in a block": (
            [frame(HEADERS, END_STREAM, 1, asked), headers(3, get(host))],
            PROTOCOL_ERROR,
        ),
    }


def stream_states(host: str) -> dict[str, Row]:
    """RFC 9113 §5."""
    opened, ended = headers(1, get(host), OPEN), headers(1, get(host))
    more = frame(CONTINUATION, END_HEADERS, 1, block([("a", "b")]))
    return {
        "idle: data": ([data(1, b"x")], PROTOCOL_ERROR),
        "idle: reset": ([reset(1)], PROTOCOL_ERROR),
        "idle: window": ([window_update(1, 100)], PROTOCOL_ERROR),
        "idle: continuation": ([more], PROTOCOL_ERROR),
        "idle: priority": ([priority(1)], None),
        "a stream of ours: data": ([data(2, b"x")], PROTOCOL_ERROR),
        "a stream of ours: reset": ([reset(2)], PROTOCOL_ERROR),
        "a stream of ours: window": ([window_update(2, 1)], PROTOCOL_ERROR),
        "half-closed: data": ([ended, data(1, b"x")], (1, STREAM_CLOSED)),
        "half-closed: data that ends": ([ended, data(1, b"x", END_STREAM)], (1, STREAM_CLOSED)),
        "half-closed: headers": (
            [settings((4, 0)), ended, headers(1, get(host)), settings((4, 65535))],
            (1, STREAM_CLOSED),
        ),
        "half-closed: continuation": ([ended, more], PROTOCOL_ERROR),
        "half-closed: window": ([ended, window_update(1, 9)], None),
        "half-closed: priority": ([ended, priority(1)], None),
        "half-closed: reset": ([ended, reset(1)], None),
        "half-closed by data: data": (
            [opened, data(1, b"x", END_STREAM), data(1, b"x", END_STREAM)],
            (1, STREAM_CLOSED),
        ),
        "reset: data": ([opened, reset(1), data(1, b"x")], (1, STREAM_CLOSED)),
        "reset: headers": ([opened, reset(1), headers(1, get(host))], (1, STREAM_CLOSED)),
        "reset: continuation": ([opened, reset(1), more], PROTOCOL_ERROR),
        "reset: window, priority, reset": ([opened, reset(1), window_update(1, 1), priority(1), reset(1)], None),
        "even id": ([headers(2, get(host))], PROTOCOL_ERROR),
        "lower id": ([headers(5, get(host)), headers(3, get(host))], PROTOCOL_ERROR),
        "headers without a stream": ([headers(0, get(host))], PROTOCOL_ERROR),
        "skipped: data": ([headers(5, get(host)), data(3, b"x")], (3, STREAM_CLOSED)),
        "skipped: window and priority": ([headers(5, get(host)), window_update(3, 1), priority(3)], None),
        "headers depend on themselves": (
            [frame(HEADERS, CLOSED | WITH_PRIORITY, 1, struct.pack(">LB", 1, 9) + block(get(host)))],
            (1, PROTOCOL_ERROR),
        ),
        "headers depend on a stream that is idle": (
            [frame(HEADERS, CLOSED | WITH_PRIORITY, 1, struct.pack(">LB", 1 << 31 | 9, 9) + block(get(host)))],
            None,
        ),
    }


def kinds_of_frames(host: str) -> dict[str, Row]:
    """RFC 9113 §6."""
    opened, ended = headers(1, get(host), OPEN), headers(1, get(host))
    asked = block(get(host))
    return {
        "data without a stream": ([data(0, b"x")], PROTOCOL_ERROR),
        "data, padding as long as the frame": ([opened, data(1, b"\5hell", PADDED)], PROTOCOL_ERROR),
        "data, padding alone": ([opened, data(1, b"\4\0\0\0\0", PADDED), data(1, b"x", END_STREAM)], None),
        "data, padded but empty": ([opened, data(1, b"", PADDED)], FRAME_SIZE_ERROR),
        "headers, padding as long as the frame": (
            [frame(HEADERS, CLOSED | PADDED, 1, bytes((len(asked) + 1,)) + asked)],
            PROTOCOL_ERROR,
        ),
        "headers, padding in the place of priority": (
            [frame(HEADERS, CLOSED | PADDED | WITH_PRIORITY, 1, b"\4" + bytes(8))],
            FRAME_SIZE_ERROR,
        ),
        "headers, padded with priority": (
            [frame(HEADERS, CLOSED | PADDED | WITH_PRIORITY, 1, b"\7" + bytes(5) + asked + bytes(7))],
            None,
        ),
        "priority without a stream": ([priority(0)], PROTOCOL_ERROR),
        "priority too short": ([frame(PRIORITY, 0, 1, bytes(4))], (1, FRAME_SIZE_ERROR)),
        "priority too long": ([ended, frame(PRIORITY, 0, 1, bytes(6))], (1, FRAME_SIZE_ERROR)),
        "priority on itself": ([priority(3, 3)], (3, PROTOCOL_ERROR)),
        "reset without a stream": ([reset(0)], PROTOCOL_ERROR),
        "reset too short": ([opened, frame(RST_STREAM, 0, 1, bytes(3))], FRAME_SIZE_ERROR),
        "reset too long": ([opened, frame(RST_STREAM, 0, 1, bytes(5))], FRAME_SIZE_ERROR),
        "reset with an unknown code": ([opened, reset(1, 0xFF)], None),
        "settings, acknowledgement with a payload": ([frame(SETTINGS, ACK, 0, bytes(6))], FRAME_SIZE_ERROR),
        "settings on a stream": ([frame(SETTINGS, 0, 1)], PROTOCOL_ERROR),
        "settings cut short": ([frame(SETTINGS, 0, 0, bytes(7))], FRAME_SIZE_ERROR),
        "settings, push 2": ([settings((2, 2))], PROTOCOL_ERROR),
        "settings, window 2^31": ([settings((4, 2**31))], FLOW_CONTROL_ERROR),
        "settings, frames of 16383": ([settings((5, 16383))], PROTOCOL_ERROR),
        "settings, frames of 2^24": ([settings((5, 2**24))], PROTOCOL_ERROR),
        "settings, largest values": ([settings((1, 2**32 - 1), (3, 0), (4, LARGEST), (5, 2**24 - 1))], None),
        "settings, unknown": ([settings((0xFF, 2**32 - 1), (0, 1))], None),
        "settings, extended CONNECT 2": ([settings((8, 2))], PROTOCOL_ERROR),
        "push promise": ([frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">L", 2) + asked)], PROTOCOL_ERROR),
        "ping on a stream": ([frame(PING, 0, 1, bytes(8))], PROTOCOL_ERROR),
        "ping too short": ([frame(PING, 0, 0, bytes(7))], FRAME_SIZE_ERROR),
        "ping too long": ([frame(PING, 0, 0, bytes(9))], FRAME_SIZE_ERROR),
        "ping, an answer nobody asked for": ([frame(PING, ACK, 0, bytes(8))], None),
        "goaway on a stream": ([frame(GOAWAY, 0, 1, bytes(8))], PROTOCOL_ERROR),
        "goaway too short": ([frame(GOAWAY, 0, 0, bytes(4))], FRAME_SIZE_ERROR),
        "window of the connection by 0": ([window_update(0, 0)], PROTOCOL_ERROR),
        "window of a stream by 0": ([opened, window_update(1, 0)], (1, PROTOCOL_ERROR)),
        "window of a half-closed stream by 0": ([ended, window_update(1, 0)], (1, PROTOCOL_ERROR)),
        "window, a reserved bit and nothing else": ([opened, window_update(1, 1 << 31)], (1, PROTOCOL_ERROR)),
        "window too short": ([frame(WINDOW_UPDATE, 0, 0, bytes(3))], FRAME_SIZE_ERROR),
        "window too long": ([opened, frame(WINDOW_UPDATE, 0, 1, bytes(5))], FRAME_SIZE_ERROR),
        "window of the connection too large": ([window_update(0, LARGEST)] * 2, FLOW_CONTROL_ERROR),
        "window of a stream too large": (
            [opened, window_update(1, LARGEST), window_update(1, LARGEST)],
            (1, FLOW_CONTROL_ERROR),
        ),
        "window too large by settings": (
            [opened, window_update(1, LARGEST - 65535), settings((4, LARGEST))],
            FLOW_CONTROL_ERROR,
        ),
        "continuation first": ([frame(CONTINUATION, END_HEADERS, 1, asked)], PROTOCOL_ERROR),
        "continuation without a stream": (
            [frame(HEADERS, END_STREAM, 1, asked), frame(CONTINUATION, END_HEADERS, 0, b"")],
            PROTOCOL_ERROR,
        ),
        "continuation of another stream": (
            [frame(HEADERS, END_STREAM, 1, asked), frame(CONTINUATION, END_HEADERS, 3, b"")],
            PROTOCOL_ERROR,
        ),
        "continuation after the end of a block": ([opened, frame(CONTINUATION, 4, 1, b"")], PROTOCOL_ERROR),
        "continuation after data": ([opened, data(1, b"x"), frame(CONTINUATION, 4, 1, b"")], PROTOCOL_ERROR),
        "block in many pieces": (
            [
                frame(HEADERS, END_STREAM, 1, asked[:1]),
                *[frame(CONTINUATION, 0, 1, asked[at : at + 1]) for at in range(1, len(asked))],
                frame(CONTINUATION, END_HEADERS, 1),
            ],
            None,
        ),
        "block without an end": (
            [frame(HEADERS, END_STREAM, 1, asked), *[frame(CONTINUATION, 0, 1)] * 300],
            ENHANCE_YOUR_CALM,
        ),
    }


def semantics(host: str) -> dict[str, Row]:
    """RFC 9113 §8."""
    sound = get(host)
    post = get(host, method="POST")

    def malformed(fields: Fields) -> Row:
        return [headers(1, fields)], (1, PROTOCOL_ERROR)

    def body(length: str, *frames: bytes) -> Row:
        return [headers(1, [*post, ("content-length", length)], OPEN), *frames], (1, PROTOCOL_ERROR)

    opened = headers(1, post, OPEN)
    return {
        "uppercase name": malformed([*sound, ("X-A", "1")]),
        "empty name": malformed([*sound, ("", "1")]),
        "colon in a name": malformed([*sound, ("x:a", "1")]),
        "line end in a value": malformed([*sound, ("x-a", "1\r\nb")]),
        "NUL in a value": malformed([*sound, ("x-a", "1\0")]),
        "space before a value": malformed([*sound, ("x-a", " 1")]),
        "unknown pseudo-header": malformed([(":other", "x"), *sound]),
        "pseudo-header of responses": malformed([(":status", "200"), *sound]),
        "pseudo-header after a field": malformed([*without(sound, ":path"), ("a", "b"), (":path", "/")]),
        "connection": malformed([*sound, ("connection", "keep-alive")]),
        "keep-alive": malformed([*sound, ("keep-alive", "3")]),
        "proxy-connection": malformed([*sound, ("proxy-connection", "close")]),
        "transfer-encoding": malformed([*sound, ("transfer-encoding", "chunked")]),
        "upgrade": malformed([*sound, ("upgrade", "h2c")]),
        "te of more than trailers": malformed([*sound, ("te", "trailers, deflate")]),
        "te of trailers": ([headers(1, [*sound, ("te", "trailers")])], None),
        "empty path": malformed(get(host, "")),
        "no method": malformed(without(sound, ":method")),
        "no scheme": malformed(without(sound, ":scheme")),
        "no path": malformed(without(sound, ":path")),
        "no field at all": malformed([]),
        "two methods": malformed([(":method", "GET"), *sound]),
        "two schemes": malformed([(":scheme", "http"), *sound]),
        "two paths": malformed([(":path", "/"), *sound]),
        "two authorities": malformed([(":authority", host), *sound]),
        "host is another": malformed([*sound, ("host", "other.test")]),
        "host is the same": ([headers(1, [*sound, ("host", host.upper())])], None),
        "CONNECT with a path": malformed(get(host, method="CONNECT")),
        "line end in a path": malformed(get(host, "/\r\nX: y")),
        "line end in an authority": malformed(get(f"{host}\r\nX: y")),
        "NUL in a method": malformed(get(host, method="GET\0")),
        "line end in a scheme": malformed([*without(sound, ":scheme"), (":scheme", "http\n")]),
        "protocol without CONNECT": malformed([(":protocol", "websocket"), *sound]),
        "length without a body": malformed([*post, ("content-length", "1")]),
        "length that is no number": malformed([*post, ("content-length", "1x")]),
        "body shorter than its length": body("5", data(1, b"four", END_STREAM)),
        "body longer than its length": body("3", data(1, b"four", END_STREAM)),
        "bodies shorter than their length": body("9", data(1, b"four"), data(1, b"four", END_STREAM)),
        "bodies longer than their length": body("7", data(1, b"four"), data(1, b"four", END_STREAM)),
        "body shorter, by trailers": body("9", data(1, b"four"), headers(1, [("x-sum", "1")])),
        "body shorter, by an empty frame": body("9", data(1, b"four"), data(1, b"", END_STREAM)),
        "trailers": ([opened, data(1, b"x"), headers(1, [("x-sum", "1")])], None),
        "trailers without a body": ([opened, headers(1, [("x-sum", "1")])], None),
        "trailers in two frames": (
            [opened, frame(HEADERS, END_STREAM, 1), frame(CONTINUATION, 4, 1, block([("x-sum", "1")]))],
            None,
        ),
        "trailers without the end": ([opened, data(1, b"x"), headers(1, [("a", "b")], OPEN)], (1, PROTOCOL_ERROR)),
        "second head": ([opened, headers(1, post, OPEN)], (1, PROTOCOL_ERROR)),
        "second head that ends": ([opened, headers(1, post)], (1, PROTOCOL_ERROR)),
        "pseudo-header in trailers": ([opened, headers(1, [(":method", "GET")])], (1, PROTOCOL_ERROR)),
        "uppercase name in trailers": ([opened, headers(1, [("X-Sum", "1")])], (1, PROTOCOL_ERROR)),
        "connection in trailers": ([opened, headers(1, [("connection", "close")])], (1, PROTOCOL_ERROR)),
        "trailers that depend on themselves": (
            [opened, frame(HEADERS, CLOSED | WITH_PRIORITY, 1, struct.pack(">LB", 1, 9) + block([("a", "b")]))],
            (1, PROTOCOL_ERROR),
        ),
        "trailers of nothing": ([opened, frame(HEADERS, CLOSED, 1)], None),
        "data after trailers": ([opened, headers(1, [("a", "b")]), data(1, b"x")], (1, STREAM_CLOSED)),
    }


def compression(host: str) -> dict[str, Row]:
    """RFC 7541."""
    asked = block(get(host))

    def bad(octets: bytes) -> Row:
        return [frame(HEADERS, CLOSED, 1, octets)], COMPRESSION_ERROR

    return {
        "index 0": bad(asked + b"\x80"),
        "index beyond the table": bad(asked + b"\xbe"),
        "index far beyond the table": bad(asked + b"\xff\x80\x01"),
        "name beyond the table": bad(asked + b"\x7e\x01a"),
        "name beyond the table, not indexed": bad(asked + b"\x0f\x40\x01a"),
        "integer too long": bad(asked + b"\xff" + b"\xff" * 9 + b"\x7f"),
        "integer of zeros without end": bad(asked + b"\xff" + b"\x80" * 20 + b"\x00"),
        "integer cut off": bad(asked + b"\xff\x80"),
        "name cut off": bad(asked + b"\x40\x05abc"),
        "value cut off": bad(asked + b"\x40\x01a\x05abc"),
        "value without a length": bad(asked + b"\x40\x01a"),
        "string as long as numbers go": bad(asked + b"\x40\x01a\x7f\xff\xff\xff\x0f"),
        "padding of 8 bits": bad(asked + b"\x00\x01a\x82\x1f\xff"),
        "padding of zeros": bad(asked + b"\x00\x01a\x81\x18"),
        "end of string": bad(asked + b"\x00\x01a\x84\xff\xff\xff\xff"),
        "end of string in the middle": bad(asked + b"\x00\x01a\x86\x1f\xff\xff\xff\xff\x1f"),
        "table size after a field": bad(asked + b"\x20"),
        "table size between fields": bad(b"\x82\x20" + asked),
        "table size too large": bad(b"\x3f\xe2\x1f" + asked),
        "table size far too large": bad(b"\x3f\xff\xff\xff\xff\x0f" + asked),
        "second table size too large": bad(b"\x20\x3f\xe2\x1f" + asked),
        "entry that was evicted": (
            [
                frame(HEADERS, CLOSED, 1, asked + b"\x40\x01a\x01b"),
                frame(HEADERS, CLOSED, 3, b"\x20" + asked + b"\xbe"),
            ],
            COMPRESSION_ERROR,
        ),
        "table sizes at the beginning": ([frame(HEADERS, CLOSED, 1, b"\x20\x3f\xe1\x1f" + asked)], None),
        "table size and the entries after it": (
            [frame(HEADERS, CLOSED, 1, b"\x20\x3f\xe1\x1f" + asked + b"\x40\x01a\x01b\xbe")],
            None,
        ),
        "entry larger than the table": (
            [frame(HEADERS, CLOSED, 1, b"\x3f\x21" + asked + b"\x40\x01a\x7f\x01" + b"v" * 128)],
            None,
        ),
        "integer with a zero to spare": ([frame(HEADERS, CLOSED, 1, asked + b"\x0f\x80\x80\x00\x01a")], None),
        "table size in trailers": (
            [headers(1, get(host), OPEN), frame(HEADERS, CLOSED, 1, block([("a", "b")]) + b"\x20")],
            COMPRESSION_ERROR,
        ),
        "bad block of a stream that is reset": (
            [headers(1, get(host), OPEN), reset(1), frame(HEADERS, CLOSED, 1, b"\x80")],
            COMPRESSION_ERROR,
        ),
    }


def rows(host: str) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for part in (frames_and_sizes, stream_states, kinds_of_frames, semantics, compression):
        found.update(part(host))
    return found
