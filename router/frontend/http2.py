"""One HTTP/2 client connection: moves bytes between its transport and the engine, which makes streams of them.

Owns what concerns the whole connection: writing in one go what a turn of the loop has brought, time-outs, drain,
the end. The protocol is `wire.http2`'s, one request `frontend.http2_stream`'s.
"""

import asyncio
from dataclasses import dataclass
from time import monotonic

from router.frontend.connection import LAST_REQUEST_S, Accepted, FrontendConnection, FrontendOptions, Served
from router.frontend.http2_stream import Http2Stream
from router.proxy.forward import Proxy
from router.wire.http2 import Engine
from router.wire.http2_frames import CANCEL, ENHANCE_YOUR_CALM, SETTINGS_TIMEOUT, ConnectionFault
from router.wire.http2_limits import Limits
from router.wire.http2_stream import Stream

_OPEN, _LINGER, _CLOSED = range(3)

_TICK_S = 1.0
"""How often a connection with streams is looked at."""


@dataclass(frozen=True, slots=True)
class Http2Options:
    """Limits of HTTP/2 connections beyond those of all client connections.

    Attributes:
        stall_s: a response of which the client takes nothing for so many seconds is given up; 0 for never.
        endpoint_timeout_s: for a whole exchange with an endpoint; 0 for none.
    """

    limits: Limits
    stall_s: float
    endpoint_timeout_s: float


