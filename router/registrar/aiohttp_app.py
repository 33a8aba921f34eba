"""Announcing an aiohttp app for as long as it serves.

app = web.Application()
route = Route(host=own_address(), port=9000, uris=["app.example.com"])
app.cleanup_ctx.append(announcing("nats://127.0.0.1:4222", [route]))
web.run_app(app, port=9000)
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from router.registrar.announced import AnyRoute
from router.registrar.bus import Tls
from router.registrar.observer import Observer
from router.registrar.presence import Presence

if TYPE_CHECKING:
    from aiohttp import web


def announcing(
    nats: str | Sequence[str],
    routes: Sequence[AnyRoute],
    *,
    drain_s: float | None = None,
    tls: Tls | None = None,
    observer: Observer | None = None,
) -> "Callable[[web.Application], AsyncIterator[None]]":
    """Return what announces the routes, to be appended to ``app.cleanup_ctx``.

    They are announced as soon as their ports accept connections, and the app starts and runs without NATS as well.

    Args:
        drain_s: for an app run by `web.run_app`: on SIGTERM the routes are withdrawn first and the app serves on
            for so many seconds, then it stops as ever. None leaves signals alone; then the routes are withdrawn
            when the app cleans up, after it stopped to listen: for a moment routers meet a closed port.
        nats, routes, tls, observer: as for `Presence`.

    Raises:
        AnnouncementError: a route or a server URL is malformed.
    """
    presence = Presence(nats, routes, tls=tls, observer=observer)

    async def announce_while_running(app: "web.Application") -> AsyncIterator[None]:
        async with presence:
            if drain_s is not None:
                _drain_on_sigterm(presence, drain_s)
            yield

    return announce_while_running


def _drain_on_sigterm(presence: Presence, drain_s: float) -> None:
    from aiohttp.web_runner import GracefulExit

    loop = asyncio.get_running_loop()
    draining: list[asyncio.Task[None]] = []

    def stop(task: asyncio.Task[None]) -> None:
        # What `web.run_app` itself does on this signal.
        raise GracefulExit

    def told() -> None:
        if not draining:
            draining.append(loop.create_task(presence.drain(drain_s)))
            draining[0].add_done_callback(stop)

    loop.add_signal_handler(signal.SIGTERM, told)
