"""Connections that a balancer may have announced: reads the PROXY protocol header, then steps aside.

Stands where HTTP or TLS would stand, until it is known who the client is; then the transport and whatever came
behind the header go to the protocol that serves the client. Owns the wait for the header; does not own its grammar
(`wire.proxy_protocol`). One law: no byte of a header is ever given on, and none of the client's is lost.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from router.read_buffer import READ_BUFFER
from router.wire.proxy_protocol import Announced, Direct, HeaderReader, Outcome

HEADER_S = 0.1
"""Who has not sent a header by then is a direct client (GOROUTER.md §8.4)."""

Peer = tuple[str, int]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Served(Protocol):
    """What takes the connection over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...


class HeaderConnection(asyncio.BufferedProtocol):
    """One accepted connection, as long as its header may still come.

    Args:
        accept: makes what serves the client, given its announced address, or None if there is none.
        refused: called with the peer's address and the reason when the connection is closed instead.
        trusted: who may send a header; empty for everybody. Others may only connect directly.
        waiting: holds this connection as long as it waits; whoever owns it calls `expire` after `deadline`.

    Attributes:
        deadline: monotonic seconds.
    """

    def __init__(
        self,
        accept: Callable[[Peer | None], Served],
        refused: Callable[[str, str], None],
        trusted: tuple[Network, ...],
        waiting: "set[HeaderConnection]",
    ) -> None:
        self.deadline = 0.0
        self._accept = accept
        self._refused = refused
        self._trusted = trusted
        self._waiting = waiting
        self._reader = HeaderReader()
        self._transport: Any = None

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.deadline = monotonic() + HEADER_S
        self._waiting.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return READ_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._transport.is_closing():
            return
        outcome = self._reader.feed(READ_BUFFER[:nbytes].tobytes())
        if self._reader.begun and not self._may_announce():
            self._refuse("this peer may not send a header")
        elif outcome is not None:
            self._conclude(outcome)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.discard(self)

    # What the worker calls.

    def expire(self) -> None:
        """The deadline has passed: half a header is refused, anything else is a direct client's."""
        self._conclude(self._reader.give_up())

    def abort(self) -> None:
        self._transport.abort()

    # The end of the wait.

    def _conclude(self, outcome: Outcome) -> None:
        if isinstance(outcome, Announced):
            self._hand_over((outcome.ip, outcome.port), outcome.leftover)
        elif isinstance(outcome, Direct):
            self._hand_over(None, outcome.leftover)
        else:
            self._refuse(outcome.reason)

    def _hand_over(self, peer: Peer | None, leftover: bytes) -> None:
        self._waiting.discard(self)
        transport = self._transport
        if transport.is_closing():
            return
        served = self._accept(peer)
        transport.set_protocol(served)
        served.connection_made(transport)
        if leftover:
            served.data_received(leftover)

    def _refuse(self, reason: str) -> None:
        self._waiting.discard(self)
        self._refused(self._peer_ip(), reason)
        self._transport.abort()

    def _may_announce(self) -> bool:
        if not self._trusted:
            return True
        ip = self._peer_ip()
        return bool(ip) and any(ipaddress.ip_address(ip) in network for network in self._trusted)

    def _peer_ip(self) -> str:
        name = self._transport.get_extra_info("peername")
        return str(name[0]).removeprefix("::ffff:").partition("%")[0] if name else ""
