"""The choice between HTTP/1 and HTTP/2 on a plain port, by the first bytes (RFC 9113 §3.3, "prior knowledge").

Waits until what has come is the preface of HTTP/2 or cannot be it any more, then hands the connection over.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

from router.frontend.connection import FrontendOptions, Served
from router.frontend.http1 import ClientConnection
from router.frontend.http2 import Http2Connection
from router.read_buffer import BytesReader
from router.wire.http2_frames import PREFACE

Chosen = ClientConnection | Http2Connection


class PrefaceConnection(BytesReader):
    """One accepted connection, as long as it may become either.

    Args:
        serve: makes what serves the client; True for HTTP/2.
        connections: holds this one as long as it waits; whoever owns them calls `expire` after ``deadline``.
        options: their time-outs hold here too, for the first byte and for the rest of the preface.
    """

    def __init__(
        self, serve: Callable[[bool], Chosen], connections: set[Served], options: FrontendOptions
    ) -> None:
        self.deadline = 0.0
        self._serve = serve
        self._connections = connections
        self._options = options
        self._received = b""
        self._transport: Any = None

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._connections.add(self)
        self._wait(self._options.idle_s)

    def data_received(self, data: bytes) -> None:
        """Take the first bytes; a handed-over connection gets further ones itself."""
        if not self._received:
            self._wait(self._options.header_s)
        self._received += data
        size = min(len(self._received), len(PREFACE))
        if self._received[:size] != PREFACE[:size]:
            self._hand_over(False)
        elif size == len(PREFACE):
            self._hand_over(True)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    # What the worker calls.

    def expire(self) -> None:
        """Nothing, or half a preface, came in time."""
        self.deadline = 0.0
        self._transport.close()

    def drain(self) -> None:
        self._hand_over(False)

    def is_tunnel(self) -> bool:
        return False

    def unread_descriptor(self) -> int:
        return -1

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _wait(self, limit_s: float) -> None:
        self.deadline = monotonic() + limit_s if limit_s else 0.0

    def _hand_over(self, http2: bool) -> None:
        self._connections.discard(self)
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        served = self._serve(http2)
        transport.set_protocol(served)
        served.connection_made(transport)
        if self._received:
            served.data_received(self._received)
