"""A client that sends exactly the HTTP/2 frames it is given, and reads frames; independent of our engine.

Frames are built and taken apart here by RFC 9113 §4.1, header blocks by the ``hpack`` library.
"""

import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import hpack

from tests.support.rawclient import RawClient
from tests.support.waiting import PATIENCE_S

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
(
    NO_ERROR,
    PROTOCOL_ERROR,
    INTERNAL_ERROR,
    FLOW_CONTROL_ERROR,
    SETTINGS_TIMEOUT,
    STREAM_CLOSED,
    FRAME_SIZE_ERROR,
) = range(7)
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(7, 12)

Fields = list[tuple[str, str]]


@dataclass(slots=True, frozen=True)
class Frame:
    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def ended(self) -> bool:
        return bool(self.flags & END_STREAM)

    def number(self, at: int = 0) -> int:
        """The 32-bit number at a place of the payload: an error code, an increment, a stream."""
        return int(struct.unpack_from(">L", self.payload, at)[0])


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">L", len(payload))[1:] + struct.pack(">BBL", kind, flags, stream_id) + payload


def split(octets: bytes) -> tuple[list[Frame], bytes]:
    """Return whole frames and what is left."""
    frames = []
    while len(octets) >= 9:
        size = int.from_bytes(octets[:3], "big")
        if len(octets) < 9 + size:
            break
        kind, flags, stream_id = struct.unpack(">BBL", octets[3:9])
        frames.append(Frame(kind, flags, stream_id, octets[9 : 9 + size]))
        octets = octets[9 + size :]
    return frames, octets


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", name, value) for name, value in pairs))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">L", increment))


def reset(stream_id: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream_id, struct.pack(">L", code))


def priority(stream_id: int, depends_on: int = 0) -> bytes:
    return frame(PRIORITY, 0, stream_id, struct.pack(">LB", depends_on, 15))


def get(host: str = "app.test", path: str = "/", *more: tuple[str, str], method: str = "GET") -> Fields:
    """The header list of an ordinary request."""
    return [(":method", method), (":scheme", "http"), (":authority", host), (":path", path), *more]


def block(fields: Fields) -> bytes:
    """A header block of literals, which uses no table and changes none."""
    return b"".join(b"\0" + _literal(name) + _literal(value) for name, value in fields)


def _literal(text: str) -> bytes:
    octets = text.encode("latin-1")
    size, coded = len(octets), bytearray()
    if size < 127:
        return bytes((size,)) + octets
    size -= 127
    while size >= 128:
        coded.append(size % 128 + 128)
        size //= 128
    return b"\x7f" + bytes(coded) + bytes((size,)) + octets


def headers(stream_id: int, fields: Fields, flags: int = END_HEADERS | END_STREAM) -> bytes:
    return frame(HEADERS, flags, stream_id, block(fields))


@dataclass(slots=True)
class Answer:
    """What came on one stream.

    Attributes:
        reset: the code of RST_STREAM, None without.
    """

    status: int = 0
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def header(self, name: str) -> str | None:
        found = self.values(name)
        assert len(found) < 2, f"{name} came {len(found)} times: {found}"
        return found[0] if found else None


