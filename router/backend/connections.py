"""All connections of one worker to endpoints: dialling, reuse, idle time.

Owns which connections exist and when an idle one goes; does not choose endpoints. The idle connections themselves
hang on their `Endpoint`, so that a look-up finds them without another table.
"""

import asyncio
from collections.abc import Callable

from router.backend.connection import BackendConnection
from router.backend.dial import BackendOptions, Dialler, is_quiet
from router.backend.failure import PROTOCOL, BackendFailure
from router.backend.http2 import SharedConnection
from router.backend.http2_stream import BackendStream
from router.backend.shared import Dialled, SharedConnections, SharedOptions
from router.routing.pool import Endpoint
from router.wire.header_lines import BadMessage

IDLE_S = 90.0
"""An idle connection is closed after this; the same fixed time as Gorouter's. A closing one is cut after it."""

Carrier = BackendConnection | BackendStream
"""What carries one exchange to an endpoint."""


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
        self._dialler: Dialler[Dialled] = Dialler(options, clock, self._make)
        self._shared = SharedConnections(_shared_options(options), clock, self._connect)
        self._closing = False

    def __len__(self) -> int:
        return len(self._open) + len(self._shared)

    def checkout(self, endpoint: Endpoint, safe_to_repeat: bool, upgrade: bytes = b"") -> Carrier | None:
        """Return an idle connection, most recently used first, or a place on a shared one, or None.

        Args:
            safe_to_repeat: the request may be sent again if the backend turns out to have closed the connection.
                If it may not, the socket is asked first, which narrows the race to the time on the wire.
            upgrade: what the request asks to be upgraded to, if it does.
        """
        idle = endpoint.idle
        while idle:
            connection: BackendConnection = idle.pop()
            if connection.is_usable() and (safe_to_repeat or is_quiet(connection.fileno())):
                connection.reused = True
                return connection
            connection.discard()
        if endpoint.shared:
            return self._shared.checkout(endpoint, safe_to_repeat, bool(upgrade))
        return None

    def dial(
        self,
        endpoint: Endpoint,
        done: Callable[[Carrier], None],
        failed: Callable[[BackendFailure], None],
        upgrade: bytes = b"",
    ) -> asyncio.Task[None]:
        """Connect to an endpoint; one of the callbacks is called, unless the returned task is cancelled."""
        task = asyncio.get_running_loop().create_task(self._dial(endpoint, done, failed, bool(upgrade)))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
        return task

    def keep(self, connection: BackendConnection) -> bool:
        """Take a connection back as idle; return False if it has to be closed instead."""
        endpoint = connection.endpoint
        options = self._options
        if not options.keep_alive or endpoint.gone or self._closing or connection.for_one:
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
        self._dialler.forget(endpoint)
        self._shared.endpoint_gone(endpoint)
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
        self._shared.sweep(now)

    def close_idle(self) -> None:
        """Drain: close idle connections now, and keep none from here on."""
        self._closing = True
        for connection in list(self._open):
            if connection.exchange is None:
                connection.close()
        self._shared.leave()

    def abort_all(self) -> None:
        """Cut everything."""
        for task in list(self._dialling):
            task.cancel()
        for connection in list(self._open):
            connection.discard()
        self._shared.abort_all()

    # Dialling.

    def _make(self, endpoint: Endpoint, http2: bool) -> Dialled:
        if http2:
            return self._shared.make(endpoint)
        return BackendConnection(self, endpoint)

    async def _connect(self, endpoint: Endpoint, http2: bool) -> Dialled:
        dialled = await self._dialler.connect(endpoint, http2)
        if not isinstance(dialled, SharedConnection):
            self._open.add(dialled)
        return dialled

    async def _dial(
        self,
        endpoint: Endpoint,
        done: Callable[[Carrier], None],
        failed: Callable[[BackendFailure], None],
        tunnel: bool,
    ) -> None:
        try:
            carrier = await self._carrier(endpoint, tunnel)
        except BackendFailure as failure:
            # The traceback leads by this frame to the exchange that is about to hold the failure: a cycle, which
            # would keep both alive until the next, rare, run of the cycle collector.
            failed(failure.with_traceback(None))
            return
        done(carrier)

    async def _carrier(self, endpoint: Endpoint, tunnel: bool) -> Carrier:
        shared = self._shared
        if shared.speaks(endpoint):
            carrier = await shared.dial(endpoint, tunnel)
            if carrier is not None:
                return carrier
        connection = await self._connect(endpoint, False)
        assert isinstance(connection, BackendConnection)
        # Requests that ask for no WebSocket are to get HTTP/2, which this one does not speak.
        connection.for_one = tunnel and shared.speaks(endpoint)
        return connection


def _shared_options(options: BackendOptions) -> SharedOptions:
    return SharedOptions(
        tls=bool(options.http2_contexts),
        cleartext=options.http2_cleartext,
        keep_alive=options.keep_alive,
        max_idle=options.max_idle,
        max_head_bytes=options.max_head_bytes,
        max_headers=options.max_headers,
        idle_s=IDLE_S,
        settle_s=options.handshake_timeout_s,
        max_age_s=options.http2_max_age_s,
    )
