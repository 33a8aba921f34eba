"""HTTP/2 on the health listener, for load balancers that choose it in the TLS handshake (GOROUTER.md §8.2, 10.1).

Owns the choice by ALPN and connections of HTTP/2; does not own the listener, its HTTP/1.1, nor what is answered
(`admin`). The protocol is `wire.http2`'s.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import cast

from router.wire.header_lines import BadMessage
from router.wire.http2 import Engine
from router.wire.http2_frames import CANCEL
from router.wire.http2_head import request_of
from router.wire.http2_hpack import Field
from router.wire.http2_limits import Limits
from router.wire.http2_stream import Stream

IDLE_S = 10.0
"""A connection that sends nothing for this long is closed; Gorouter's read time-out."""

_LIMITS = Limits(list_bytes=16 * 1024, control_frames=100, small_frames=1000)
"""Health checks are a handful of small requests."""


@dataclass(frozen=True, slots=True)
class Http2Answer:
    """What is answered to one request, whatever its method."""

    status: int
    lines: list[bytes]
    body: bytes


Answer = Callable[[str], Http2Answer]
"""Returns what is answered for a path."""


class AlpnProtocol(asyncio.Protocol):
    """Stands on a TLS connection until its handshake is done, then hands it to who speaks what was chosen."""

    def __init__(self, http1: Callable[[], asyncio.Protocol], http2: Callable[[], asyncio.Protocol]) -> None:
        self._http1 = http1
        self._http2 = http2

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = transport.get_extra_info("ssl_object")
        chosen = self._http2() if connection.selected_alpn_protocol() == "h2" else self._http1()
        transport.set_protocol(chosen)
        chosen.connection_made(transport)


class HealthConnection(asyncio.Protocol):
    """One client connection of HTTP/2.

    Args:
        connections: those that are open; this one enters itself and leaves.
    """

    def __init__(self, answer: Answer, connections: "set[HealthConnection]") -> None:
        self._answer = answer
        self._connections = connections
        self._engine = Engine(True, _LIMITS, lambda stream_id: _HealthStream(self))
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(IDLE_S, self._look_after)
        self._turn: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._engine.start()
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._timer.cancel()
        if self._turn is not None:
            self._turn.cancel()
        self._engine.writable = False
        self._engine.abandon(CANCEL)

    def pause_writing(self) -> None:
        # A client that takes no answers is not asked for more questions.
        self._engine.writable = False
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._engine.writable = True
        self._engine.pump()
        self._flush()
        if self._turn is None:
            self._transport.resume_reading()

    def close(self) -> None:
        """Say goodbye and close; who does not take what was written is cut off when it would have been idle."""
        self._engine.end()
        self._flush()
        self._transport.close()

    def respond(self, stream: Stream, answer: Http2Answer, head_only: bool) -> None:
        """Answer a request, whose body is of no interest."""
        fields = [(b":status", b"%d" % answer.status), (b"content-length", b"%d" % len(answer.body))]
        lines = [*answer.lines, b"Date: " + formatdate(usegmt=True).encode()]
        body = b"" if head_only else answer.body
        self._engine.send_head(stream, fields, lines, not body)
        if body:
            self._engine.send_body(stream, body, True)
        if not (stream.closed or stream.remote_ended):
            self._engine.drop_rest(stream)

    def answer(self, path: str) -> Http2Answer:
        return self._answer(path)

    def _receive(self, data: bytes) -> None:
        engine = self._engine
        engine.receive(data, self._loop.time())
        self._flush()
        if engine.failed is not None or (engine.peer_left >= 0 and not engine.streams):
            self._transport.close()
        elif engine.more and self._turn is None:
            # The rest of what it has sent at once waits until control has done other work.
            self._transport.pause_reading()
            self._turn = self._loop.call_later(engine.wait_s, self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        self._receive(b"")
        if self._turn is None and self._engine.writable and not self._transport.is_closing():
            self._transport.resume_reading()

    def _flush(self) -> None:
        while self._engine.has_output():
            self._transport.write(self._engine.take_output())

    def _look_after(self) -> None:
        idle_s = self._loop.time() - self._heard_at
        if self._transport.is_closing():
            self._transport.abort()
            return
        if idle_s >= IDLE_S:
            self.close()
        else:
            self._engine.dismiss_lingering(False)
            self._flush()
        self._timer = self._loop.call_later(max(IDLE_S - idle_s, 1.0), self._look_after)


class _HealthStream(Stream):
    """One request."""

    def __init__(self, connection: HealthConnection) -> None:
        super().__init__()
        self._connection = connection

    def head_received(self, fields: list[Field], ended: bool) -> None:
        self.head_complete = True
        try:
            head = request_of(fields, ended, self.id).head
        except BadMessage as error:
            text = f"{error.status} {error.reason}".encode()
            refusal = Http2Answer(error.status, [b"Content-Type: text/plain; charset=utf-8"], text)
            self._connection.respond(self, refusal, False)
            return
        path = head.path.partition(b"?")[0].decode("latin-1")
        self._connection.respond(self, self._connection.answer(path), head.method == b"HEAD")

    def body_received(self, piece: bytes, ended: bool) -> None:
        """It is of no interest."""

    def trailers_received(self, fields: list[Field]) -> None:
        """They are of no interest."""

    def aborted(self, code: int) -> None:
        """There is nothing to stop: answers are made at once."""

    def full(self) -> None:
        """Answers are small."""

    def writable(self) -> None:
        """Answers are small."""
