"""A header block that comes in several frames (RFC 9113 §4.3): HEADERS, and CONTINUATION until the last.

Owns how much of it is gathered; what the block does to its stream is for `wire.http2_receiver` to say.
"""

from router.wire.http2_frames import END_HEADERS, ENHANCE_YOUR_CALM, ConnectionFault

_MOST_FRAMES = 256
"""Empty ones would never reach a limit in bytes."""


class HeaderBlock:
    """What has come of one block; made with the HEADERS that begins it.

    Attributes:
        stream_id: of that frame; nothing but this block's frames may come until its end.
        flags: of that frame, which say whether the stream ends.

    Args:
        most_bytes: of all its parts, compressed.
    """

    __slots__ = ("_bytes", "_most_bytes", "_parts", "flags", "stream_id")

    def __init__(self, stream_id: int, flags: int, first: bytes, most_bytes: int) -> None:
        self.stream_id = stream_id
        self.flags = flags
        self._parts = [first]
        self._bytes = len(first)
        self._most_bytes = most_bytes

    def add(self, flags: int, part: bytes) -> bytes | None:
        """Take a CONTINUATION; returns the whole block if it was the last.

        Raises `ConnectionFault` for a block longer than anybody needs.
        """
        self._parts.append(part)
        self._bytes += len(part)
        if self._bytes > self._most_bytes or len(self._parts) > _MOST_FRAMES:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "header block too long")
        return b"".join(self._parts) if flags & END_HEADERS else None
