"""`router register -c FILE`: many routes, each announced while it is healthy, until told to stop.

Owns which routes are kept: those of the main file for good, those of dynamic files while they stand there. On
stopping all of them are withdrawn, the dynamic ones too.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from router.registrar.announcer import Announcer, Observer
from router.registrar.checks import Outcome
from router.registrar.keeper import Keeper, KeeperObserver
from router.registrar.route_files import POLL_INTERVAL_S, Look, RouteFiles
from router.registrar.service_config import ConfiguredRoute, Defaults, ServiceConfig
from router.registrar.service_status import Figures, State, listen
from router.wire.announcement import RouterStart

Say = Callable[[str], None]


class Voices(Observer, KeeperObserver):
    """Says what happens in lines for people, and counts it."""

    def __init__(self, say: Say, figures: Figures) -> None:
        self._say = say
        self._figures = figures

    def connected(self, server: str) -> None:
        self._say(f"connected to NATS at {server}")

    def disconnected(self, reason: str) -> None:
        self._figures.disconnected(reason)
        self._say(f"NATS connection lost ({reason}); routers keep the routes for a while, reconnecting")

    def unreachable(self, told: str) -> None:
        self._say(f"no NATS server can be connected to, trying on: {told}")

    def router_heard(self, router: RouterStart, interval_s: float) -> None:
        self._figures.router_heard(router, interval_s)
        self._say(f"router {router.id} at {', '.join(router.hosts)} listens")

    def no_router_answered(self) -> None:
        self._say("no router has answered yet; one that starts later will hear of the routes at once")

    def checked(self, configured: ConfiguredRoute, outcome: Outcome) -> None:
        self._figures.checked(configured, outcome)

    def came_up(self, configured: ConfiguredRoute) -> None:
        self._figures.came_up(configured)
        self._say(f"{configured.name}: announced")

    def went_down(self, configured: ConfiguredRoute, reason: str) -> None:
        self._figures.went_down(configured, reason)
        self._say(f"{configured.name}: unregistered, {check_name(configured)}: {reason}")

    def failed(self, configured: ConfiguredRoute, error: Exception) -> None:
        self._say(f"{configured.name}: given up: {type(error).__name__}: {error}")


def check_name(configured: ConfiguredRoute) -> str:
    return f"check {configured.check.name}" if configured.check else "no check"


class Service:
    """All routes of a configuration; lives as long as its ``async with`` block.

    Raises on entering:
        BusUnavailable: no NATS server answers within ``connect_timeout_s``.
        OSError: the status listener's address cannot be had.
    """

    def __init__(
        self, config: ServiceConfig, defaults: Defaults, *, say: Say, connect_timeout_s: float | None
    ) -> None:
        self._config = config
        self._say = say
        self._figures = Figures()
        self._voices = Voices(say, self._figures)
        self._announcer = Announcer(
            config.nats,
            tls=config.tls,
            name="router register",
            observer=self._voices,
            connect_timeout_s=connect_timeout_s,
        )
        self._files = RouteFiles(config.dynamic_globs, defaults)
        self._static = [self._keeper(route) for route in config.routes]
        self._dynamic: dict[Path, list[Keeper]] = {}
        self._leaving = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Service":
        async with contextlib.AsyncExitStack() as entered:
            config = self._config
            if config.status_port:
                state = State(lambda: self._announcer.connected, self._count_up, lambda: len(self.keepers()))
                runner = await listen(config.status_host, config.status_port, self._figures, state)
                entered.push_async_callback(runner.cleanup)
            await entered.enter_async_context(self._announcer)
            entered.push_async_callback(self._stop_all)
            for keeper in self._static:
                keeper.start()
            if config.dynamic_globs:
                polling = asyncio.get_running_loop().create_task(self._poll())
                entered.push_async_callback(_end, polling)
            self._leaving = entered.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leaving.aclose()

    def keepers(self) -> list[Keeper]:
        """Return those of all routes there are now."""
        return self._static + [keeper for keepers in self._dynamic.values() for keeper in keepers]

    async def apply(self, look: Look) -> None:
        """Keep what dynamic files say now, and nothing else of them; what stays as it was is not touched."""
        for problem in look.problems:
            self._say(f"skipped: {problem}")
        for file in [*self._dynamic, *(file for file in look.routes if file not in self._dynamic)]:
            await self._apply_file(file, look.routes.get(file, []))

    async def _apply_file(self, file: Path, routes: list[ConfiguredRoute]) -> None:
        before = self._dynamic.get(file, [])
        stay = [keeper for keeper in before if keeper.configured in routes]
        staying = [keeper.configured for keeper in stay]
        new = [self._keeper(route) for route in routes if route not in staying]
        # First the old: its unregistration would take back what the new one says of the same address.
        await self._stop(keeper for keeper in before if keeper not in stay)
        for keeper in new:
            self._say(f"{keeper.configured.name}: found in {file}")
            keeper.start()
        self._dynamic[file] = stay + new
        if not self._dynamic[file]:
            del self._dynamic[file]

    async def _poll(self) -> None:
        while True:
            try:
                await self.apply(await asyncio.to_thread(self._files.look))
            except Exception as error:
                # Whatever is wrong with the files, the routes there are stay announced.
                self._say(f"dynamic_config_globs: {type(error).__name__}: {error}; looking again")
            await asyncio.sleep(POLL_INTERVAL_S)

    def _keeper(self, route: ConfiguredRoute) -> Keeper:
        return Keeper(route, self._announcer, self._voices, self._config.unregistration_limit)

    def _count_up(self) -> int:
        return sum(keeper.up for keeper in self.keepers())

    async def _stop(self, keepers: Iterable[Keeper]) -> None:
        for keeper in keepers:
            await keeper.stop()
            self._say(f"{keeper.configured.name}: no longer configured, unregistered")
            self._figures.forget(keeper.configured.name)

    async def _stop_all(self) -> None:
        await asyncio.gather(*(keeper.stop() for keeper in self.keepers()))


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
