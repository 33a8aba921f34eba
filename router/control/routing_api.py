"""The routing API, a second source of routes: all of them now and then, changes as they happen (GOROUTER.md §3.6).

Owns asking and listening, and what the API was last heard to have; does not own the table. One law: what the API
sends cannot harm what comes over NATS, and while it is silent its routes stay until their time to live is over.

The whole list is fetched at the start, every half prune interval, and whenever events may have been missed. What
an event said while a fetch was under way counts for more than the fetch.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

import aiohttp
import msgspec

from router.config.schema import Config
from router.config.sections import RoutingApi
from router.control.client_errors import describe
from router.control.client_tls import ClientTlsError, client_context
from router.control.uaa import NoTokens, Tokens, UaaError, UaaTokens
from router.log import Logger
from router.log_limit import LogLimit
from router.routing.registrations import ModificationTag
from router.routing.registry import Registry
from router.wire.routing_api import (
    ApiRoute,
    EventParser,
    RouteKey,
    RoutingApiFormatError,
    ServerEvent,
    decode_route,
    decode_route_list,
)

ROUTES_PATH = "/routing/v1/routes"
EVENTS_PATH = "/routing/v1/events"

EVENTS_PAUSE_S = 1.0
"""Before the stream of events is asked for again."""

FETCH_EVERY_S = 15.0
"""If there is no prune interval to take the half of."""

FETCH_PAUSE_S = 5.0
"""Least time between fetches: a stream of events that keeps breaking must not cost a fetch each time."""

FETCH_TIMEOUT = aiohttp.ClientTimeout(total=60.0, sock_connect=5.0, sock_read=20.0)
EVENTS_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
KEEP_ALIVE_S = 15
"""A stream may be silent for long; this is how soon a lost peer begins to be noticed."""

ROUTES_PER_STEP = 200
"""How much of a list is dealt with before everything else has its turn: about two milliseconds."""

CLOSE_S = 1.0
LOGGED_CHARS = 512


class RoutingApiError(Exception):
    """The routing API does not answer as it should; at the start, the reason to give up. It has been logged."""


FAILURES = (aiohttp.ClientError, OSError, TimeoutError, RoutingApiError, RoutingApiFormatError, UaaError)
"""What may go wrong out there, at any time."""


def is_configured(api: RoutingApi) -> bool:
    """Tell whether routes are to be had from a routing API."""
    return bool(api.uri and api.port)


class RoutingApiSource:
    """Keeps one registry up to date beside NATS. Lives from `start` to `close`, as long as control.

    Args:
        config: ``routing_api``, ``oauth``, ``token_fetcher_*`` and ``prune_stale_droplets_interval``.
        registry: told of every route; nobody else may call it from another thread.
        logger: parent of this component's logger.
        on_changes: called after changes to the table.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: Config,
        registry: Registry,
        logger: Logger,
        *,
        on_changes: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._registry = registry
        self._logger = logger.child("route-fetcher")
        self._on_changes = on_changes
        self._clock = clock
        self._url = f"{config.routing_api.uri.rstrip('/')}:{config.routing_api.port}"
        self._tokens: Tokens = NoTokens()
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._known: dict[RouteKey, ApiRoute] = {}
        # Keys that events spoke of since the fetch under way began; None while there is no fetch.
        self._overtaken: set[RouteKey] | None = None
        self._fetch_wanted = asyncio.Event()
        self._events_errors = 0
        self._failures = LogLimit(burst=5, per_second=1 / 30)
        self._bad_routes = LogLimit()
        self.set_prune_interval(config.prune_stale_droplets_interval)

    def set_prune_interval(self, interval_s: float) -> None:
        """Fetch twice as often as this from the next fetch on; 0 leaves it to `FETCH_EVERY_S`."""
        self.fetch_every_s = interval_s / 2 or FETCH_EVERY_S

    def figures(self) -> Mapping[str, int]:
        """Return the counters of this source, by Gorouter's names."""
        return {"token_fetch_errors": self._tokens.errors, "subscribe_events_errors": self._events_errors}

    async def start(self) -> None:
        """Take over all routes there are, then follow their changes until `close`.

        Raises:
            RoutingApiError: no token, or no list of routes; logged under Gorouter's names. Nothing is left open.
        """
        try:
            self._tokens = self._make_tokens()
            await self._tokens.token()
        except UaaError as error:
            self._logger.error("unable-to-fetch-token", error=str(error))
            raise RoutingApiError(f"unable-to-fetch-token: {error}") from error
        try:
            self._session = self._make_session()
            await self._fetch()
        except (*FAILURES, ClientTlsError) as error:
            await self.close()
            self._logger.error("routing-api-connection-failed", error=describe(error), url=self._url)
            raise RoutingApiError(f"routing-api-connection-failed: {self._url}: {describe(error)}") from error
        except BaseException:
            await self.close()
            raise
        self._tasks = [asyncio.create_task(self._keep_fetching()), asyncio.create_task(self._keep_listening())]

    async def close(self) -> None:
        """Ask no more. The table stays as it is; again is harmless."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # Asking.

    def _make_tokens(self) -> Tokens:
        if self._config.routing_api.auth_disabled:
            self._logger.info("using-noop-token-fetcher")
            return NoTokens()
        return UaaTokens(self._config, self._logger, self._clock)

    def _make_session(self) -> aiohttp.ClientSession:
        api = self._config.routing_api
        tls = client_context(api.ca_certs, api.cert_chain, api.private_key) if _is_https(api) else True
        # Connections are not kept: requests are too far apart for that to be worth a race with the server's close.
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, force_close=True))

    @contextlib.asynccontextmanager
    async def _ask(self, path: str, limits: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer, to be read in the block; if the token is refused, that to a new one."""
        token = await self._tokens.token()
        async with self._get(path, token, limits) as response:
            if response.status != 401 or not token:
                yield _accepted(response)
                return
        token = await self._tokens.token(stale=token)
        async with self._get(path, token, limits) as response:
            yield _accepted(response)

    def _get(
        self, path: str, token: str, limits: aiohttp.ClientTimeout
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._session is None:
            raise RoutingApiError("closed")
        headers = {"Authorization": f"bearer {token}"} if token else {}
        # A token goes to whom it is meant for, and nowhere that an answer points to.
        return self._session.get(self._url + path, headers=headers, timeout=limits, allow_redirects=False)

    # The whole list.

    async def _keep_fetching(self) -> None:
        while True:
            await self._next_fetch_due()
            await self._guard(self._fetch(), "routing-api-fetch-failed")

    async def _next_fetch_due(self) -> None:
        """Return after the interval, or when a fetch is wanted, but not at once."""
        pause_s = min(FETCH_PAUSE_S, self.fetch_every_s)
        await asyncio.sleep(pause_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.fetch_every_s - pause_s):
                await self._fetch_wanted.wait()
        self._fetch_wanted.clear()

    async def _fetch(self) -> None:
        """Bring the table to what the API has now."""
        overtaken = self._overtaken = set()
        try:
            async with self._ask(ROUTES_PATH, FETCH_TIMEOUT) as response:
                document = await response.read()
            listed = await self._take_list(decode_route_list(document), overtaken)
            await self._drop_unlisted(listed, overtaken)
        finally:
            self._overtaken = None
            self._publish()

    async def _take_list(self, routes: list[msgspec.Raw], overtaken: set[RouteKey]) -> set[RouteKey]:
        listed: set[RouteKey] = set()
        for count, encoded in enumerate(routes, 1):
            route = self._decoded(encoded)
            if route is not None:
                listed.add(route.key)
                if route.key not in overtaken:
                    self._upsert(route)
            if count % ROUTES_PER_STEP == 0:
                self._publish()
                await asyncio.sleep(0)
        return listed

    async def _drop_unlisted(self, listed: set[RouteKey], overtaken: set[RouteKey]) -> None:
        for count, key in enumerate(list(self._known), 1):
            if key not in listed and key not in overtaken and key in self._known:
                self._delete(self._known[key])
            if count % ROUTES_PER_STEP == 0:
                self._publish()
                await asyncio.sleep(0)

    # Changes.

    async def _keep_listening(self) -> None:
        while True:
            if not await self._guard(self._listen(), "routing-api-events-failed"):
                self._events_errors += 1
            await asyncio.sleep(EVENTS_PAUSE_S)

    async def _listen(self) -> None:
        """Apply events until the stream ends."""
        async with self._ask(EVENTS_PATH, EVENTS_TIMEOUT) as response:
            _watch_peer(response)
            # What happened before this moment no event will tell.
            self._fetch_wanted.set()
            self._logger.debug("routing-api-events-subscribed")
            parser = EventParser()
            async for piece in response.content.iter_chunked(65536):
                try:
                    for event in parser.feed(piece):
                        self._apply(event)
                finally:
                    self._publish()
            self._logger.debug("routing-api-events-ended")

    def _apply(self, event: ServerEvent) -> None:
        if event.name not in ("Upsert", "Delete"):
            self._report_bad(f"event {event.name[:LOGGED_CHARS]}: neither Upsert nor Delete", event.data)
            return
        route = self._decoded(event.data)
        if route is None:
            return
        if self._overtaken is not None:
            self._overtaken.add(route.key)
        if event.name == "Upsert":
            self._upsert(route)
        else:
            self._delete(route)

    # The table.

    def _decoded(self, encoded: bytes | msgspec.Raw) -> ApiRoute | None:
        try:
            return decode_route(encoded)
        except RoutingApiFormatError as error:
            self._report_bad(str(error), bytes(encoded))
            return None

    def _upsert(self, route: ApiRoute) -> None:
        tag = _tag(route)
        known = self._known.get(route.key)
        if known is None or tag.may_remove(_tag(known)):
            self._known[route.key] = route
        self._registry.register(route.registration, self._clock(), tag=tag)

    def _delete(self, route: ApiRoute) -> None:
        tag = _tag(route)
        known = self._known.get(route.key)
        if known is not None and tag.may_remove(_tag(known)):
            del self._known[route.key]
        self._registry.unregister(route.registration, self._clock(), tag=tag)

    def _publish(self) -> None:
        if self._registry.has_changes:
            self._on_changes()

    # The log.

    async def _guard(self, work: Coroutine[None, None, None], failed: str) -> bool:
        """Do the work; if it fails, say so and return False. Whatever it was must not end this source."""
        try:
            await work
        except FAILURES as error:
            if self._failures.admit(self._clock()):
                suppressed = self._failures.take_suppressed()
                self._logger.error(failed, error=describe(error), url=self._url, suppressed=suppressed)
            return False
        except Exception as error:
            self._logger.error("route-fetcher-internal-error", error=repr(error))
            return False
        return True

    def _report_bad(self, error: str, payload: bytes) -> None:
        if self._bad_routes.admit(self._clock()):
            self._logger.error(
                "validation-error",
                error=error,
                payload=payload[: 4 * LOGGED_CHARS].decode("utf-8", "replace")[:LOGGED_CHARS],
                suppressed=self._bad_routes.take_suppressed(),
            )


def _is_https(api: RoutingApi) -> bool:
    return api.uri.lower().startswith("https:")


def _tag(route: ApiRoute) -> ModificationTag:
    return ModificationTag(route.guid, route.index)


def _accepted(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    if response.status != 200:
        raise RoutingApiError(f"{response.url}: status {response.status}")
    return response


def _watch_peer(response: aiohttp.ClientResponse) -> None:
    """Have the kernel notice when the other end of a silent stream is gone."""
    transport = response.connection.transport if response.connection is not None else None
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
