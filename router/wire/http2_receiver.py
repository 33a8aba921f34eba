"""The receiving half of an HTTP/2 connection (RFC 9113): what comes on streams, and what they become by it.

Owns which streams a peer may open, what header blocks, DATA and RST_STREAM do to them, and the windows it gets;
what concerns the connection alone is the engine's (`wire.http2`).
"""

from collections.abc import Callable

from router.wire.http2_block import HeaderBlock
from router.wire.http2_closed import ENDED, RESET_BY_PEER, RESET_BY_US
from router.wire.http2_frames import (
    COMPRESSION_ERROR,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    LARGEST_STREAM_ID,
    NO_ERROR,
    PADDED,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    WITH_PRIORITY,
    ConnectionFault,
    StreamFault,
    depends_on,
    parse_reset,
    reset_frame,
    window_update_frame,
    without_padding,
)
from router.wire.http2_hpack import Decoder, Field, HeaderListTooLong, HpackError
from router.wire.http2_limits import Limits
from router.wire.http2_sender import Sender
from router.wire.http2_stream import Stream

CONNECTION_WINDOW = 16 * 1024 * 1024
"""So large that only the windows of streams count, and a stream that is not read holds up no other."""
_LIST_SLACK_BYTES = 65536


class Receiver(Sender):
    """What an engine makes of frames that belong to a stream. Arguments and attributes are described there."""

    def __init__(self, server: bool, limits: Limits, accept: Callable[[int], Stream] | None) -> None:
        super().__init__(limits.control_frames, limits.resets, limits.window // 2)
        self.server = server
        self.limits = limits
        self.held = 0
        self.stream_faults = 0
        """Streams that were reset because the peer broke the protocol on them."""
        self.refused = 0
        """Streams beyond the limit."""
        self.last_peer_id = 0
        self._accept = accept
        self._next_id = 1
        self._left = LARGEST_STREAM_ID
        """The last stream that our GOAWAY promised to serve."""
        self._now = 0.0
        self._decoder = Decoder()
        self._most_list_bytes = limits.list_bytes * 2 + _LIST_SLACK_BYTES
        self._block: HeaderBlock | None = None
        """One that is not complete."""
        self._self_dependent = False
        self._receive_window = CONNECTION_WINDOW
        self._unreturned = 0

    # Allowances and faults.

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
            self._closed.remember(fault.stream_id, RESET_BY_US)

    def _is_idle(self, stream_id: int) -> bool:
        """Whether nobody has opened this stream."""
        if stream_id & 1:
            return stream_id > self.last_peer_id if self.server else stream_id >= self._next_id
        return True

    def _check_not_idle(self, stream_id: int) -> None:
        if not stream_id or self._is_idle(stream_id):
            raise ConnectionFault(PROTOCOL_ERROR, "frame on an idle stream")

    # Header blocks.

    def _read_headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "HEADERS without a stream")
        block = without_padding(payload) if flags & PADDED else payload
        self._self_dependent = False
        if flags & WITH_PRIORITY:
            if len(block) < 5:
                raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            self._self_dependent = depends_on(block) == stream_id
            block = block[5:]
        if flags & END_HEADERS:
            self._read_block(stream_id, flags, block)
        else:
            self._block = HeaderBlock(stream_id, flags, block, self._most_list_bytes)

    def _read_continuation(self, flags: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        whole = block.add(flags, payload)
        if whole is not None:
            self._block = None
            self._read_block(block.stream_id, block.flags, whole)

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
            self._check_not_idle(stream_id)
            self._read_over(stream_id, self._closed.judge_block(stream_id, stream_id in self._unsent_ends))

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
            self._closed.remember(stream_id, RESET_BY_US)
            return
        if self._self_dependent:
            raise StreamFault(stream_id, PROTOCOL_ERROR, "stream depends on itself")
        if self._is_full() and not self._make_room():
            self.refused += 1
            self._take_control()
            self._write_control(reset_frame(stream_id, REFUSED_STREAM))
            self._closed.remember(stream_id, RESET_BY_US)
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

    # DATA.

    def _read_data(self, stream_id: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "connection window exceeded")
        self._unreturned += size
        if self._unreturned >= CONNECTION_WINDOW // 2:
            self._out.append(window_update_frame(0, self._unreturned))
            self._receive_window += self._unreturned
            self._unreturned = 0
        piece = without_padding(payload) if flags & PADDED else payload
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

    # The end of a stream, and what still comes.

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

    def _data_after_end(self, stream: Stream | None, stream_id: int) -> None:
        if stream is not None:
            raise StreamFault(stream_id, STREAM_CLOSED, "DATA after END_STREAM")
        self._check_not_idle(stream_id)
        self._read_over(stream_id, self._closed.judge_data(stream_id))

    def _read_over(self, stream_id: int, told_again: bool) -> None:
        """Of a stream that has ended, this may have crossed the end on its way."""
        self._take_control()
        if told_again:
            self._write_control(reset_frame(stream_id, STREAM_CLOSED))
