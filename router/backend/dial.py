"""Dialling an endpoint: addresses, TCP, TLS, and the choice of HTTP's version.

Owns the way from an endpoint to an open connection and what its failures are called; not what is connected.
"""

import asyncio
import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from router.backend.failure import CONNECT_TIMEOUT, NAME_MISMATCH, BackendFailure, of_dial, of_tls
from router.backend.service import connect_allowed
from router.read_buffer import PeerConnection
from router.routing.pool import Endpoint
from router.tls_stream import TlsStream, is_issuer_ambiguous

_WRITE_HIGH_BYTES = 65536


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What the configuration says about connections to endpoints; times in seconds, 0 is no limit."""

    dial_timeout_s: float
    handshake_timeout_s: float
    keep_alive: bool
    max_idle: int
    """Idle connections an endpoint may have."""
    probe_interval_s: float
    """TCP keep-alive."""
    max_head_bytes: int
    max_headers: int
    contexts: tuple[ssl.SSLContext, ...]
    """For TLS, to be tried in their order."""
    allowed: Callable[[str], bool] | None = None
    """Whether an IP address may be dialled; None allows all. Asked after name resolution."""
    http2_contexts: tuple[ssl.SSLContext, ...] = ()
    """Those that offer HTTP/2 besides, in the same order; without them nobody is spoken to in HTTP/2."""
    http2_cleartext: bool = False
    """Speak HTTP/2 to endpoints without TLS that announce it."""
    http2_max_age_s: float = 0.0
    """How long a connection of HTTP/2 takes new exchanges."""


Connection = TypeVar("Connection", bound="Noting")


class Noting(PeerConnection):
    """What stands at the end of a dial, and notes how it came about; attributes as of `BackendConnection`."""

    local_address = ""
    timings = (-1.0, -1.0, -1.0)


class Dialler(Generic[Connection]):
    """Connects.

    Args:
        clock: monotonic seconds.
        make: makes the protocol of a connection; its second argument tells whether it speaks HTTP/2.
    """

    def __init__(
        self,
        options: BackendOptions,
        clock: Callable[[], float],
        make: Callable[[Endpoint, bool], Connection],
    ) -> None:
        self._options = options
        self._now = clock
        self._make = make
        self._believed: dict[Endpoint, int] = {}
        """What verified an endpoint last, as an index of the contexts, where that is not the first."""

    def forget(self, endpoint: Endpoint) -> None:
        self._believed.pop(endpoint, None)

    async def connect(self, endpoint: Endpoint, http2: bool) -> Connection:
        """Return what `make` made, connected.

        Args:
            http2: offer HTTP/2 to an endpoint with TLS; speak it to one without.

        Raises:
            BackendFailure: the way was not passable.
        """
        if not endpoint.record.tls:
            return await self._connect_with(endpoint, None, http2)
        *others, last = self._order(endpoint)
        for index in others:
            try:
                return await self._connect_by(endpoint, index, http2)
            except BackendFailure as failure:
                if not is_issuer_ambiguous(failure.__cause__):
                    raise
        return await self._connect_by(endpoint, last, http2)

    def _order(self, endpoint: Endpoint) -> list[int]:
        """Return which contexts to try, the one that believed the endpoint last in front."""
        believed = self._believed.get(endpoint, 0)
        return [believed, *(index for index in range(len(self._options.contexts)) if index != believed)]

    async def _connect_by(self, endpoint: Endpoint, index: int, http2: bool) -> Connection:
        contexts = self._options.http2_contexts if http2 else self._options.contexts
        connection = await self._connect_with(endpoint, contexts[index], http2)
        if not index:
            self._believed.pop(endpoint, None)
        elif not endpoint.gone:
            self._believed[endpoint] = index
        return connection

    async def _connect_with(self, endpoint: Endpoint, context: ssl.SSLContext | None, http2: bool) -> Connection:
        record = endpoint.record
        shaken: asyncio.Future[Connection] | None = None
        if context is None:
            connection = self._make(endpoint, http2)
            protocol: asyncio.BufferedProtocol = connection
        else:
            shaken = asyncio.get_running_loop().create_future()
            protocol = self._tls(context, endpoint, record.san or record.host, shaken)
        watch = _Watch(self._now)
        try:
            async with asyncio.timeout(self._options.dial_timeout_s or None):
                transport = await self._open_transport(protocol, record.host, record.port, watch)
        except (OSError, UnicodeError) as error:
            raise of_dial(
                error if isinstance(error, OSError) else OSError(str(error)), endpoint.address
            ) from error
        self._set_socket(transport)
        watch.connected()
        if shaken is not None:
            connection = await self._shake(transport, shaken)
        connection.timings = watch.timings(secure=shaken is not None)
        connection.local_address = _address(transport.get_extra_info("sockname"))
        transport.set_write_buffer_limits(_WRITE_HIGH_BYTES)
        return connection

    async def _open_transport(
        self, protocol: asyncio.BufferedProtocol, host: str, port: int, watch: "_Watch"
    ) -> asyncio.Transport:
        allowed = self._options.allowed
        if not _is_literal(host):
            return await connect_allowed(protocol, host, port, allowed, watch.resolved)
        if allowed is not None:
            return await connect_allowed(protocol, host, port, allowed)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, host, port)
        return transport

    def _tls(
        self, context: ssl.SSLContext, endpoint: Endpoint, name: str, shaken: "asyncio.Future[Connection]"
    ) -> TlsStream:
        def accept(stream: TlsStream) -> asyncio.BufferedProtocol:
            connection = self._make(endpoint, stream.ssl_object.selected_alpn_protocol() == "h2")
            if not shaken.done():
                shaken.set_result(connection)
            return connection

        def failed(_: TlsStream, error: BaseException) -> None:
            if not shaken.done():
                shaken.set_exception(error)

        try:
            return TlsStream(context, accept, failed, server_hostname=name)
        except (ValueError, TypeError, ssl.SSLError) as error:
            # What was announced as the name cannot be one, so no certificate can carry it.
            raise BackendFailure(NAME_MISMATCH, f"x509: invalid server name {name!r}: {error}") from error

    async def _shake(self, transport: asyncio.BaseTransport, shaken: "asyncio.Future[Connection]") -> Connection:
        try:
            async with asyncio.timeout(self._options.handshake_timeout_s or None):
                return await shaken
        except (OSError, ValueError, TimeoutError) as error:
            transport.close()
            raise of_tls(error) from error
        except asyncio.CancelledError:
            transport.close()
            raise

    def _set_socket(self, transport: Any) -> None:
        sock = transport.get_extra_info("socket")
        if sock is None or not self._options.probe_interval_s:
            return
        seconds = max(1, int(self._options.probe_interval_s))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)


class _Watch:
    """Times the steps of a dial."""

    __slots__ = ("_connected", "_now", "_resolved", "_started")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._started = now()
        self._resolved = self._connected = 0.0

    def resolved(self) -> None:
        self._resolved = self._now()

    def connected(self) -> None:
        self._connected = self._now()

    def timings(self, secure: bool) -> tuple[float, float, float]:
        """Return the seconds of look-up, connect and handshake, which is over now; -1 for what there was not."""
        resolved = self._resolved
        return (
            resolved - self._started if resolved else -1.0,
            self._connected - (resolved or self._started),
            self._now() - self._connected if secure else -1.0,
        )


def _is_literal(host: str) -> bool:
    """Whether a host is an address and needs no look-up."""
    return ":" in host or host.replace(".", "").isdigit()


def _address(name: Any) -> str:
    if not name:
        return ""
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connect_timed_out(address: str) -> BackendFailure:
    """The whole exchange's time ran out before there was a connection."""
    return BackendFailure(CONNECT_TIMEOUT, f"dial tcp {address}: context deadline exceeded")


def is_quiet(descriptor: int) -> bool:
    """Whether an idle socket has neither an end of stream nor unasked bytes waiting; -1 is a closed one."""
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return not poll.poll(0)