class Http2Connection(FrontendConnection):
    """Serves one client connection from accept to close."""

    def __init__(
        self,
        proxy: Proxy,
        options: FrontendOptions,
        http2: Http2Options,
        connections: set[Served],
        accepted: Accepted,
    ) -> None:
        super().__init__(proxy, options, connections, accepted)
        self.engine = Engine(True, http2.limits, self._new_stream)
        self.http2 = http2
        self._loop: asyncio.AbstractEventLoop | None = None
        self._phase = _OPEN
        self._busy = False
        self._reading = False
        self._flush_due = False
        self._waits_for_turn = False
        self._draining = False
        self._head_since = 0.0
        self._unsent_since = 0.0
        self._faults_counted = 0
        self._refused_counted = 0
        self._slowed_counted = False

    def _new_stream(self, stream_id: int) -> Stream:
        self.proxy.counters.http2_streams += 1
        return Http2Stream(self)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._take(transport)
        self._loop = asyncio.get_running_loop()
        self._connections.add(self)
        self._head_since = monotonic()
        self.deadline = self._head_since + _TICK_S
        self.engine.start()
        if self._draining:
            self._announce_end()
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client; called directly where TLS lies between."""
        if self._phase == _OPEN:
            self._receive(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = _CLOSED
        self._connections.discard(self)
        self.engine.writable = False
        self.engine.abandon(CANCEL)

    def pause_writing(self) -> None:
        self.engine.writable = False

    def resume_writing(self) -> None:
        self.engine.writable = True
        self.engine.pump()
        self.flush()

    # Reading.

    def _receive(self, data: bytes) -> None:
        engine = self.engine
        now = monotonic()
        self._reading = True
        engine.receive(data, now)
        self._reading = False
        if engine.stream_faults != self._faults_counted or engine.refused != self._refused_counted:
            self._count_faults()
        if engine.slowed and not self._slowed_counted:
            self._slowed_counted = True
            self.proxy.counters.http2_slowed_connections += 1
        if engine.failed is not None:
            self._break(engine.failed)
            return
        if engine.more and not self._waits_for_turn:
            self._wait_for_turn()
        if not engine.is_mid_head():
            self._head_done()
        elif not self._head_since:
            self._head_since = now
            self.deadline = min(self.deadline or now + _TICK_S, now + _TICK_S)
        if self._draining and engine.pongs:
            engine.end()
        self.flush()

    def _head_done(self) -> None:
        if self._head_since:
            self._head_since = 0.0
            self._note_business()

    def _wait_for_turn(self) -> None:
        """A client that sends many requests at once waits until the others have had their turn."""
        assert self._loop is not None
        self._waits_for_turn = True
        self.pause_reading()
        self._loop.call_later(self.engine.wait_s, self._take_turn)

    def _take_turn(self) -> None:
        self._waits_for_turn = False
        if self._phase != _OPEN:
            return
        self._receive(b"")
        if not self._waits_for_turn:
            self.resume_reading()

    def _count_faults(self) -> None:
        counters, engine = self.proxy.counters, self.engine
        counters.http2_stream_errors += engine.stream_faults - self._faults_counted
        counters.http2_refused_streams += engine.refused - self._refused_counted
        self._faults_counted, self._refused_counted = engine.stream_faults, engine.refused

    # Writing.

    def wants_flush(self) -> None:
        """Something is to be written; it goes out with everything else that this turn of the loop brings."""
        if not (self._flush_due or self._reading) and self._loop is not None:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what the engine has ready."""
        self._flush_due = False
        engine, transport = self.engine, self._transport
        if self._phase == _CLOSED:
            return
        while engine.has_output():
            transport.write(engine.take_output())
            if engine.more_to_send and engine.writable:
                engine.pump()
        if bool(engine.streams) != self._busy:
            self._note_business()
        if not engine.streams and (self._draining or engine.peer_left >= 0):
            self._part()

    def _note_business(self) -> None:
        """The first stream was opened, or the last one ended."""
        self._busy = bool(self.engine.streams)
        now = monotonic()
        if self._busy or self._head_since or self.engine.has_ended() or self._draining:
            self.deadline = now + _TICK_S
        else:
            self.deadline = now + self.options.idle_s if self.options.idle_s else 0.0

    def _part(self) -> None:
        """One side has said that it leaves, and nothing is left to do."""
        engine = self.engine
        if self._phase != _OPEN:
            return
        if self._draining:
            if engine.has_ended():
                self._close()
        elif not engine.has_ended():
            # The client closes when it is done: it may still want to know whether all it sent has arrived.
            engine.end()
            self._transport.write(engine.take_output())
            self.deadline = monotonic() + LAST_REQUEST_S

    # What streams ask for.

    def hold_place(self) -> None:
        """A stream was cancelled, but its backend is let go of only with the loop's next turn: until then it
        counts, so that no client has more requests going on than it may have streams."""
        if self._loop is not None:
            self.engine.held += 1
            self._loop.call_soon(self._release_place)

    def _release_place(self) -> None:
        self.engine.held -= 1

    # What the worker calls.

    def expire(self) -> None:
        """The deadline has passed: of an idle or closing connection, or it is time to look after the streams."""
        now = monotonic()
        self.deadline = 0.0
        if self._phase == _LINGER:
            self._close()
        elif self._phase == _CLOSED:
            self._check_flush(now)
        elif self._draining and not self.engine.has_ended():
            self.deadline = now + _TICK_S
            self.engine.end()
            self.flush()
        elif self._head_is_late(now):
            self._break(ConnectionFault(SETTINGS_TIMEOUT, "head not complete in time"))
        elif self.engine.streams or self._head_since:
            self.deadline = now + _TICK_S
            self._look_after_streams(now)
        else:
            self._leave_idle()

    def drain(self) -> None:
        """Serve what is on its way, then close: one GOAWAY now, the last word when the client has seen it."""
        if self._draining or self._phase != _OPEN:
            return
        self._draining = True
        if self._transport is not None:
            self._announce_end()
            self.wants_flush()

    def _announce_end(self) -> None:
        self.engine.announce_end()
        self.deadline = monotonic() + LAST_REQUEST_S

    def is_tunnel(self) -> bool:
        streams = self.engine.streams.values()
        return bool(streams) and all(isinstance(each, Http2Stream) and each.is_tunnel for each in streams)

    def abort(self) -> None:
        """Close now: a client that reads still hears of its streams' ends, one that does not is cut off."""
        if self._loop is None:
            return
        if self._phase == _OPEN:
            self.engine.end()
            self.flush()
            self._close()
        self._loop.call_soon(self._cut_off)

    # Time-outs and the end.

    def _cut_off(self) -> None:
        if self._phase != _CLOSED or self._transport.get_write_buffer_size():
            self._transport.abort()

    def _head_is_late(self, now: float) -> bool:
        header_s = self.options.header_s
        return bool(self._head_since and header_s and now - self._head_since >= header_s)

    def _leave_idle(self) -> None:
        self.engine.end()
        self.flush()
        self._close()

    def _look_after_streams(self, now: float) -> None:
        self.engine.dismiss_lingering(self._draining)
        self._look_for_stalls(now)
        self.flush()

    def _look_for_stalls(self, now: float) -> None:
        stall_s = self.http2.stall_s
        if not stall_s:
            return
        for stream in list(self.engine.blocked.values()):
            assert isinstance(stream, Http2Stream)
            if stream.progressed or not stream.stalled_since:
                stream.progressed = False
                stream.stalled_since = now
            elif now - stream.stalled_since >= stall_s:
                self.proxy.counters.http2_stalled_streams += 1
                self.engine.reset(stream, ENHANCE_YOUR_CALM)
                stream.aborted(ENHANCE_YOUR_CALM)
        unsent = self._transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent or not self._unsent_since:
            self._unsent_since = now
        elif now - self._unsent_since >= stall_s:
            self._transport.abort()
        self._unsent = unsent

    def _break(self, fault: ConnectionFault) -> None:
        """End a connection that cannot go on."""
        counters = self.proxy.counters
        if fault.code == ENHANCE_YOUR_CALM:
            counters.http2_floods += 1
        else:
            counters.http2_connection_errors += 1
        if self.engine.failed is None:
            self.engine.fail(fault)
        self.flush()
        if not self._transport.is_closing():
            self._phase = _LINGER
            self._close_when_read()

    def _close(self) -> None:
        self._phase = _CLOSED
        self._close_when_sent()
