"""The chunked transfer coding (RFC 9112 §7.1): decoding it strictly, and writing it plainly.

Chunk extensions are read over and not forwarded; everything the grammar does not allow is an error, because
lenient chunk parsing is how requests are smuggled.
"""

import re

from router.wire.head_buffer import HeadBuffer
from router.wire.header_lines import TOKEN, BadMessage, parse_trailers

_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_EXTENSION = rb"[ \t]*+;[ \t]*+" + TOKEN + rb"(?:[ \t]*+=[ \t]*+(?:" + TOKEN + rb"|" + _QUOTED + rb"))?"
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:" + _EXTENSION + rb")*+\r\n")
_SIZE_LINE_START = re.compile(rb"[0-9A-Fa-f]{1,15}(?:[ \t]*+(?:;[\t\x20-\x7e\x80-\xff]*+)?)\r?")
_SIZE_LINE_BYTES = 4096
"""A size line longer than this is an attack: extensions are all but unused."""
_OVERHEAD_BYTES = 65536
"""Framing bytes a body may spend beyond its data and 64 bytes a chunk: bounds extensions sent in small pieces."""

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)

LAST_CHUNK = b"0\r\n\r\n"


class ChunkedDecoder:
    """Decodes one body. Feed it what arrives; it keeps what it cannot use yet.

    Attributes:
        done: the final chunk and the trailers have been read.
        leftover: bytes after the end of the body, once `done`.
        trailers: header lines after the body.

    Args:
        fields: names that may not be trailers, as in `parse_trailers`.
        trailer_bytes: the most a trailer section may take.
    """

    __slots__ = (
        "_buffer",
        "_ending",
        "_fields",
        "_overhead",
        "_remaining",
        "_state",
        "_trailer_bytes",
        "done",
        "leftover",
        "trailers",
    )

    def __init__(self, fields: dict[bytes, int], trailer_bytes: int) -> None:
        self.done = False
        self.leftover = b""
        self.trailers: list[bytes] = []
        self._fields = fields
        self._trailer_bytes = trailer_bytes
        self._state = _SIZE
        self._buffer = b""
        self._remaining = 0
        self._overhead = 0
        self._ending: HeadBuffer | None = None

    def feed(self, arrived: bytes) -> bytes:
        """Return the body bytes that ``arrived`` completes. Raises `BadMessage`."""
        buffer = self._buffer + arrived if self._buffer else arrived
        position = 0
        pieces: list[bytes] = []
        while True:
            if self._state == _DATA:
                piece = buffer[position : position + self._remaining]
                position += len(piece)
                self._remaining -= len(piece)
                if piece:
                    pieces.append(piece)
                if self._remaining:
                    break
                self._state = _DATA_END
            elif self._state == _DATA_END:
                if len(buffer) - position < 2 and b"\r\n".startswith(buffer[position:]):
                    break
                if buffer[position : position + 2] != b"\r\n":
                    raise BadMessage(400, "chunk longer than its size")
                position += 2
                self._state = _SIZE
            elif self._state == _SIZE:
                used = self._read_size(buffer, position)
                if not used:
                    break
                position += used
            else:
                position = self._read_trailers(buffer, position)
                break
        self._buffer = b"" if self.done else buffer[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_size(self, buffer: bytes, position: int) -> int:
        match = _SIZE_LINE.match(buffer, position)
        if match is None:
            self._check_partial_size(buffer, position)
            return 0
        used = match.end() - position
        self._overhead += max(used - 64, 0)
        if used > _SIZE_LINE_BYTES or self._overhead > _OVERHEAD_BYTES:
            raise BadMessage(400, "chunk extensions too long")
        self._remaining = int(match[1], 16)
        self._state = _DATA if self._remaining else _TRAILERS
        return used

    def _check_partial_size(self, buffer: bytes, position: int) -> None:
        """Refuse at once what no further byte can turn into a size line."""
        rest = buffer[position : position + _SIZE_LINE_BYTES + 1]
        if len(rest) > _SIZE_LINE_BYTES or b"\n" in rest:
            raise BadMessage(400, "malformed chunk size")
        if rest and not _SIZE_LINE_START.fullmatch(rest):
            raise BadMessage(400, "malformed chunk size")

    def _read_trailers(self, buffer: bytes, position: int) -> int:
        if self._ending is None:
            # Led by the line end of the last chunk, no trailers end as some do: with an empty line.
            self._ending = HeadBuffer()
            self._ending.add(b"\r\n")
        gathered = self._ending.add(buffer[position:])
        if max(len(self._ending), len(gathered[0]) if gathered else 0) > self._trailer_bytes + 2:
            raise BadMessage(431, "trailers too long")
        if gathered is not None:
            section, self.leftover = gathered
            if section:
                self.trailers = parse_trailers(section[2:], self._fields)
            self._state = _DONE
            self.done = True
        return len(buffer)


def encode_chunk(piece: bytes) -> bytes:
    """Return one chunk. ``piece`` must not be empty: an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def encode_last_chunk(trailers: list[bytes]) -> bytes:
    """Return the end of a chunked body, with its trailers."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n" + b"\r\n".join(trailers) + b"\r\n\r\n"
