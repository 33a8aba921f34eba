"""The DNS server for containers, UDP and TCP, on every container-side address.

Owns the sockets and the questions that are being asked elsewhere; does not own what is answered (`dns_answers`).
One law: an answer leaves from the address its query came to, so nothing stands between a container and us that
could change who it is.
"""

import asyncio
import socket
import time
import traceback
from collections.abc import Callable
from typing import cast

from router.config.internal import Internal
from router.config.resolvers import parse_resolver
from router.control.internal.dns_answers import Answers, DnsCounters, TableSource, normalised, own_addresses
from router.control.internal.dns_forwarder import Forwarder
from router.control.internal.dns_tcp import SWEEP_S, Connection, Connections, Respond
from router.control.listeners import ListenError, describe_bind_error
from router.log import Logger
from router.wire.dns import MESSAGE_BYTES, SERVFAIL, Query, reply

_KEY = "internal.dns.port"
_RECEIVE_BYTES = 1 << 20
"""Room for queries that come while the event loop is busy with something else; the kernel may grant less."""


class DnsServer:
    """Serves from `start` to `close`; a port of 0 in the configuration leaves it off.

    Args:
        table: returns control's facts; asked anew for each query.
        clock: seconds, monotonic.

    Attributes:
        counters: packets by outcome since the start.
    """

    def __init__(
        self,
        config: Internal,
        table: TableSource,
        logger: Logger,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = DnsCounters()
        self._addresses = own_addresses(config)
        self._port = config.dns.port
        self._logger = logger.child("dns")
        self._table = table
        self._clock = clock
        self.configure(config)
        self._connections = Connections(self, self.counters, clock)
        self._datagrams: list[_Datagrams] = []
        self._servers: list[asyncio.Server] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    def configure(self, config: Internal) -> None:
        """Answer by this configuration from now on; addresses and port stay as they were at the start."""
        self._answers = Answers(config, self._table, self.counters, self._logger, clock=self._clock)
        self._forwarder = Forwarder([parse_resolver(text) for text in config.dns.resolvers])

    async def start(self) -> None:
        """Listen on all addresses. Raises `ListenError`, leaving nothing open."""
        if not self._port:
            return
        try:
            for address in self._addresses:
                await self._listen(address)
        except ListenError:
            await self.close()
            raise
        self._sweep()
        self._logger.info("dns-listening", addresses=self._addresses, port=self._port)

    async def close(self) -> None:
        """Stop listening, end what is open; again is harmless."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for datagrams in self._datagrams:
            datagrams.close()
        for server in self._servers:
            server.close()
        self._connections.close()
        for task in self._asking:
            task.cancel()
        ending = [*self._asking, *(datagrams.closed for datagrams in self._datagrams)]
        if ending:
            await asyncio.wait(ending)

    async def _listen(self, address: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            bound = _bound_datagram_socket(address, self._port)
            _, datagrams = await loop.create_datagram_endpoint(lambda: _Datagrams(self, address), sock=bound)
            self._datagrams.append(datagrams)
            server = await loop.create_server(lambda: Connection(self._connections, address), address, self._port)
            self._servers.append(server)
        except OSError as error:
            raise ListenError(describe_bind_error(_KEY, address, self._port, error)) from error

    def _sweep(self) -> None:
        self._connections.sweep()
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    # What both transports serve.

    def is_known(self, source: str) -> bool:
        """Whether the source is a container."""
        return self._answers.is_known(source)

    def serve(self, packet: bytes, source: str, local: str, respond: Respond, *, tcp: bool) -> bool:
        """Respond once, now or later, and return True; or return False if there is nothing to respond."""
        found = self._answers.find(packet, source, local, tcp=tcp)
        if found is None:
            return False
        if isinstance(found, bytes):
            respond(found)
        else:
            task = asyncio.get_running_loop().create_task(self._ask(found, source, respond, tcp))
            self._asking.add(task)
            task.add_done_callback(self._asked)
        return True

    async def _ask(self, query: Query, source: str, respond: Respond, tcp: bool) -> None:
        answer = await self._forwarder.ask(query, source, tcp=tcp)
        if answer is None:
            self.counters.forward_failures += 1
            answer = reply(query, SERVFAIL, limit=MESSAGE_BYTES if tcp else query.udp_limit)
        respond(answer)

    def _asked(self, task: "asyncio.Task[None]") -> None:
        self._asking.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            stack = "".join(traceback.format_exception(error))
            self._logger.error("control-internal-error", error=str(error), stack=stack)


class _Datagrams(asyncio.DatagramProtocol):
    """Queries over UDP to one address."""

    def __init__(self, server: DnsServer, local: str) -> None:
        self._server = server
        self._local = local
        self._transport: asyncio.DatagramTransport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.closed.set_result(None)

    def close(self) -> None:
        """Close without sending what is still to be sent; `closed` is done when the port is free."""
        if self._transport is not None:
            self._transport.abort()

    def datagram_received(self, packet: bytes, peer: tuple[str, int]) -> None:
        def respond(answer: bytes) -> None:
            if self._transport is not None:
                self._transport.sendto(answer, peer)

        self._server.serve(packet, normalised(peer[0]), self._local, respond, tcp=False)


def _bound_datagram_socket(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound
