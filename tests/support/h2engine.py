"""An HTTP/2 engine without a transport: what a peer sends it goes in as frames, and so comes out what it says."""

from router.wire.http2 import Engine
from router.wire.http2_hpack import Field
from router.wire.http2_limits import Limits
from router.wire.http2_stream import Stream
from tests.support.h2peer import GOAWAY, PREFACE, RST_STREAM, Frame, settings, split


class Heard(Stream):
    """A stream that writes down what it hears; with a content-length it holds the body to it."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self.trailers_heard: list[tuple[bytes, bytes]] | None = None
        self.ended = False
        self.codes: list[int] = []
        self.told: list[str] = []

    def head_received(self, fields: list[Field], ended: bool) -> None:
        self.head_complete = True
        self.fields = [field[:2] for field in fields]
        self.ended = ended
        length = dict(self.fields).get(b"content-length")
        if length is not None:
            self.expected = int(length)

    def body_received(self, piece: bytes, ended: bool) -> None:
        self.body.append(piece)
        self.ended = ended

    def trailers_received(self, fields: list[Field]) -> None:
        self.trailers_heard = [field[:2] for field in fields]
        self.ended = True

    def aborted(self, code: int) -> None:
        self.codes.append(code)

    def full(self) -> None:
        self.told.append("full")

    def writable(self) -> None:
        self.told.append("writable")


class Peer:
    """An engine as server, and what it says and hears. ``now`` is its clock."""

    def __init__(self, limits: Limits | None = None, *, begun: bool = True) -> None:
        self.heard: dict[int, Heard] = {}
        self.engine = Engine(True, limits or Limits(), self._accept)
        self.engine.start()
        self.now = 1000.0
        self.frames: list[Frame] = []
        if begun:
            self.send(PREFACE, settings())
            self.output()

    def _accept(self, stream_id: int) -> Stream:
        self.heard[stream_id] = Heard()
        return self.heard[stream_id]

    def send(self, *frames: bytes) -> None:
        self.engine.receive(b"".join(frames), self.now)
        while self.engine.more:
            self.engine.receive(b"", self.now)

    def output(self) -> list[Frame]:
        frames, rest = split(self.engine.take_output())
        assert rest == b""
        return frames

    def answer(self, stream_id: int, body: bytes = b"ok", ended: bool = True) -> None:
        stream = self.heard[stream_id]
        self.engine.send_head(stream, [(b":status", b"200")], [], False)
        self.engine.send_body(stream, body, ended)


def outcome(frames: list[Frame]) -> tuple[int, int] | int | None:
    """A GOAWAY's code, or stream and code of a RST_STREAM; None if there is neither."""
    for each in frames:
        if each.kind == GOAWAY:
            return each.number(4)
        if each.kind == RST_STREAM:
            return each.stream_id, each.number()
    return None
