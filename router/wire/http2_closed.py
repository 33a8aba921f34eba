"""The streams of an HTTP/2 connection that have ended, and what their peer still owes them (RFC 9113 §5.1).

Frames may cross the end of their stream on the way. Which of them are excused depends on how it ended: owns that
memory, which is bounded, and the verdicts; what is answered is the receiving half's (`wire.http2_receiver`).
"""

from router.wire.http2_frames import PROTOCOL_ERROR, STREAM_CLOSED, ConnectionFault, StreamFault

ENDED, RESET_BY_PEER, RESET_BY_US, NEVER_OPEN, FORGOTTEN = range(5)
"""How a stream ended, as far as it is remembered."""
_REMEMBERED = 128


class ClosedStreams:
    """How the last streams of a connection ended.

    Of an `ENDED` one that was forgotten the verdict is that it was never open; any other was `FORGOTTEN`, which
    excuses what came before it as well.
    """

    __slots__ = ("_forgotten", "_how")

    def __init__(self) -> None:
        self._how: dict[int, int] = {}
        self._forgotten = 0
        """The last stream that ended by a reset and is remembered no more."""

    def remember(self, stream_id: int, how: int) -> None:
        """A stream has ended."""
        ended = self._how
        ended[stream_id] = how
        if len(ended) > _REMEMBERED:
            oldest = next(iter(ended))
            if ended.pop(oldest) != ENDED:
                self._forgotten = max(self._forgotten, oldest)

    def judge_data(self, stream_id: int) -> bool:
        """Judge DATA on a stream that has ended; returns whether the peer is to be told so once more.

        Raises `StreamFault` if the peer had ended the stream itself.
        """
        how = self._how_ended(stream_id)
        if how in (ENDED, NEVER_OPEN):
            raise StreamFault(stream_id, STREAM_CLOSED, "DATA on a closed stream")
        return how == RESET_BY_PEER

    def judge_block(self, stream_id: int, end_is_unsent: bool) -> bool:
        """Judge a header block in the same way.

        Args:
            end_is_unsent: the peer cannot have heard of the end yet; for it the stream is half-closed.

        Raises:
            StreamFault: the peer had ended the stream, and it cannot know that we have.
            ConnectionFault: both have ended it, or it was passed over.
        """
        how = self._how_ended(stream_id)
        if how == NEVER_OPEN:
            raise ConnectionFault(PROTOCOL_ERROR, "stream id is not above the last one")
        if how == ENDED:
            if end_is_unsent:
                raise StreamFault(stream_id, STREAM_CLOSED, "HEADERS after END_STREAM")
            raise ConnectionFault(STREAM_CLOSED, "HEADERS on a closed stream")
        return how == RESET_BY_PEER

    def _how_ended(self, stream_id: int) -> int:
        default = FORGOTTEN if stream_id <= self._forgotten else NEVER_OPEN
        return self._how.get(stream_id, default)
