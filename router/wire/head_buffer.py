"""Gathers a message head that does not arrive in one piece, in time linear in its size.

Each byte is searched once however small the pieces are: a head of 64 kB sent byte by byte is the classic way to
make a quadratic parser burn a core.
"""

from router.wire.header_lines import BadMessage
from router.wire.http1 import BARE_LINE_END, REQUEST_START

_LINE_SOUGHT_BYTES = 256
"""What has gone so far without an error is no other protocol."""


class HeadTooLong(BadMessage):
    def __init__(self) -> None:
        super().__init__(431, "Request Header Fields Too Large")


class HeadBuffer:
    """Holds the beginning of one head until its end arrives."""

    __slots__ = ("_partial", "_scanned")

    def __init__(self) -> None:
        self._partial = bytearray()
        self._scanned = 0

    def __len__(self) -> int:
        return len(self._partial)

    def add(self, arrived: bytes) -> tuple[bytes, bytes] | None:
        """Append, and return the head and what follows it once the head is complete.

        Raises `BadMessage` as soon as a line ends in anything but CRLF.
        """
        partial = self._partial
        partial += arrived
        end = partial.find(b"\r\n\r\n", max(self._scanned - 3, 0))
        bare = BARE_LINE_END.search(partial, max(self._scanned - 1, 0), len(partial) if end < 0 else end)
        if bare is not None:
            raise BadMessage(400, "bare line end in a message head")
        if end < 0:
            self._scanned = len(partial)
            return None
        head, rest = bytes(partial[:end]), bytes(partial[end + 4 :])
        self.clear()
        return head, rest

    def peek(self, size: int) -> bytes:
        """Return the first bytes gathered so far."""
        return bytes(self._partial[:size])

    def take(self) -> bytes:
        """Return everything gathered and start anew."""
        gathered = bytes(self._partial)
        self.clear()
        return gathered

    def clear(self) -> None:
        self._partial = bytearray()
        self._scanned = 0


class RequestHeadBuffer(HeadBuffer):
    """Holds the beginning of a request's head as long as it may become one.

    Args:
        most_bytes: of a head.
    """

    __slots__ = ("_most_bytes",)

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self._most_bytes = most_bytes

    def add(self, arrived: bytes) -> tuple[bytes, bytes] | None:
        """Append like a `HeadBuffer`; raises `BadMessage` also where no further byte can make it a request."""
        gathered = super().add(arrived)
        size = len(self) if gathered is None else len(gathered[0])
        if size > self._most_bytes:
            raise HeadTooLong
        if gathered is None and size < _LINE_SOUGHT_BYTES:
            line = self.peek(size).partition(b"\n")[0]
            if REQUEST_START.fullmatch(line) is None:
                raise BadMessage(400, "malformed request line")
        return gathered
