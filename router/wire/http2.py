"""One HTTP/2 connection without its socket (RFC 9113): bytes in, calls on streams; calls in, bytes out.

Owns framing, the states of streams, flow control, settings, and what a peer may make us do; knows neither requests
nor sockets nor the time, which are its callers'. Either end of a connection: `Engine.server` tells which. One law:
what a peer can demand is bounded by what it has sent or taken, and whoever demands more is told to calm down.
"""

from collections.abc import Callable
from dataclasses import dataclass

from router.wire.http2_frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
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
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    ConnectionFault,
    StreamFault,
    depends_on,
    frame,
    goaway_frame,
    parse_goaway,
    parse_reset,
    parse_settings,
    parse_window_update,
    reset_frame,
    settings_frame,
    window_update_frame,
    without_padding,
)
from router.wire.http2_hpack import Decoder, Field, HeaderListTooLong, HpackError
from router.wire.http2_sender import ENDED, NEVER_OPEN, RESET_BY_PEER, RESET_BY_US, Sender
from router.wire.http2_stream import Allowance, Stream

_CONNECTION_WINDOW = 16 * 1024 * 1024
"""So large that only the windows of streams count, and a stream that is not read holds up no other."""
_FRAMES_A_TURN = 1024
"""Frames read in one go; the rest waits until everybody else had their turn."""
_HEAD_WORTH = 16
"""Frames that a header block counts for."""
_SMALL_BYTES = 32
_SLOW_S = 0.02
"""So long whoever sends too many small frames waits for the next ones to be read."""
_MOST_CONTINUATIONS = 256
_LIST_SLACK_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may do.

    Attributes:
        streams: it may have open at once.
        window: bytes of a stream's body it may send ahead of what is taken.
        list_bytes: header list it is told not to exceed. A little more is read, so that it can be answered; twice
            as much and 64 KiB end the connection.
        control_frames: frames a second that move nothing forward: SETTINGS, PING, PRIORITY, empty DATA, ….
        resets: streams a second that it may open and then spoil, or cancel before their response.
        small_frames: of DATA below 32 bytes a second; the rest is read later, which slows the peer down and breaks
            nothing, for it may be a lively conversation.
    """

    streams: int = 250
    window: int = 128 * 1024
    list_bytes: int = 1024 * 1024
    control_frames: int = 1000
    resets: int = 100
    small_frames: int = 20_000


class Engine(Sender):
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
        super().__init__(limits.control_frames, limits.resets, limits.window // 2)
        self.server = server
        self.limits = limits
        self.held = 0
        self.failed: ConnectionFault | None = None
        self.more = False
        self.wait_s = 0.0
        self.slowed = False
        self.peer_left = -1
        self.peer_left_code = NO_ERROR
        self.peer_streams = LARGEST_WINDOW
        """How many streams the peer lets us open."""
        self.peer_extended_connect = False
        self.stream_faults = 0
        """Streams that were reset because the peer broke the protocol on them."""
        self.refused = 0
        """Streams beyond the limit."""
        self.pongs = 0
        """Answers to our own PING frames."""
        self.last_peer_id = 0
        self._next_id = 1
        self._accept = accept
        self._small = Allowance(limits.small_frames, limits.small_frames)
        self._left = LARGEST_STREAM_ID
        """The last stream that our GOAWAY promised to serve."""
        self._decoder = Decoder()
        self._most_list_bytes = limits.list_bytes * 2 + _LIST_SLACK_BYTES
        self._buffer = b""
        self._preface = PREFACE if server else b""
        self._settled = False
        self._head_id = 0
        """The stream of a header block that is not complete."""
        self._head_flags = 0
        self._head_parts: list[bytes] = []
        self._head_bytes = 0
        self._self_dependent = False
        self._receive_window = _CONNECTION_WINDOW
        self._unreturned = 0
        self._now = 0.0

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
        self._out.append(window_update_frame(0, _CONNECTION_WINDOW - DEFAULT_WINDOW))

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
        if self._head_id or not self._settled:
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
        if self._head_id and (kind != CONTINUATION or stream_id != self._head_id):
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

    def _take_control(self) -> None:
        if not self._control.take(self._now):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many control frames")

    def _take_reset(self) -> None:
        if not self._resets.take(self._now):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many streams cancelled or refused")

    def _stream_fault(self, fault: StreamFault) -> None:
        stream = self.streams.get(fault.stream_id)
        self.stream_faults += 1
        self._write_control(reset_frame(fault.stream_id, fault.code))
        self._take_reset()
        if stream is not None:
            stream.fault = fault.reason
            self._close(stream, RESET_BY_US)
            stream.aborted(fault.code)
        else:
            self._remember(fault.stream_id, RESET_BY_US)

    def _is_idle(self, stream_id: int) -> bool:
        """Whether nobody has opened this stream."""
        if stream_id & 1:
            return stream_id > self.last_peer_id if self.server else stream_id >= self._next_id
        return True

    def _check_not_idle(self, stream_id: int) -> None:
        if not stream_id or self._is_idle(stream_id):
            raise ConnectionFault(PROTOCOL_ERROR, "frame on an idle stream")

    # DATA.

    def _read_data(self, stream_id: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "connection window exceeded")
        self._unreturned += size
        if self._unreturned >= _CONNECTION_WINDOW // 2:
            self._out.append(window_update_frame(0, self._unreturned))
            self._receive_window += self._unreturned
            self._unreturned = 0
        piece = without_padding(payload, flags)
        if not piece and not flags & END_STREAM:
            self._take_control()
        stream = self.streams.get(stream_id)
        if stream is None or stream.remote_ended:
            self._data_after_end(stream, stream_id)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamFault(stream_id, FLOW_CONTROL_ERROR, "stream window exceeded")
        stream.unreturned += size
        ended = bool(flags & END_STREAM)
        self._count_body(stream, len(piece), ended)
        if ended:
            stream.remote_ended = True
        if piece or ended:
            stream.body_received(piece, ended)
        if stream.unreturned >= self.limits.window // 2 and not (ended or stream.closed):
            self._much_came(stream)
        if ended and stream.local_ended and not stream.closed:
            self._close(stream, ENDED)

    def _much_came(self, stream: Stream) -> None:
        if not stream.withheld:
            self._return_window(stream)
        elif stream.unwanted and stream.local_ended:
            self.reset(stream, NO_ERROR)

    def _data_after_end(self, stream: Stream | None, stream_id: int) -> None:
        if stream is not None:
            raise StreamFault(stream_id, STREAM_CLOSED, "DATA after END_STREAM")
        self._check_not_idle(stream_id)
        how = self._how_closed(stream_id)
        if how in (ENDED, NEVER_OPEN):
            raise StreamFault(stream_id, STREAM_CLOSED, "DATA on a closed stream")
        self._take_control()
        if how == RESET_BY_PEER:
            self._write_control(reset_frame(stream_id, STREAM_CLOSED))

    def _count_body(self, stream: Stream, size: int, ended: bool) -> None:
        """Hold a body to its Content-Length (RFC 9113 §8.1.1)."""
        if stream.expected < 0:
            return
        stream.expected -= size
        if stream.expected < 0 or (ended and stream.expected):
            raise StreamFault(stream.id, PROTOCOL_ERROR, "body does not have its content-length")

    def take_body(self, stream: Stream) -> None:
        """The stream takes what it is sent: return the window that was withheld."""
        stream.withheld = False
        if stream.unreturned >= self.limits.window // 4 and not (stream.remote_ended or stream.closed):
            self._return_window(stream)

    def withhold_body(self, stream: Stream) -> None:
        """The stream takes no more for now: the peer may send what its window still allows."""
        stream.withheld = True

    def _return_window(self, stream: Stream) -> None:
        self._out.append(window_update_frame(stream.id, stream.unreturned))
        stream.receive_window += stream.unreturned
        stream.unreturned = 0

    # Header blocks.

    def _read_headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "HEADERS without a stream")
        block = without_padding(payload, flags)
        self._self_dependent = False
        if flags & WITH_PRIORITY:
            if len(block) < 5:
                raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            self._self_dependent = depends_on(block) == stream_id
            block = block[5:]
        if flags & END_HEADERS:
            self._read_block(stream_id, flags, block)
            return
        self._head_id = stream_id
        self._head_flags = flags
        self._head_parts = [block]
        self._head_bytes = len(block)

    def _read_continuation(self, flags: int, payload: bytes) -> None:
        if not self._head_id:
            raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._head_parts.append(payload)
        self._head_bytes += len(payload)
        if self._head_bytes > self._most_list_bytes or len(self._head_parts) > _MOST_CONTINUATIONS:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "header block too long")
        if flags & END_HEADERS:
            stream_id, self._head_id = self._head_id, 0
            parts, self._head_parts = self._head_parts, []
            self._read_block(stream_id, self._head_flags, b"".join(parts))

    def _read_block(self, stream_id: int, flags: int, block: bytes) -> None:
        try:
            fields = self._decoder.decode(block, self._most_list_bytes)
        except HpackError as error:
            raise ConnectionFault(COMPRESSION_ERROR, str(error)) from None
        except HeaderListTooLong:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "header list too long") from None
        ended = bool(flags & END_STREAM)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._further_block(stream, fields, ended)
        elif self.server and stream_id > self.last_peer_id:
            self._open(stream_id, fields, ended)
        else:
            self._block_after_end(stream_id)

    def _further_block(self, stream: Stream, fields: list[Field], ended: bool) -> None:
        """The response of a stream we opened, or trailers."""
        if self._self_dependent:
            raise StreamFault(stream.id, PROTOCOL_ERROR, "stream depends on itself")
        if stream.remote_ended:
            raise StreamFault(stream.id, STREAM_CLOSED, "HEADERS after END_STREAM")
        if ended:
            self._count_body(stream, 0, stream.head_complete)
            stream.remote_ended = True
        if not stream.head_complete:
            stream.head_received(fields, ended)
        elif not ended:
            raise StreamFault(stream.id, PROTOCOL_ERROR, "trailers without END_STREAM")
        else:
            stream.trailers_received(fields)
        if ended and stream.local_ended and not stream.closed:
            self._close(stream, ENDED)

    def _open(self, stream_id: int, fields: list[Field], ended: bool) -> None:
        if not stream_id & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "client opens a stream with an even id")
        self.last_peer_id = stream_id
        if stream_id > self._left:
            # It was told that this stream will not be served.
            self._remember(stream_id, RESET_BY_US)
            return
        if self._self_dependent:
            raise StreamFault(stream_id, PROTOCOL_ERROR, "stream depends on itself")
        if self._is_full() and not self._make_room():
            self.refused += 1
            self._take_control()
            self._write_control(reset_frame(stream_id, REFUSED_STREAM))
            self._remember(stream_id, RESET_BY_US)
            return
        assert self._accept is not None
        stream = self._accept(stream_id)
        stream.id = stream_id
        stream.send_window = self._peer_window
        stream.receive_window = self.limits.window
        stream.remote_ended = ended
        self.streams[stream_id] = stream
        stream.head_received(fields, ended)

    def _is_full(self) -> bool:
        return len(self.streams) + self.held >= self.limits.streams

    def _make_room(self) -> bool:
        self.dismiss_lingering(True)
        return not self._is_full()

    def _block_after_end(self, stream_id: int) -> None:
        self._check_not_idle(stream_id)
        how = self._how_closed(stream_id)
        if how == NEVER_OPEN:
            raise ConnectionFault(PROTOCOL_ERROR, "stream id is not above the last one")
        if how == ENDED:
            if self._end_is_unsent(stream_id):
                raise StreamFault(stream_id, STREAM_CLOSED, "HEADERS after END_STREAM")
            raise ConnectionFault(STREAM_CLOSED, "HEADERS on a closed stream")
        self._take_control()
        if how == RESET_BY_PEER:
            self._write_control(reset_frame(stream_id, STREAM_CLOSED))

    def _end_is_unsent(self, stream_id: int) -> bool:
        """Whether the peer cannot know yet that a stream has ended; for it that is half-closed (RFC 9113 §5.1)."""
        octets, position = b"".join(self._out), 0
        while position < len(octets):
            high, length, kind, flags, number = HEAD.unpack_from(octets, position)
            if number == stream_id and kind in (DATA, HEADERS) and flags & END_STREAM:
                return True
            position += HEAD_BYTES + (high << 16 | length)
        return False

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

    def _read_reset(self, stream_id: int, payload: bytes) -> None:
        code = parse_reset(payload)
        self._check_not_idle(stream_id)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._take_control()
            return
        self._take_reset()
        self._close(stream, RESET_BY_PEER)
        stream.aborted(code)

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
