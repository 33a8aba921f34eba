"""One HTTP/2 connection without its socket (RFC 9113): bytes in, calls on streams; calls in, bytes out.

Owns framing, settings, the beginning and the end; the streams are its two halves', `wire.http2_sender` and
`wire.http2_receiver`. Knows neither requests nor sockets nor the time, which are its callers'. Either end of a
connection: `Engine.server` tells which. One law: what a peer can demand is bounded by what it has sent or taken,
and whoever demands more is told to calm down.
"""

from collections.abc import Callable

from router.wire.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEAD,
    HEAD_BYTES,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_STREAM_ID,
    LARGEST_WINDOW,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    NO_ERROR,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFault,
    StreamFault,
    depends_on,
    frame,
    goaway_frame,
    parse_goaway,
    parse_settings,
    parse_window_update,
    settings_frame,
    window_update_frame,
)
from router.wire.http2_limits import Allowance, Limits
from router.wire.http2_receiver import CONNECTION_WINDOW, Receiver
from router.wire.http2_stream import Stream

_FRAMES_A_TURN = 1024
"""Frames read in one go; the rest waits until everybody else had their turn."""
_HEAD_WORTH = 16
"""Frames that a header block counts for."""
_SMALL_BYTES = 32
_SLOW_S = 0.02
"""So long whoever sends too many small frames waits for the next ones to be read."""


