"""One HTTP/2 connection to an endpoint, which many exchanges share.

Moves bytes between its transport and the engine, which makes streams of them. Owns what concerns the whole
connection: whether another stream may be opened, signs of life, leaving when the backend asks for it, the end. The
protocol is `wire.http2`'s, one exchange `backend.http2_stream`'s. One law: what the backend says it has not looked
at (RFC 9113 §6.8, 8.7) may be sent again, whatever it was.
"""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from router.backend.dial import Noting, is_quiet
from router.backend.failure import EOF, PROTOCOL, REFUSED, STREAM_RESET, BackendFailure, of_lost
from router.backend.http2_stream import BackendStream
from router.routing.pool import Endpoint
from router.wire.http2 import Engine
from router.wire.http2_frames import CANCEL, HTTP_1_1_REQUIRED, NO_ERROR, REFUSED_STREAM
from router.wire.http2_limits import Limits

if TYPE_CHECKING:
    from router.backend.shared import SharedConnections

MOST_STREAMS = 250
"""At once on one connection, if the backend allows as many; the next request gets another connection."""
_LAST_STREAM = 2**30 - 1
"""Streams of a connection's life: ids are twice as large, and end at 2^31."""
_SILENT_S = 5.0
"""A request that is given up, with nothing heard from its backend for so long, puts the connection in doubt."""
_ANSWER_S = 10.0
"""A connection in doubt is cut if it does not answer a PING in time."""
_LIMITS = Limits(control_frames=10_000, resets=10_000, small_frames=1_000_000)
_CODES = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)


