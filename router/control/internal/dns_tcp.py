"""DNS over TCP (RFC 7766): framing, limits and idle time of connections.

Owns each connection from accept to close; does not own what is answered. One law: a client costs at most its
share of connections and one read's worth of queries at a time, whatever it sends or does not read.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol, cast

from router.control.internal.dns_answers import DnsCounters, normalised
from router.wire.dns import QUERY_BYTES

IDLE_S = 10.0
"""A connection on which no whole query comes, and none is being answered, is closed after so long."""
SWEEP_S = 1.0
CONNECTIONS = 1024
CONNECTIONS_OF_ONE = 32
"""Of one source; those who are no container share this number."""
_LENGTH_BYTES = 2

Respond = Callable[[bytes], None]


class Service(Protocol):
    """What connections serve."""

    def is_known(self, source: str) -> bool:
        """Whether the source is a container."""
        ...

    def serve(self, packet: bytes, source: str, local: str, respond: Respond, *, tcp: bool) -> bool:
        """Respond once, now or later, and return True; or return False if there is nothing to respond."""
        ...


class Connections:
    """All TCP connections of the DNS server.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, service: Service, counters: DnsCounters, clock: Callable[[], float]) -> None:
        self.service = service
        self.clock = clock
        self._counters = counters
        self._open: set[Connection] = set()
        self._of_source: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: "Connection") -> bool:
        """Count a new connection, or refuse it."""
        share = connection.share
        if len(self._open) >= CONNECTIONS or self._of_source[share] >= CONNECTIONS_OF_ONE:
            self._counters.connections_refused += 1
            return False
        self._open.add(connection)
        self._of_source[share] += 1
        return True

    def forget(self, connection: "Connection") -> None:
        """Stop counting a connection that has ended; again is harmless."""
        if connection in self._open:
            self._open.remove(connection)
            self._of_source[connection.share] -= 1
            if not self._of_source[connection.share]:
                del self._of_source[connection.share]

    def sweep(self) -> None:
        """Close what has been idle for too long."""
        before = self.clock() - IDLE_S
        for connection in [one for one in self._open if one.is_idle_since(before)]:
            connection.abort()

    def close(self) -> None:
        """Close them all at once."""
        for connection in list(self._open):
            connection.abort()


class Connection(asyncio.Protocol):
    """One client: reads framed queries, as many as it likes at a time, and writes answers as they come."""

    def __init__(self, connections: Connections, local: str) -> None:
        self.share = ""
        """Whose number of connections this one counts for."""
        self._connections = connections
        self._local = local
        self._source = ""
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answering = 0
        self._paused = False
        self._ended = False
        self._active_at = connections.clock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._source = normalised(str(peer[0])) if peer else ""
        self.share = self._source if self._connections.service.is_known(self._source) else ""
        if not self._connections.admit(self):
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._connections.forget(self)

    def data_received(self, received: bytes) -> None:
        self._received += received
        self._read_queries()

    def eof_received(self) -> bool:
        """Stay open for what is still being answered."""
        self._ended = True
        return bool(self._answering)

    def pause_writing(self) -> None:
        """The client does not read its answers: neither are its queries read."""
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is not None:
            self._transport.resume_reading()
            self._read_queries()

    def is_idle_since(self, moment: float) -> bool:
        return not self._answering and self._active_at < moment

    def abort(self) -> None:
        self._connections.forget(self)
        if self._transport is not None:
            self._transport.abort()

    def _read_queries(self) -> None:
        while not self._paused and self._transport is not None and len(self._received) >= _LENGTH_BYTES:
            length = int.from_bytes(self._received[:_LENGTH_BYTES])
            if length > QUERY_BYTES:
                self.abort()
                return
            end = _LENGTH_BYTES + length
            if len(self._received) < end:
                return
            packet = bytes(self._received[_LENGTH_BYTES:end])
            del self._received[:end]
            if not self._serve(packet):
                self.abort()
                return

    def _serve(self, packet: bytes) -> bool:
        self._active_at = self._connections.clock()
        self._answering += 1
        return self._connections.service.serve(packet, self._source, self._local, self._respond, tcp=True)

    def _respond(self, answer: bytes) -> None:
        self._answering -= 1
        self._active_at = self._connections.clock()
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(len(answer).to_bytes(_LENGTH_BYTES) + answer)
        if self._ended and not self._answering:
            self._transport.close()
