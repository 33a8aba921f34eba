"""How every connection of a process reads: into one buffer, unless it is told to read nothing for now.

One is enough: the event loop asks for it, fills it and announces the bytes in one go, and whoever gets them copies
what it keeps. Its size bounds what one read can add to the memory of a connection whose peer does not take it; the
event loop's own default would be four times as much.
"""

import asyncio
import os
from abc import abstractmethod
from typing import Any

READ_BYTES = 64 * 1024

READ_BUFFER = memoryview(bytearray(READ_BYTES))


class BytesReader(asyncio.BufferedProtocol):
    """A protocol that gets what was read as bytes of its own.

    Without `abc.ABC`, so that `isinstance` of one kind of connection among others stays cheap; mypy sees to it
    that subclasses are whole.
    """

    def get_buffer(self, sizehint: int) -> memoryview:
        return READ_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(READ_BUFFER[:nbytes].tobytes())

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer; called directly where TLS lies between."""


class PeerConnection(BytesReader):
    """One side of what the router passes on: a protocol that whoever passes it on can stop and close.

    What comes while reading is paused waits in the socket, and so at the peer.
    """

    def __init__(self) -> None:
        self._transport: Any = None
        self._paused = False

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 once it is closed."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def pause_reading(self) -> None:
        """Read no more until `resume_reading`."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def send_eof(self) -> None:
        """End this side of the connection; the peer's is still read."""
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()


def unread(transport: Any) -> bytes:
    """Return what a peer had sent before it reset the connection, if a write met the reset before it was read.

    Only for ``connection_lost``, during which the event loop has not yet closed the descriptor.
    """
    sock = transport.get_extra_info("socket")
    descriptor = -1 if sock is None else int(sock.fileno())
    pieces: list[bytes] = []
    while descriptor >= 0:
        try:
            piece = os.read(descriptor, READ_BYTES)
        except OSError:
            break
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces)
