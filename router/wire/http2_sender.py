"""The sending half of an HTTP/2 connection (RFC 9113): frames out, windows, and what waits for them.

Owns the streams that are open and the bytes to be written. The other half is `wire.http2_receiver`, and
`wire.http2` makes a connection of both.
"""

from router.wire.http2_closed import ENDED, RESET_BY_US, ClosedStreams
from router.wire.http2_frames import (
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    HEAD,
    LARGEST_WINDOW,
    NO_ERROR,
    PING_FRAME,
    ConnectionFault,
    header_frames,
    reset_frame,
)
from router.wire.http2_hpack import Encoder
from router.wire.http2_limits import Allowance
from router.wire.http2_stream import Stream

_BUFFERED_BYTES = 16384
"""A stream with more than this waiting to be sent takes no more."""
_PUMPED_BYTES = 65536
_UNSENT_CONTROL_BYTES = 256 * 1024
_EARNED = 10
"""Allowances that work fills up hold at most this many times what time fills up."""
_UPDATES_EARNED = 3
"""WINDOW_UPDATEs a peer may send for a DATA frame it gets: for the stream, the connection, and one for luck."""
_EARNING_BYTES = 1024
"""Of frames that had to wait for a window only these earn anything, or tiny windows would pay for themselves."""


class Sender:
    """What an engine can send, and to whom. Attributes are described there.

    Args:
        control_frames: a second, without profit for anybody, that the peer may send.
        resets: streams a second that the peer may spoil.
        patience_bytes: of a body nobody wants that may come before the peer is told to stop.
    """

    def __init__(self, control_frames: int, resets: int, patience_bytes: int) -> None:
        self.streams: dict[int, Stream] = {}
        self.blocked: dict[int, Stream] = {}
        self.lingering: dict[int, Stream] = {}
        self.writable = True
        self.more_to_send = False
        self._control = Allowance(control_frames, control_frames * _EARNED)
        self._resets = Allowance(resets, resets * _EARNED)
        self._patience_bytes = patience_bytes
        self._encoder = Encoder()
        self._send_window = DEFAULT_WINDOW
        self._peer_window = DEFAULT_WINDOW
        self._closed = ClosedStreams()
        self._out: list[bytes] = []
        self._unsent_ends: set[int] = set()
        """Streams that we have ended since output was last taken, of which the peer cannot know yet."""
        self._control_bytes = 0
        """Answers written since the connection last took anything."""

    def take_output(self) -> bytes:
        """Return what is to be written to the connection."""
        out, self._out = self._out, []
        self._unsent_ends.clear()
        if self.writable:
            self._control_bytes = 0
        return out[0] if len(out) == 1 else b"".join(out)

    def has_output(self) -> bool:
        return bool(self._out)

    # What streams send.

    def send_head(
        self, stream: Stream, fields: list[tuple[bytes, bytes]], lines: list[bytes], ended: bool
    ) -> None:
        """Write a header block; before any body, as there is no order between it and what waits."""
        self._out.append(header_frames(stream.id, self._encoder.encode(fields, lines), ended))
        if ended:
            self._local_end(stream)

    def send_body(self, stream: Stream, piece: bytes, ended: bool) -> None:
        """Write body bytes, or keep them until windows allow; tells the stream when it should send no more."""
        size = len(piece)
        if (
            not stream.pending
            and size <= stream.send_window
            and size <= self._send_window
            and size <= FRAME_BYTES
            and self.writable
        ):
            stream.send_window -= size
            self._send_window -= size
            self._out.append(HEAD.pack(0, size, DATA, END_STREAM if ended else 0, stream.id))
            self._out.append(piece)
            self._control.give(_UPDATES_EARNED)
            if ended:
                self._local_end(stream)
            return
        stream.pending.append(piece)
        stream.pending_bytes += size
        stream.end_pending = ended
        self.blocked[stream.id] = stream
        self._send_from(stream, LARGEST_WINDOW)
        if stream.pending_bytes > _BUFFERED_BYTES and not stream.is_full and not stream.closed:
            stream.is_full = True
            stream.full()

    def send_end(self, stream: Stream, trailers: list[bytes]) -> None:
        """End the stream's body."""
        if stream.pending:
            stream.end_pending = True
            stream.trailers = trailers
        elif trailers:
            self.send_head(stream, [], trailers, True)
        else:
            self._out.append(HEAD.pack(0, 0, DATA, END_STREAM, stream.id))
            self._local_end(stream)

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream at once; what waits to be sent is dropped, and what still comes is ignored."""
        if stream.closed:
            return
        self._out.append(reset_frame(stream.id, code))
        self._close(stream, RESET_BY_US)

    def forget(self, stream: Stream) -> None:
        """End a stream without a word: the peer has said that it does not know it (RFC 9113 §6.8)."""
        if not stream.closed:
            self._close(stream, RESET_BY_US)

    def drop_rest(self, stream: Stream) -> None:
        """Read away what still comes of the peer's body, and keep its window.

        The peer is told to stop (RFC 9113 §8.1) when ours is sent and it has not come to an end by itself soon, or
        sends much. Not at once: what it had sent before it could know is held to the protocol like anything else.
        """
        stream.unwanted = stream.withheld = True
        if stream.local_ended and not (stream.remote_ended or stream.closed):
            self._linger(stream)

    def _linger(self, stream: Stream) -> None:
        self.lingering[stream.id] = stream
        if stream.unreturned >= self._patience_bytes:
            self.reset(stream, NO_ERROR)

    def dismiss_lingering(self, every: bool) -> None:
        """Tell the peer to stop sending what nobody wants: of every such stream, or of those told about before."""
        for stream in list(self.lingering.values()):
            if stream.lingered or every:
                self.reset(stream, NO_ERROR)
            stream.lingered = True

    def ping(self) -> None:
        """Ask the peer for a sign of life; its answer counts in ``pongs``."""
        self._out.append(PING_FRAME)

    def pump(self) -> None:
        """Send what waits, as far as windows and the connection allow; a frame of each stream in turn.

        Stops after so much that the connection should take it first: ``more_to_send``.
        """
        self.more_to_send = False
        progress = True
        while progress and self.writable and self._send_window > 0:
            progress = False
            for stream in list(self.blocked.values()):
                if self._send_from(stream, FRAME_BYTES):
                    progress = True
            if sum(map(len, self._out)) >= _PUMPED_BYTES:
                self.more_to_send = bool(self.blocked)
                break

    def _send_from(self, stream: Stream, most: int) -> bool:
        """Send of one stream's waiting bytes, at most so many; returns whether anything went."""
        sent = False
        while stream.pending and self.writable and most > 0:
            room = min(stream.send_window, self._send_window, FRAME_BYTES, most)
            if room <= 0 and stream.pending_bytes:
                break
            # A window may be negative (RFC 9113 §6.9.2), which the end of a body does not mind.
            piece = stream.take(max(room, 0))
            last = stream.end_pending and not stream.pending
            ended = last and not stream.trailers
            stream.send_window -= len(piece)
            self._send_window -= len(piece)
            most -= max(len(piece), 1)
            self._out.append(HEAD.pack(0, len(piece), DATA, END_STREAM if ended else 0, stream.id))
            self._out.append(piece)
            if len(piece) >= _EARNING_BYTES:
                self._control.give(_UPDATES_EARNED)
            sent = True
            if last:
                self._finish_pending(stream, ended)
        if not stream.pending:
            self.blocked.pop(stream.id, None)
        if stream.is_full:
            self._relieve(stream)
        stream.progressed = stream.progressed or sent
        return sent

    def _finish_pending(self, stream: Stream, ended: bool) -> None:
        if ended:
            self._local_end(stream)
        else:
            self.send_head(stream, [], stream.trailers, True)

    def _relieve(self, stream: Stream) -> None:
        if stream.pending_bytes <= _BUFFERED_BYTES // 2:
            stream.is_full = False
            stream.writable()

    def _local_end(self, stream: Stream) -> None:
        stream.local_ended = True
        self._unsent_ends.add(stream.id)
        self._resets.give(1)
        if stream.remote_ended:
            self._close(stream, ENDED)
        elif stream.unwanted:
            self._linger(stream)

    def _close(self, stream: Stream, how: int) -> None:
        stream.closed = True
        stream.drop()
        self.streams.pop(stream.id, None)
        self.blocked.pop(stream.id, None)
        if stream.unwanted:
            self.lingering.pop(stream.id, None)
        self._closed.remember(stream.id, how)

    # For the reading half.

    def _write_control(self, octets: bytes) -> None:
        """Write an answer that the peer can ask for without end."""
        self._out.append(octets)
        if not self.writable:
            self._control_bytes += len(octets)
            if self._control_bytes > _UNSENT_CONTROL_BYTES:
                raise ConnectionFault(ENHANCE_YOUR_CALM, "asks, but does not read the answers")

    def _change_windows(self, size: int) -> None:
        change = size - self._peer_window
        self._peer_window = size
        for stream in self.streams.values():
            stream.send_window += change
            if stream.send_window > LARGEST_WINDOW:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE makes a window too large")
