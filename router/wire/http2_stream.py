"""One stream of an HTTP/2 connection, as far as the protocol goes.

Frontend and backend make their own kinds of streams of it; the engine (`wire.http2`) keeps the state.
"""

from abc import ABC, abstractmethod
from collections import deque

from router.wire.http2_hpack import Field


class Stream(ABC):
    """State of a stream, and what the engine tells it.

    Attributes:
        id: 0 until the engine knows the stream.
        local_ended: we have sent END_STREAM.
        remote_ended: the peer has.
        closed: nothing may be sent or comes any more.
        head_complete: the next header block of the peer is trailers; set by whoever reads heads.
        expected: bytes of body that must still come, -1 for any number.
        unreturned: bytes that came and whose window was not given back.
        withheld: window is not given back for now.
        pending: pieces of body to be sent, ``pending_bytes`` in all.
        end_pending: the body ends with them, and with ``trailers`` if there are any.
        is_full: the stream was told to send no more.
        progressed: something of what waits was sent since whoever watches over this looked.
        unwanted: nobody takes what still comes of the peer's body; it is read away.
        lingered: so long that its peer may be told to stop; set by whoever watches over this.
        fault: what the peer did wrong, if the stream was reset for that.
    """

    id = 0
    send_window = 0
    receive_window = 0
    unreturned = 0
    withheld = False
    local_ended = False
    remote_ended = False
    closed = False
    head_complete = False
    expected = -1
    pending_bytes = 0
    end_pending = False
    is_full = False
    progressed = False
    unwanted = False
    lingered = False
    fault = ""

    def __init__(self) -> None:
        self.pending: deque[bytes] = deque()
        self.trailers: list[bytes] = []

    # What the engine calls.

    @abstractmethod
    def head_received(self, fields: list[Field], ended: bool) -> None:
        """A header block that is not trailers. May raise `StreamFault`."""

    @abstractmethod
    def body_received(self, piece: bytes, ended: bool) -> None:
        """Body bytes; an empty piece comes only with the end."""

    @abstractmethod
    def trailers_received(self, fields: list[Field]) -> None:
        """Trailers, and with them the end. May raise `StreamFault`."""

    @abstractmethod
    def aborted(self, code: int) -> None:
        """The stream has ended before its time: reset by either side, or with the connection."""

    @abstractmethod
    def full(self) -> None:
        """Send no more until `writable`; what is sent all the same waits in memory."""

    @abstractmethod
    def writable(self) -> None:
        """After `full`: there is room again."""

    # What waits to be sent.

    def take(self, most: int) -> bytes:
        """Return the first bytes that wait, at most so many."""
        piece = self.pending.popleft()
        if len(piece) > most:
            self.pending.appendleft(piece[most:])
            piece = piece[:most]
        self.pending_bytes -= len(piece)
        return piece

    def drop(self) -> None:
        """Forget what waits."""
        self.pending.clear()
        self.pending_bytes = 0