class SharedConnection(Noting):
    """A connection; lives from a successful dial until either side closes it.

    Args:
        list_bytes: what a response's header list may have.
        most_streams: ever, below what ids allow; 1 for connections that are not to be used again.

    Attributes:
        endpoint: whose instance this is; changes when a re-registration takes its connections over.
        settled: done once the backend has sent its settings, with None, or with why it did not.
        first_bytes: the first it sent, in case they are no HTTP/2.
        served: streams opened so far.
        made_at: monotonic seconds when the connection was there.
        idle_since: monotonic seconds, valid while there are no streams.
        local_address, timings: as of `BackendConnection`.
    """

    def __init__(self, owner: "SharedConnections", endpoint: Endpoint, list_bytes: int, most_streams: int) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.scheme = b"https" if endpoint.record.tls else b"http"
        self.engine = Engine(False, replace(_LIMITS, list_bytes=list_bytes))
        self.settled: asyncio.Future[BackendFailure | None] = asyncio.get_running_loop().create_future()
        self.first_bytes = b""
        self.served = 0
        self.made_at = 0.0
        self.idle_since = owner.now()
        self._owner = owner
        self._most_ever = min(most_streams, _LAST_STREAM)
        self._most_now = MOST_STREAMS
        self._failure: BackendFailure | None = None
        self._leaving = False
        self._closed = False
        self._reading = False
        self._flush_due = False
        self._waits_for_turn = False
        self._last_seen = -1
        self._heard_at = owner.now()
        self._asked_at = 0.0
        """Monotonic seconds since when a PING waits for an answer; 0 if none does."""

    # Streams.

    def has_room(self) -> bool:
        """Whether another stream may be opened now."""
        engine = self.engine
        return (
            len(engine.streams) < self._most_now
            and len(engine.streams) < engine.peer_streams
            and self.served < self._most_ever
            and engine.peer_left < 0
            and not (self._leaving or self._closed or self._asked_at)
            and not self._transport.is_closing()
        )

    def is_quiet(self) -> bool:
        """Whether neither an end of stream nor anything else waits to be read."""
        return is_quiet(self.fileno())

    def is_busy(self) -> bool:
        return bool(self.engine.streams)

    def takes_tunnels(self) -> bool:
        """Whether the backend offers extended CONNECT."""
        return self.engine.peer_extended_connect

    def opened(self, stream: BackendStream) -> None:
        """A stream is about to be opened."""
        stream.opened_at = self._owner.now()
        self.idle_since = 0.0
        self.served += 1

    def abandoned(self, stream: BackendStream) -> None:
        """A stream is given up. A backend that was silent all the time may be gone without a word: unless it
        answers a question, the other exchanges should not wait for it."""
        now = self._owner.now()
        if not self._asked_at and now - max(stream.opened_at, self._heard_at) >= _SILENT_S:
            self._asked_at = now
            self.engine.ping()

    def check_size(self, size: int, count: int) -> None:
        """Refuse a response head over the configured limits. Raises `BackendFailure` or `BadMessage`."""
        self._owner.check_size(size, count)

    def failure_of(self, stream: BackendStream, code: int) -> BackendFailure:
        """Say why a stream has ended before its time."""
        engine = self.engine
        if 0 <= engine.peer_left < stream.id:
            return BackendFailure(REFUSED, "http2: server sent GOAWAY before it looked at the request")
        if self._failure is not None:
            return self._failure
        if engine.failed is not None:
            return BackendFailure(PROTOCOL, f"http2: connection error: {engine.failed.reason}")
        name = _CODES[code] if code < len(_CODES) else f"error code {code}"
        text = f"stream error: stream ID {stream.id}; {name}"
        if stream.fault:
            return BackendFailure(PROTOCOL, f"{text}; {stream.fault}")
        if code == REFUSED_STREAM:
            self._refused()
            return BackendFailure(REFUSED, f"{text}; received from peer")
        if code == HTTP_1_1_REQUIRED:
            self._owner.wants_http1(self.endpoint)
            return BackendFailure(REFUSED, f"{text}; received from peer")
        return BackendFailure(STREAM_RESET, f"{text}; received from peer")

    def _refused(self) -> None:
        """The backend takes fewer streams than it said."""
        self._most_now = max(len(self.engine.streams), 1)
        if not self.engine.streams:
            self._leaving = True

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.made_at = self._owner.now()
        self._owner.made(self)
        self.engine.start()
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the backend; called directly where TLS lies between."""
        if self._closed:
            return
        if not self.first_bytes:
            self.first_bytes = data[:8]
        self._heard_at = self._owner.now()
        self._asked_at = 0.0
        self._receive(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        engine = self.engine
        if self._failure is None:
            self._failure = of_lost(exc)
            if exc is None and engine.peer_left >= 0 and engine.peer_left_code != NO_ERROR:
                self._failure = BackendFailure(EOF, _left_text(engine.peer_left, engine.peer_left_code))
        engine.writable = False
        engine.abandon(CANCEL)
        if not self.settled.done():
            self.settled.set_result(self._failure)
        self._owner.lost(self)

    def pause_writing(self) -> None:
        self.engine.writable = False

    def resume_writing(self) -> None:
        self.engine.writable = True
        self.engine.pump()
        self.flush()

    # Reading.

    def _receive(self, data: bytes) -> None:
        engine = self.engine
        self._reading = True
        engine.receive(data, self._heard_at)
        self._reading = False
        if engine.peer_left != self._last_seen:
            self._told_to_leave()
        if engine.failed is not None:
            self._break(f"http2: connection error: {engine.failed.reason}")
            return
        if not self.settled.done() and engine.is_settled():
            self.settled.set_result(None)
        if engine.more and not self._waits_for_turn:
            self._wait_for_turn()
        self.flush()

    def _wait_for_turn(self) -> None:
        """A backend that sends many heads at once waits until the others have had their turn."""
        self._waits_for_turn = True
        self.pause_reading()
        asyncio.get_running_loop().call_later(self.engine.wait_s, self._take_turn)

    def _take_turn(self) -> None:
        self._waits_for_turn = False
        if self._closed:
            return
        self._receive(b"")
        if not self._waits_for_turn:
            self.resume_reading()

    def _told_to_leave(self) -> None:
        """The backend opens no more streams: those it does not know are another connection's now."""
        engine = self.engine
        last = self._last_seen = engine.peer_left
        for stream in list(engine.streams.values()):
            if stream.id > last:
                engine.forget(stream)
                stream.aborted(REFUSED_STREAM)

    # Writing.

    def wants_flush(self) -> None:
        """Something is to be written; it goes out with everything else that this turn of the loop brings."""
        if not (self._flush_due or self._reading):
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what the engine has ready."""
        self._flush_due = False
        engine, transport = self.engine, self._transport
        if self._closed:
            return
        while engine.has_output():
            transport.write(engine.take_output())
            if engine.more_to_send and engine.writable:
                engine.pump()
        if not engine.streams and (engine.peer_left >= 0 or not self.idle_since):
            self._became_idle()

    def _became_idle(self) -> None:
        self.idle_since = self._owner.now()
        if self._leaving or self.engine.peer_left >= 0 or not self._owner.keeps(self):
            self.close()

    # The end.

    def is_overdue(self, now: float) -> bool:
        """Whether a PING was not answered in time."""
        return bool(self._asked_at) and now - self._asked_at >= _ANSWER_S

    def is_closed(self) -> bool:
        return self._closed

    def leave(self) -> None:
        """Close as soon as the last stream has ended."""
        self._leaving = True
        if not self.engine.streams:
            self.close()

    def close(self) -> None:
        """Say goodbye, and close when what was written has been sent; `SharedConnections.sweep` sees to it that
        this comes to an end."""
        if self._closed:
            return
        if self.engine.failed is None:
            self.engine.end()
        self._transport.write(self.engine.take_output())
        self._closed = True
        self.idle_since = self._owner.now()
        self._transport.close()

    def discard(self) -> None:
        """Close at once."""
        self._transport.abort()

    def give_up(self) -> None:
        """Close at once, because the backend is gone."""
        self._failure = BackendFailure(EOF, "http2: client connection lost")
        self.discard()

    def _break(self, text: str) -> None:
        """End a connection that cannot go on; its streams have been told."""
        self._failure = BackendFailure(PROTOCOL, text)
        self.close()


def _left_text(last: int, code: int) -> str:
    name = _CODES[code] if code < len(_CODES) else str(code)
    return f"http2: server sent GOAWAY and closed the connection; LastStreamID={last}, ErrCode={name}"