class H2Peer:
    """One connection. Use as a context manager.

    Attributes:
        answers: by stream, as far as they were read.
        goaway: last stream and code of every GOAWAY.
        credit: by stream, the window it was given beyond its first.
        acknowledges: SETTINGS are answered as they are read.
        seen: every frame that was read.
    """

    def __init__(
        self,
        port: int,
        *own_settings: tuple[int, int],
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        begin: bool = True,
        receive_buffer: int | None = None,
        timeout_s: float = PATIENCE_S,
    ) -> None:
        self.client = RawClient(
            port, tls=tls, server_name=server_name, receive_buffer=receive_buffer, timeout_s=timeout_s
        )
        self.answers: dict[int, Answer] = {}
        self.goaway: list[tuple[int, int]] = []
        self.credit: dict[int, int] = {}
        self.acknowledges = True
        self.seen: list[Frame] = []
        self._decoder = hpack.Decoder()
        if begin:
            self.send(PREFACE, settings(*own_settings))

    def __enter__(self) -> "H2Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def send(self, *frames: bytes) -> None:
        self.client.send(b"".join(frames))

    def request(self, stream_id: int, fields: Fields, body: bytes | None = None) -> None:
        self.send(headers(stream_id, fields, END_HEADERS | (END_STREAM if body is None else 0)))
        if body is not None:
            self.send(frame(DATA, END_STREAM, stream_id, body))

    def get(self, stream_id: int = 1, host: str = "app.test", path: str = "/") -> Answer:
        """Send a plain GET and read its answer whole."""
        self.request(stream_id, get(host, path))
        return self.answer(stream_id)

    # Reading.

    def read(self) -> Frame | None:
        """Read a frame and note what it says; None at the end of the connection."""
        while True:
            octets = bytes(self.client.buffer)
            size = int.from_bytes(octets[:3], "big") if len(octets) >= 9 else None
            if size is not None and len(octets) >= 9 + size:
                break
            if not self.client._more():
                return None
        raw = self.client.read_exactly(9 + size)
        got = split(raw)[0][0]
        self._note(got)
        return got

    def answer(self, stream_id: int) -> Answer:
        """Read until a stream has ended in either way."""
        while True:
            answer = self.answers.setdefault(stream_id, Answer())
            if answer.ended or answer.reset is not None:
                return answer
            if self.read() is None:
                raise AssertionError(f"stream {stream_id} never ended: {answer}, GOAWAY {self.goaway}")

    def until(self, kind: int, stream_id: int = 0, flags: int = 0) -> Frame:
        """Read until such a frame."""
        for got in self.rest():
            if (got.kind, got.stream_id) == (kind, stream_id) and got.flags & flags == flags:
                return got
        raise AssertionError(f"no frame {kind} on {stream_id}, GOAWAY {self.goaway}")

    def rest(self) -> Iterator[Frame]:
        while (got := self.read()) is not None:
            yield got

    def error(self) -> int:
        """Read to the end of the connection and return the code of its last GOAWAY."""
        for _ in self.rest():
            pass
        assert self.goaway, "the connection ended without GOAWAY"
        return self.goaway[-1][1]

    def synchronise(self) -> None:
        """Wait until everything sent so far was worked through."""
        self.send(frame(PING, 0, 0, b"are you."))
        self.until(PING, 0, ACK)

    def _note(self, got: Frame) -> None:
        self.seen.append(got)
        if got.kind == GOAWAY:
            self.goaway.append((got.number() & 0x7FFFFFFF, got.number(4)))
        elif got.kind == SETTINGS and not got.flags & ACK:
            if self.acknowledges:
                self.send(frame(SETTINGS, ACK))
        elif got.kind == WINDOW_UPDATE:
            self.credit[got.stream_id] = self.credit.get(got.stream_id, 0) + got.number()
        elif got.stream_id and got.kind in (HEADERS, DATA, RST_STREAM):
            self._note_answer(self.answers.setdefault(got.stream_id, Answer()), got)

    def _note_answer(self, answer: Answer, got: Frame) -> None:
        if got.kind == RST_STREAM:
            answer.reset = got.number()
            return
        if got.kind == DATA:
            answer.body += got.payload
        else:
            assert got.flags & END_HEADERS
            fields = self._decoder.decode(got.payload)
            self._note_head(answer, [(str(name), str(value)) for name, value in fields])
        answer.ended = answer.ended or got.ended

    def _note_head(self, answer: Answer, fields: Fields) -> None:
        if answer.status:
            answer.trailers = fields
            return
        assert fields[0][0] == ":status", fields
        assert not any(name.startswith(":") for name, _ in fields[1:])
        status = int(fields[0][1])
        if status < 200:
            answer.interim.append(status)
        else:
            answer.status, answer.fields = status, fields[1:]
