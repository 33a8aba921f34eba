"""The oracle: is this byte stream what a strict RFC 9112 sender may write, and which requests are in it?

Judges what reached a backend. Nothing is forgiven here: whatever two readers could understand differently is a
`Violation`. Knows no sockets.
"""

import re
from dataclasses import dataclass, field

from tests.support.fields import Headed

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
TARGET = re.compile(rb"[\x21-\x7e]+")
VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")
FORBIDDEN_IN_TRAILERS = {b"transfer-encoding", b"content-length", b"host", b"trailer", b"connection"}
FRAMING_LOOK_ALIKES = re.compile(rb"(?:content[^a-z]*length|transfer[^a-z]*encoding)")


class Violation(Exception):
    """The bytes are not what a strict sender writes."""


class Incomplete(Exception):
    """The stream ends inside a message."""


@dataclass(slots=True)
class Message(Headed):
    """One request as a strict reader understands it."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunked: bool = False
    trailers: list[tuple[str, str]] = field(default_factory=list)


def requests_in(stream: bytes, *, may_be_cut: bool = False) -> list[Message]:
    """Split a connection's bytes into requests. Raises `Violation`, or `Incomplete` unless ``may_be_cut``."""
    messages: list[Message] = []
    position = 0
    while position < len(stream):
        try:
            message, position = _request(stream, position)
        except Incomplete:
            if may_be_cut:
                break
            raise
        messages.append(message)
    return messages


def _request(stream: bytes, position: int) -> tuple[Message, int]:
    line, position = _line(stream, position)
    parts = line.split(b" ")
    if len(parts) != 3:
        raise Violation(f"request line {line!r}")
    method, target, version = parts
    if not TOKEN.fullmatch(method) or not TARGET.fullmatch(target) or version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Violation(f"request line {line!r}")
    fields, position = _fields(stream, position)
    message = Message(method.decode(), target.decode(), version.decode(), _text(fields))
    length = _framing(fields)
    if length is None:
        message.chunked = True
        message.body, trailers, position = _chunks(stream, position)
        message.trailers = _text(trailers)
    else:
        if len(stream) - position < length:
            raise Incomplete
        message.body = stream[position : position + length]
        position += length
    return message, position


def _line(stream: bytes, position: int) -> tuple[bytes, int]:
    end = stream.find(b"\n", position)
    if end < 0:
        raise Incomplete
    line = stream[position:end]
    if not line.endswith(b"\r") or b"\r" in line[:-1] or b"\0" in line:
        raise Violation(f"line {line!r}")
    return line[:-1], end + 1


def _fields(stream: bytes, position: int) -> tuple[list[tuple[bytes, bytes]], int]:
    fields: list[tuple[bytes, bytes]] = []
    while True:
        line, position = _line(stream, position)
        if not line:
            return fields, position
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
            raise Violation(f"field line {line!r}")
        fields.append((name, value))


def _framing(fields: list[tuple[bytes, bytes]]) -> int | None:
    """Return the body's length, or None for chunked."""
    names = [name.lower() for name, _ in fields]
    for name in names:
        if name not in (b"content-length", b"transfer-encoding") and FRAMING_LOOK_ALIKES.fullmatch(name):
            raise Violation(f"look-alike of a framing field: {name!r}")
    if names.count(b"host") != 1:
        raise Violation(f"{names.count(b'host')} Host fields")
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise Violation(f"Content-Length {lengths} with Transfer-Encoding {codings}")
    if codings:
        if codings[0] != b"chunked":
            raise Violation(f"Transfer-Encoding {codings[0]!r}")
        return None
    if not lengths:
        return 0
    if not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise Violation(f"Content-Length {lengths[0]!r}")
    return int(lengths[0])


def _chunks(stream: bytes, position: int) -> tuple[bytes, list[tuple[bytes, bytes]], int]:
    body = b""
    while True:
        line, position = _line(stream, position)
        if not CHUNK_SIZE.fullmatch(line):
            raise Violation(f"chunk size line {line!r}")
        size = int(line, 16)
        if size == 0:
            break
        if len(stream) - position < size + 2:
            raise Incomplete
        body += stream[position : position + size]
        position += size
        if stream[position : position + 2] != b"\r\n":
            raise Violation("chunk data not followed by CRLF")
        position += 2
    trailers, position = _fields(stream, position)
    for name, _ in trailers:
        if name.lower() in FORBIDDEN_IN_TRAILERS:
            raise Violation(f"{name!r} in trailers")
    return body, trailers, position


def _text(fields: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode("latin-1")) for name, value in fields]