class Engine(Receiver):
    """The state of one connection.

    Args:
        server: this end accepts streams; otherwise it opens them.
        limits: of the peer.
        accept: makes the stream for a request, given its id; not called by clients.

    Attributes:
        streams: open ones by id; a stream whose response waits for window is one of them.
        blocked: those with something to send that windows or the connection do not let go.
        lingering: those whose peer still sends what nobody wants, after everything of ours.
        held: streams that are closed but whose work goes on; they count as open.
        writable: the connection takes what is written; while it does not, DATA waits on its streams.
        more_to_send: `pump` has stopped before its work was done.
        failed: the fault that ended the connection; nothing is read any more.
        more: not all that was received has been worked through; call `receive` again with nothing, after
            ``wait_s`` seconds.
        slowed: the peer has had to wait because it sends too many small frames.
        peer_left: the last stream that the peer says it serves, -1 as long as it has not sent GOAWAY.
    """

    def __init__(self, server: bool, limits: Limits, accept: Callable[[int], Stream] | None = None) -> None:
        super().__init__(server, limits, accept)
        self.failed: ConnectionFault | None = None
        self.more = False
        self.wait_s = 0.0
        self.slowed = False
        self.peer_left = -1
        self.peer_left_code = NO_ERROR
        self.peer_streams = LARGEST_WINDOW
        """How many streams the peer lets us open."""
        self.peer_extended_connect = False
        self.pongs = 0
        """Answers to our own PING frames."""
        self._small = Allowance(limits.small_frames, limits.small_frames)
        self._buffer = b""
        self._preface = PREFACE if server else b""
        self._settled = False

    # Beginning and end.

    def start(self) -> None:
        """Write what opens the connection."""
        limits = self.limits
        settings = [(INITIAL_WINDOW_SIZE, limits.window), (MAX_HEADER_LIST_SIZE, limits.list_bytes)]
        if self.server:
            settings += [(MAX_CONCURRENT_STREAMS, limits.streams), (ENABLE_CONNECT_PROTOCOL, 1)]
        else:
            self._out.append(PREFACE)
            settings.append((ENABLE_PUSH, 0))
        self._out.append(settings_frame(settings))
        self._out.append(window_update_frame(0, CONNECTION_WINDOW - DEFAULT_WINDOW))

    def announce_end(self) -> None:
        """Ask the peer to open no more streams, but still serve those on their way (RFC 9113 §6.8)."""
        if self.has_ended():
            return
        self._out.append(goaway_frame(LARGEST_STREAM_ID, NO_ERROR))
        self._out.append(frame(PING, 0, 0, b"draining"))

    def end(self, code: int = NO_ERROR, reason: str = "") -> None:
        """Serve no streams but those that are open."""
        if self._left == LARGEST_STREAM_ID:
            self._left = self.last_peer_id
            self._out.append(goaway_frame(self.last_peer_id, code, reason))

    def has_ended(self) -> bool:
        """Whether the peer was told which stream is the last."""
        return self._left != LARGEST_STREAM_ID or self.failed is not None

    def is_settled(self) -> bool:
        """Whether the peer has sent its settings."""
        return self._settled

    def is_mid_head(self) -> bool:
        """Whether the preface, the first SETTINGS, the head of a frame or a header block are not complete."""
        if self._block is not None or not self._settled:
            return True
        size = len(self._buffer)
        return 0 < size < HEAD_BYTES or (size > 0 and self._buffer[3] in (HEADERS, CONTINUATION))

    def open(self, stream: Stream, fields: list[tuple[bytes, bytes]], lines: list[bytes], ended: bool) -> None:
        """Begin a stream of our own with its request head; the caller minds ``peer_streams`` and ``peer_left``."""
        stream.id = self._next_id
        self._next_id += 2
        stream.send_window = self._peer_window
        stream.receive_window = self.limits.window
        self.streams[stream.id] = stream
        self.send_head(stream, fields, lines, ended)

    # Reading.

    def receive(self, data: bytes, now: float) -> None:
        """Work through what the peer has sent. ``now`` is monotonic seconds.

        A fault of the connection is answered with GOAWAY and kept in ``failed``; all streams are closed then.
        """
        if self.failed is not None:
            return
        self._now = now
        if self._buffer:
            data = self._buffer + data
        try:
            if self._preface:
                data = self._read_preface(data)
            self._buffer = self._read_frames(data)
        except ConnectionFault as fault:
            self.fail(fault)

    def fail(self, fault: ConnectionFault) -> None:
        """End the connection with GOAWAY; every stream is told."""
        self.failed = fault
        self.more = False
        self._buffer = b""
        self._out.append(goaway_frame(min(self.last_peer_id, self._left), fault.code, fault.reason))
        self.abandon(fault.code)

    def abandon(self, code: int) -> None:
        """Close all streams without a word to the peer, who is gone."""
        streams, self.streams = list(self.streams.values()), {}
        self.blocked.clear()
        self.lingering.clear()
        for stream in streams:
            stream.closed = True
            stream.drop()
            stream.aborted(code)

    def _read_preface(self, data: bytes) -> bytes:
        size = min(len(self._preface), len(data))
        if data[:size] != self._preface[:size]:
            raise ConnectionFault(PROTOCOL_ERROR, "not an HTTP/2 preface")
        self._preface = self._preface[size:]
        return data[size:]

    def _read_frames(self, data: bytes) -> bytes:
        """Read whole frames; returns the rest."""
        position, end = 0, len(data)
        work = 0
        self.more = False
        while end - position >= HEAD_BYTES:
            high, length, kind, flags, stream_id = HEAD.unpack_from(data, position)
            length |= high << 16
            if length > FRAME_BYTES:
                raise ConnectionFault(FRAME_SIZE_ERROR, "frame too long")
            stop = position + HEAD_BYTES + length
            if stop > end:
                break
            work += _HEAD_WORTH if kind == HEADERS else 1
            if work > _FRAMES_A_TURN:
                self.more, self.wait_s = True, 0.0
                break
            if kind == DATA and length < _SMALL_BYTES and not (flags & END_STREAM or self._small.take(self._now)):
                self.more, self.wait_s, self.slowed = True, _SLOW_S, True
                break
            payload = data[position + HEAD_BYTES : stop]
            position = stop
            try:
                self._read_frame(kind, flags, stream_id & LARGEST_STREAM_ID, payload)
            except StreamFault as fault:
                self._stream_fault(fault)
        return data[position:] if position else data

    def _read_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is not None and (kind != CONTINUATION or stream_id != block.stream_id):
            raise ConnectionFault(PROTOCOL_ERROR, "another frame within a header block")
        if not self._settled and (kind != SETTINGS or flags & ACK):
            raise ConnectionFault(PROTOCOL_ERROR, "first frame is not SETTINGS")
        if kind == DATA:
            self._read_data(stream_id, flags, payload)
        elif kind == HEADERS:
            self._read_headers(stream_id, flags, payload)
        elif kind == WINDOW_UPDATE:
            self._read_window_update(stream_id, payload)
        elif kind == CONTINUATION:
            self._read_continuation(flags, payload)
        elif kind == RST_STREAM:
            self._read_reset(stream_id, payload)
        elif kind == SETTINGS:
            self._read_settings(stream_id, flags, payload)
        else:
            self._read_other(kind, stream_id, flags, payload)

    def _read_other(self, kind: int, stream_id: int, flags: int, payload: bytes) -> None:
        self._take_control()
        if kind == PING:
            self._read_ping(stream_id, flags, payload)
        elif kind == PRIORITY:
            self._read_priority(stream_id, payload)
        elif kind == GOAWAY:
            if stream_id:
                raise ConnectionFault(PROTOCOL_ERROR, "GOAWAY on a stream")
            self.peer_left, self.peer_left_code = parse_goaway(payload)
        elif kind == PUSH_PROMISE:
            raise ConnectionFault(PROTOCOL_ERROR, "PUSH_PROMISE is not allowed")
        # Frames of unknown kinds are ignored (RFC 9113 §4.1).

    # Other frames.

    def _read_window_update(self, stream_id: int, payload: bytes) -> None:
        self._take_control()
        increment = parse_window_update(payload)
        if not stream_id:
            if not increment:
                raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self._send_window += increment
            if self._send_window > LARGEST_WINDOW:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "connection window too large")
            if self.blocked:
                self.pump()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_not_idle(stream_id)
        if not increment:
            raise StreamFault(stream_id, PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        if stream is None:
            return
        stream.send_window += increment
        if stream.send_window > LARGEST_WINDOW:
            raise StreamFault(stream_id, FLOW_CONTROL_ERROR, "stream window too large")
        if stream_id in self.blocked:
            self._send_from(stream, LARGEST_WINDOW)

    def _read_settings(self, stream_id: int, flags: int, payload: bytes) -> None:
        self._take_control()
        if stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            return
        self._settled = True
        for name, value in parse_settings(payload, from_server=not self.server):
            if name == INITIAL_WINDOW_SIZE:
                self._change_windows(value)
            elif name == HEADER_TABLE_SIZE:
                self._encoder.resize(value)
            elif name == MAX_CONCURRENT_STREAMS:
                self.peer_streams = value
            elif name == ENABLE_CONNECT_PROTOCOL:
                self.peer_extended_connect = bool(value)
        self._write_control(frame(SETTINGS, ACK, 0))
        if self.blocked:
            self.pump()

    def _read_ping(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(FRAME_SIZE_ERROR, "PING of a wrong length")
        if flags & ACK:
            self.pongs += 1
        else:
            self._write_control(frame(PING, ACK, 0, payload))

    def _read_priority(self, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "PRIORITY without a stream")
        if len(payload) != 5:
            raise StreamFault(stream_id, FRAME_SIZE_ERROR, "PRIORITY of a wrong length")
        if depends_on(payload) == stream_id:
            raise StreamFault(stream_id, PROTOCOL_ERROR, "stream depends on itself")
