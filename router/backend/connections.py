"""All connections of one worker to endpoints: dialling, reuse, idle time.

Owns which connections exist and when an idle one goes; does not choose endpoints. The idle connections themselves
hang on their `Endpoint`, so that a look-up finds them without another table.
"""

import asyncio
import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from router.backend.connection import BackendConnection
from router.backend.failure import CONNECT_TIMEOUT, NAME_MISMATCH, PROTOCOL, BackendFailure, of_dial, of_tls
from router.backend.service import connect_allowed
from router.routing.pool import Endpoint
from router.tls_stream import TlsStream, is_issuer_ambiguous
from router.wire.http1 import BadMessage

IDLE_S = 90.0
"""An idle connection is closed after this; the same fixed time as Gorouter's. A closing one is cut after it."""
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


class Connections:
    """Dials, keeps and expires connections.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, options: BackendOptions, clock: Callable[[], float]) -> None:
        self.now = clock
        self._options = options
        self._open: set[BackendConnection] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self._believed: dict[Endpoint, ssl.SSLContext] = {}
        """What verified an endpoint last, where that is not the first of the contexts."""
        self._closing = False

    def __len__(self) -> int:
        return len(self._open)

    def checkout(self, endpoint: Endpoint, safe_to_repeat: bool) -> BackendConnection | None:
        """Return an idle connection, most recently used first, or None.

        Args:
            safe_to_repeat: the request may be sent again if the backend turns out to have closed the connection.
                If it may not, the socket is asked first, which narrows the race to the time on the wire.
        """
        idle = endpoint.idle
        while idle:
            connection: BackendConnection = idle.pop()
            if connection.is_usable() and (safe_to_repeat or _is_quiet(connection)):
                connection.reused = True
                return connection
            connection.discard()
        return None

    def dial(
        self,
        endpoint: Endpoint,
        done: Callable[[BackendConnection], None],
        failed: Callable[[BackendFailure], None],
    ) -> asyncio.Task[None]:
        """Connect to an endpoint; one of the callbacks is called, unless the returned task is cancelled."""
        task = asyncio.get_running_loop().create_task(self._dial(endpoint, done, failed))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
        return task

    def keep(self, connection: BackendConnection) -> bool:
        """Take a connection back as idle; return False if it has to be closed instead."""
        endpoint = connection.endpoint
        options = self._options
        if not options.keep_alive or endpoint.gone or self._closing:
            return False
        idle = endpoint.idle
        if idle is None:
            idle = endpoint.idle = []
        elif len(idle) >= options.max_idle:
            return False
        if not options.max_idle:
            return False
        connection.idle_since = self.now()
        idle.append(connection)
        return True

    def lost(self, connection: BackendConnection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        idle = connection.endpoint.idle
        if idle and connection in idle:
            idle.remove(connection)

    def check_response_head(self, raw: bytes) -> None:
        """Refuse a response head over the configured limits. Raises `BackendFailure` or `BadMessage`."""
        self.check_response_size(len(raw))
        limit = self._options.max_headers
        if limit and raw.count(b"\r\n") > limit:
            raise BackendFailure(PROTOCOL, "Too many response headers")

    def check_response_size(self, size: int) -> None:
        """Refuse a head, complete or not, of more bytes than configured. Raises `BadMessage`."""
        limit = self._options.max_head_bytes
        if size > limit:
            raise BadMessage(502, f"server response headers exceeded {limit} bytes; aborted")

    def endpoint_gone(self, endpoint: Endpoint) -> None:
        """No pool names the endpoint any more: its idle connections are of no use."""
        self._believed.pop(endpoint, None)
        idle, endpoint.idle = endpoint.idle, None
        for connection in idle or ():
            connection.close()

    def sweep(self, now: float) -> None:
        """Close what has been idle too long, and cut what cannot be closed because its backend takes nothing."""
        for connection in list(self._open):
            if connection.exchange is not None or now - connection.idle_since <= IDLE_S:
                continue
            if connection.is_usable():
                connection.close()
            else:
                connection.discard()

    def close_idle(self) -> None:
        """Drain: close idle connections now, and keep none from here on."""
        self._closing = True
        for connection in list(self._open):
            if connection.exchange is None:
                connection.close()

    def abort_all(self) -> None:
        """Cut everything."""
        for task in list(self._dialling):
            task.cancel()
        for connection in list(self._open):
            connection.discard()

    async def _dial(
        self,
        endpoint: Endpoint,
        done: Callable[[BackendConnection], None],
        failed: Callable[[BackendFailure], None],
    ) -> None:
        try:
            connection = await self._connect(endpoint)
        except BackendFailure as failure:
            # The traceback leads by this frame to the exchange that is about to hold the failure: a cycle, which
            # would keep both alive until the next, rare, run of the cycle collector.
            failed(failure.with_traceback(None))
            return
        self._open.add(connection)
        done(connection)

    async def _connect(self, endpoint: Endpoint) -> BackendConnection:
        if not endpoint.record.tls:
            return await self._connect_with(endpoint, None)
        *others, last = self._contexts_for(endpoint)
        for context in others:
            try:
                return await self._connect_by(endpoint, context)
            except BackendFailure as failure:
                if not is_issuer_ambiguous(failure.__cause__):
                    raise
        return await self._connect_by(endpoint, last)

    def _contexts_for(self, endpoint: Endpoint) -> tuple[ssl.SSLContext, ...]:
        """Return the contexts to try, the one that believed the endpoint last in front."""
        contexts = self._options.contexts
        believed = self._believed.get(endpoint)
        if believed is None:
            return contexts
        return (believed, *(context for context in contexts if context is not believed))

    async def _connect_by(self, endpoint: Endpoint, context: ssl.SSLContext) -> BackendConnection:
        connection = await self._connect_with(endpoint, context)
        if context is self._options.contexts[0]:
            self._believed.pop(endpoint, None)
        elif not endpoint.gone:
            self._believed[endpoint] = context
        return connection

    async def _connect_with(self, endpoint: Endpoint, context: ssl.SSLContext | None) -> BackendConnection:
        record = endpoint.record
        connection = BackendConnection(self, endpoint)
        shaken: asyncio.Future[None] | None = None
        protocol: asyncio.BufferedProtocol = connection
        if context is not None:
            shaken = asyncio.get_running_loop().create_future()
            protocol = self._tls(context, connection, record.san or record.host, shaken)
        watch = _Watch(self.now)
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
            await self._shake(transport, shaken)
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
        self,
        context: ssl.SSLContext,
        connection: BackendConnection,
        name: str,
        shaken: "asyncio.Future[None]",
    ) -> TlsStream:
        def accept(_: TlsStream) -> asyncio.BufferedProtocol:
            if not shaken.done():
                shaken.set_result(None)
            return connection

        def failed(_: TlsStream, error: BaseException) -> None:
            if not shaken.done():
                shaken.set_exception(error)

        try:
            return TlsStream(context, accept, failed, server_hostname=name)
        except (ValueError, TypeError, ssl.SSLError) as error:
            # What was announced as the name cannot be one, so no certificate can carry it.
            raise BackendFailure(NAME_MISMATCH, f"x509: invalid server name {name!r}: {error}") from error

    async def _shake(self, transport: asyncio.BaseTransport, shaken: "asyncio.Future[None]") -> None:
        try:
            async with asyncio.timeout(self._options.handshake_timeout_s or None):
                await shaken
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


def _is_quiet(connection: BackendConnection) -> bool:
    """Whether an idle socket has neither an end of stream nor unasked bytes waiting."""
    descriptor = connection.fileno()
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return not poll.poll(0)
