"""An app that announces itself while it serves: what the integrations with frameworks have in common.

Frameworks call their start-up hooks before they listen, and their clean-up hooks after they stopped listening. So
a route is announced only once its port accepts connections, and `drain` can have its turn before the framework
hears of a signal: withdraw first, serve on for those who had the address already, then stop.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from router.registrar.announced import AnnouncementError, AnyRoute, route_problems
from router.registrar.announcer import Announcer
from router.registrar.bus import Tls
from router.registrar.logging_observer import LoggingObserver
from router.registrar.observer import Observer
from router.wire.discovery import NameRegistration

PROBE_INTERVAL_S = 0.05
PROBE_TIMEOUT_S = 1.0
PATIENCE_S = 10.0
"""A port that refuses for so long is announced all the same: perhaps routers alone can reach its address."""


class Presence:
    """Announces routes from when their ports accept connections until it is left, whatever happens to NATS.

    Args:
        nats: as for `Announcer`; entering does not wait for it, and fails for no server's sake.
        routes: what to announce.
        tls: as for `Announcer`.
        observer: is told what happens; None logs it by Python's logging as ``router.registrar``.

    Raises:
        AnnouncementError: a route or a server URL is malformed.
    """

    def __init__(
        self,
        nats: str | Sequence[str],
        routes: Sequence[AnyRoute],
        *,
        tls: Tls | None = None,
        observer: Observer | None = None,
    ) -> None:
        if problems := [problem for route in routes for problem in route_problems(route)]:
            raise AnnouncementError(problems)
        self._routes = routes
        self._announcer = Announcer(
            nats, tls=tls, observer=observer or LoggingObserver(), name="app", connect_timeout_s=None
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Presence":
        await self._announcer.__aenter__()
        self._task = asyncio.get_running_loop().create_task(self._announce_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._end_announcing()
        finally:
            await self._announcer.close()

    @property
    def announced(self) -> list[AnyRoute]:
        """What is announced by now."""
        return self._announcer.announced

    async def drain(self, seconds: float) -> None:
        """Withdraw everything, and return after so many seconds, for requests that are on their way."""
        await self.__aexit__()
        await asyncio.sleep(seconds)

    async def _end_announcing(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _announce_all(self) -> None:
        await asyncio.gather(*(self._announce(route) for route in self._routes))

    async def _announce(self, route: AnyRoute) -> None:
        host, port = _address(route)
        if port:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await _until_accepting(host, port)
        await self._announcer.announce(route)


def _address(route: AnyRoute) -> tuple[str, int]:
    if isinstance(route, NameRegistration):
        return route.ip, route.port
    return route.host, route.tls_port or route.port


async def _until_accepting(host: str, port: int) -> None:
    while not await accepts(host, port):  # noqa: ASYNC110 (the event happens in the framework, which tells nobody)
        await asyncio.sleep(PROBE_INTERVAL_S)


async def accepts(host: str, port: int) -> bool:
    """Tell whether a TCP connection can be made within `PROBE_TIMEOUT_S`."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
