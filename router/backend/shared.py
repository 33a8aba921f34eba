"""The HTTP/2 connections of one worker: who shares which, and how many are dialled at once.

Owns which there are and when one goes; does not dial. The connections of an endpoint hang on it, as idle HTTP/1
connections do. One law: while one exchange dials an endpoint, the others wait for what comes of it, instead of
dialling as many connections as there are exchanges.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from router.backend.connection import BackendConnection
from router.backend.failure import (
    EOF,
    HANDSHAKE_EOF,
    HANDSHAKE_RESET,
    HANDSHAKE_TIMEOUT,
    NOT_HTTP2,
    PROTOCOL,
    REFUSED,
    RESET,
    BackendFailure,
)
from router.backend.http2 import SharedConnection
from router.backend.http2_stream import BackendStream
from router.routing.pool import Endpoint
from router.wire.header_lines import BadMessage

_NEVER = 2**31
_BEFORE_REQUESTS = {PROTOCOL: NOT_HTTP2, EOF: HANDSHAKE_EOF, RESET: HANDSHAKE_RESET}
"""What failures are as long as no request can have been read."""


@dataclass(frozen=True, slots=True)
class SharedOptions:
    """What the configuration says about HTTP/2 connections.

    Attributes:
        tls: HTTP/2 is offered to endpoints with TLS.
        cleartext: HTTP/2 is spoken, without asking, to endpoints without TLS, too.
        keep_alive: connections are used for more than one exchange.
        max_idle: connections without streams that an endpoint may have.
        max_head_bytes: of a response.
        max_headers: fields of a response; 0 is no limit.
        idle_s: how long they may have nothing to do; also, how long one that is closed may take for it.
        settle_s: how long a backend may take to say what it accepts; 0 is no limit.
        max_age_s: how long a connection takes new exchanges; those it has may finish. 0 is no limit.
    """

    tls: bool
    cleartext: bool
    keep_alive: bool
    max_idle: int
    max_head_bytes: int
    max_headers: int
    idle_s: float
    settle_s: float
    max_age_s: float


Dialled = BackendConnection | SharedConnection


class SharedConnections:
    """Knows all HTTP/2 connections.

    Args:
        clock: monotonic seconds.
        connect: dials; with True as its second argument the backend is offered HTTP/2. Raises `BackendFailure`.
    """

    def __init__(
        self,
        options: SharedOptions,
        clock: Callable[[], float],
        connect: Callable[[Endpoint, bool], Awaitable[Dialled]],
    ) -> None:
        self.now = clock
        self._options = options
        self._connect = connect
        self._open: set[SharedConnection] = set()
        self._pending: dict[Endpoint, asyncio.Future[BackendFailure | None]] = {}
        self._http1: set[Endpoint] = set()
        """Endpoints that want HTTP/1.1, whatever was announced."""
        self._fell_back: set[Endpoint] = set()
        """Endpoints that chose HTTP/1.1 last, for which nobody waits until another has dialled."""
        self._closing = False

    def __len__(self) -> int:
        return len(self._open)

    def make(self, endpoint: Endpoint) -> SharedConnection:
        """Make the protocol of a connection that is being dialled."""
        options = self._options
        return SharedConnection(self, endpoint, options.max_head_bytes, _NEVER if options.keep_alive else 1)

    def speaks(self, endpoint: Endpoint) -> bool:
        """Whether HTTP/2 is to be offered to an endpoint."""
        record = endpoint.record
        options = self._options
        return (
            record.protocol == "http2"
            and (options.tls if record.tls else options.cleartext)
            and endpoint not in self._http1
        )

    def checkout(self, endpoint: Endpoint, safe_to_repeat: bool, tunnel: bool) -> BackendStream | None:
        """Return a place on a connection that has one, or None.

        Args:
            safe_to_repeat: as for `Connections.checkout`.
            tunnel: it is for a WebSocket, which not every backend takes.
        """
        for connection in endpoint.shared or ():
            if (
                connection.has_room()
                and (not tunnel or connection.takes_tunnels())
                and (safe_to_repeat or connection.is_busy() or connection.is_quiet())
            ):
                return BackendStream(connection)
        return None

    async def dial(self, endpoint: Endpoint, tunnel: bool) -> BackendStream | BackendConnection | None:
        """Return a place on a connection; an HTTP/1.1 connection if the backend chose that; None for a tunnel that
        needs one. Raises `BackendFailure`."""
        while True:
            stream = self.checkout(endpoint, True, tunnel)
            if stream is not None:
                return stream
            if tunnel and _lacks_tunnels(endpoint):
                return None
            pending = self._pending.get(endpoint)
            if pending is None:
                return await self._dial_first(endpoint, tunnel)
            # Not awaited itself: who is cancelled must not cancel what the others wait for.
            await asyncio.wait([pending])
            failure = pending.result()
            if failure is not None:
                raise BackendFailure(failure.kind, failure.text)

    async def _dial_first(self, endpoint: Endpoint, tunnel: bool) -> BackendStream | BackendConnection | None:
        """Dial on behalf of everybody."""
        pending: asyncio.Future[BackendFailure | None] = asyncio.get_running_loop().create_future()
        if self._options.keep_alive and endpoint not in self._fell_back:
            self._pending[endpoint] = pending
        failure: BackendFailure | None = None
        try:
            dialled = await self._connect(endpoint, True)
            if isinstance(dialled, SharedConnection):
                dialled = await self._settle(dialled, endpoint)
        except BackendFailure as error:
            failure = error
            raise
        finally:
            if self._pending.get(endpoint) is pending:
                del self._pending[endpoint]
            pending.set_result(failure)
        if not isinstance(dialled, SharedConnection):
            if not endpoint.gone:
                self._fell_back.add(endpoint)
            return dialled
        self._enter(endpoint, dialled)
        if tunnel and not dialled.takes_tunnels():
            return None
        if not dialled.has_room():
            raise BackendFailure(REFUSED, "http2: server allows no streams")
        return BackendStream(dialled)

    async def _settle(self, connection: SharedConnection, endpoint: Endpoint) -> Dialled:
        """Wait for the backend's settings, without which it is not known what it takes."""
        try:
            async with asyncio.timeout(self._options.settle_s or None):
                failure = await connection.settled
        except TimeoutError:
            connection.discard()
            raise BackendFailure(HANDSHAKE_TIMEOUT, "http2: no SETTINGS from server in time") from None
        except asyncio.CancelledError:
            connection.discard()
            raise
        if failure is None:
            return connection
        if connection.first_bytes.startswith(b"HTTP/1") and not endpoint.record.tls:
            # It was told that it gets HTTP/2, and does not know that.
            self.wants_http1(endpoint)
            return await self._connect(endpoint, False)
        raise BackendFailure(_BEFORE_REQUESTS.get(failure.kind, failure.kind), failure.text)

    def _enter(self, endpoint: Endpoint, connection: SharedConnection) -> None:
        self._fell_back.discard(endpoint)
        if endpoint.gone or self._closing:
            # `keeps` sees to it that it ends with its first stream.
            return
        if endpoint.shared is None:
            endpoint.shared = [connection]
        else:
            endpoint.shared.append(connection)

    # What connections say and ask.

    def made(self, connection: SharedConnection) -> None:
        """A connection is open."""
        self._open.add(connection)

    def check_size(self, size: int, count: int) -> None:
        """Refuse a response head over the configured limits. Raises `BackendFailure` or `BadMessage`."""
        options = self._options
        if size > options.max_head_bytes:
            raise BadMessage(502, f"server response headers exceeded {options.max_head_bytes} bytes; aborted")
        if options.max_headers and count > options.max_headers:
            raise BackendFailure(PROTOCOL, "Too many response headers")

    def keeps(self, connection: SharedConnection) -> bool:
        """Whether a connection whose last stream has ended stays open."""
        endpoint, options = connection.endpoint, self._options
        if not options.keep_alive or endpoint.gone or self._closing:
            return False
        idle = sum(1 for other in endpoint.shared or () if not other.is_busy())
        return idle <= options.max_idle

    def wants_http1(self, endpoint: Endpoint) -> None:
        """The backend does not want HTTP/2, at least not for what it was asked."""
        if not endpoint.gone:
            self._http1.add(endpoint)

    def lost(self, connection: SharedConnection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        shared = connection.endpoint.shared
        if shared and connection in shared:
            shared.remove(connection)

    # What the worker asks.

    def endpoint_gone(self, endpoint: Endpoint) -> None:
        """No pool names the endpoint any more: its connections go when their streams have ended."""
        self._http1.discard(endpoint)
        self._fell_back.discard(endpoint)
        shared, endpoint.shared = endpoint.shared, None
        for connection in shared or ():
            connection.leave()

    def sweep(self, now: float) -> None:
        """Close what has been idle too long or is too old; cut what cannot be closed, and what shows no sign of
        life."""
        oldest = now - self._options.max_age_s if self._options.max_age_s else 0.0
        for connection in list(self._open):
            if connection.is_overdue(now):
                connection.give_up()
            elif connection.idle_since and now - connection.idle_since > self._options.idle_s:
                if connection.is_closed():
                    connection.discard()
                else:
                    connection.close()
            elif connection.served and connection.made_at <= oldest:
                connection.leave()

    def leave(self) -> None:
        """Drain: what has no streams closes now, the rest when they have ended."""
        self._closing = True
        for connection in list(self._open):
            connection.leave()

    def abort_all(self) -> None:
        for connection in list(self._open):
            connection.discard()


def _lacks_tunnels(endpoint: Endpoint) -> bool:
    """Whether a backend that could be asked does not offer extended CONNECT."""
    shared: list[SharedConnection] | None = endpoint.shared
    return any(not connection.takes_tunnels() for connection in shared or () if connection.has_room())
