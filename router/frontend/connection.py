"""What client connections have in common, whatever protocol they speak, and what a worker needs of them.

Owns the client's address, what it proved of itself, and the end of a connection; does not own what is read.
"""

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from router.proxy.forward import Proxy
from router.proxy.presented import ANONYMOUS, Identify, Presented
from router.read_buffer import PeerConnection

LINGER_S = 2.0
"""What a client sends after our last word is read away for so long; else a reset could overtake that word."""
LAST_REQUEST_S = 1.0
"""In a drain, an idle connection is given this long: a request may be on its way already."""
FLUSH_S = 30.0
"""A closing connection whose client takes not one byte for so long is given up."""
HEAD_SLACK_BYTES = 4096
"""A head may be so much larger than configured, as with Go's server."""
_WRITE_HIGH_BYTES = 65536


class Served(Protocol):
    """A client connection from accept to close."""

    deadline: float
    """Monotonic seconds after which `expire` is to be called; 0 is never."""

    def expire(self) -> None:
        """The deadline has passed."""

    def drain(self) -> None:
        """Take no more requests: close as soon as those at hand are answered, or at once if there are none."""

    def is_tunnel(self) -> bool:
        """Whether nothing goes on here but tunnels, which may last for hours."""

    def unread_descriptor(self) -> int:
        """Return the socket's descriptor if for now nothing is read from it, else -1."""

    def abort(self) -> None:
        """Close at once."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Where a connection comes from.

    Attributes:
        secure: over TLS.
        listener_port: of the router, that the client dialled.
        announced: the client's address if a balancer stands between, which is then the transport's peer.
    """

    secure: bool
    listener_port: int
    announced: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class FrontendOptions:
    """Limits of client connections; times in seconds, 0 is no limit.

    Attributes:
        idle_s: until the first byte of a request, on a new connection too.
        header_s: from that byte until the head is whole; over HTTP/2 also for the preface.
        full_duplex: a request body is read to its end and passed on, even if it has been answered before.
        identify: None if there are no domains with mutual TLS.
    """

    idle_s: float
    header_s: float
    max_head_bytes: int
    identify: Identify | None = None
    full_duplex: bool = False


class FrontendConnection(PeerConnection):
    """What connections of HTTP/1 and HTTP/2 are made of; each lives from accept to close.

    Args:
        connections: holds this one as long as it lives; whoever owns them calls ``expire`` after ``deadline``.

    Attributes:
        deadline: monotonic seconds; 0 is never.
        peer: the client's address and port, ``192.0.2.1:4711`` or ``[2001:db8::1]:4711``; empty until connected.
        peer_ip: the address alone.
    """

    def __init__(
        self, proxy: Proxy, options: FrontendOptions, connections: set[Served], accepted: Accepted
    ) -> None:
        super().__init__()
        self.proxy = proxy
        self.options = options
        self.secure = accepted.secure
        self.listener_port = accepted.listener_port
        self.peer = b""
        self.peer_ip = b""
        self.deadline = 0.0
        self._announced = accepted.announced
        self._connections = connections
        self._presented: Presented | None = None
        self._unsent = 0

    def presented(self) -> Presented:
        """Return what the client proved of itself, which holds for all requests."""
        if self._presented is None:
            self._presented = Presented(self._transport, self.options.identify) if self.secure else ANONYMOUS
        return self._presented

    def unread_descriptor(self) -> int:
        return -1

    def _take(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        peer = self._announced or transport.get_extra_info("peername")
        ip = str(peer[0]).removeprefix("::ffff:") if peer else ""
        self.peer_ip = ip.encode()
        port = peer[1] if peer else 0
        self.peer = (f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}").encode()
        self._transport.set_write_buffer_limits(_WRITE_HIGH_BYTES)

    def _close_when_read(self) -> None:
        """Close so that the client gets to read what was written: closing with unread bytes in the socket makes
        the kernel send a reset, which throws away what the client has not read yet."""
        self.deadline = monotonic() + LINGER_S
        self.resume_reading()
        self.send_eof()

    def _close_when_sent(self) -> None:
        """Close once everything written has been sent; `_check_flush` sees to it that this comes to an end."""
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = monotonic() + FLUSH_S
        if not self._transport.is_closing():
            self._transport.close()

    def _check_flush(self, now: float) -> None:
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent < self._unsent:
            self._unsent = unsent
            self.deadline = now + FLUSH_S
        else:
            self._transport.abort()
