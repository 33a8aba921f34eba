"""`router register -c FILE`: many routes, each announced while it is healthy, until told to stop.

Owns which routes are kept: those of the main file until it is read anew, those of dynamic files while they stand
there. One law: what stays as it was is not touched. On stopping all are withdrawn, the dynamic ones too.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from router.registrar.announcer import Announcer
from router.registrar.checks import Outcome
from router.registrar.keeper import Keeper, KeeperObserver
from router.registrar.observer import Observer
from router.registrar.route_files import POLL_INTERVAL_S, Look, RouteFiles
from router.registrar.service_config import ConfiguredRoute, Defaults, ServiceConfig
from router.registrar.service_status import Figures, State, listen
from router.wire.announcement import RouterStart

Say = Callable[[str], None]

_FIXED = {
    "nats": "message_bus_servers",
    "tls": "nats_mtls_config",
    "status_host": "status.address",
    "status_port": "status.port",
}
"""What a reload cannot change, and the key it is configured by."""


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
        self,
        file: Path,
        config: ServiceConfig,
        defaults: Defaults,
        *,
        say: Say,
        connect_timeout_s: float | None,
    ) -> None:
        self._file = file
        self._started = self._config = config
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
        self._keepers = [self._keeper(route) for route in config.routes]
        self._look_now = asyncio.Event()
        self._leaving = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Service":
        async with contextlib.AsyncExitStack() as entered:
            config = self._config
            if config.status_port:
                state = State(lambda: self._announcer.connected, self._count_up, lambda: len(self._keepers))
                runner = await listen(config.status_host, config.status_port, self._figures, state)
                entered.push_async_callback(runner.cleanup)
            await entered.enter_async_context(self._announcer)
            entered.push_async_callback(self._stop_all)
            for keeper in self._keepers:
                keeper.start()
            polling = asyncio.get_running_loop().create_task(self._poll())
            entered.push_async_callback(_end, polling)
            self._leaving = entered.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leaving.aclose()

    def reload(self, config: ServiceConfig, defaults: Defaults) -> None:
        """Go on with another configuration; what only a start can change is told and stays."""
        for key, called in _FIXED.items():
            if getattr(config, key) != getattr(self._started, key):
                self._say(f"{called}: changed, but that needs a restart")
        self._config = config
        self._files = self._files.successor(config.dynamic_globs, defaults)
        self._look_now.set()

    async def apply(self, look: Look) -> None:
        """Keep the routes of the main file and of what was found, and no others; what is as it was goes on."""
        for problem in look.problems:
            self._say(f"skipped: {problem}")
        for note in look.notes:
            self._say(f"note: {note}")
        wanted = [(route, self._file) for route in self._config.routes]
        wanted += [(route, file) for file, routes in look.routes.items() for route in routes]
        left: dict[str, list[Keeper]] = {}
        for keeper in self._keepers:
            left.setdefault(keeper.configured.name, []).append(keeper)
        stay: list[Keeper] = []
        new: list[tuple[Keeper, Path]] = []
        for route, file in wanted:
            of_name = left.get(route.name, [])
            known = next((keeper for keeper in of_name if keeper.configured == route), None)
            if known is None:
                new.append((self._keeper(route), file))
            else:
                of_name.remove(known)
                stay.append(known)
        # First the old: its unregistration would take back what the new one says of the same address.
        await self._make_way(left, new)
        self._keepers = stay + [keeper for keeper, _ in new]
        for keeper, _ in new:
            keeper.start()

    async def _make_way(self, old: dict[str, list[Keeper]], new: list[tuple[Keeper, Path]]) -> None:
        """Hand routes over to what is new under their names, and withdraw the others."""
        for heir, file in new:
            name = heir.configured.name
            of_name = old.get(name)
            self._say(f"{name}: {'changed' if of_name else 'found'} in {file}")
            if of_name:
                await of_name.pop().hand_over(heir)
        for keeper in [keeper for keepers in old.values() for keeper in keepers]:
            await keeper.stop()
            self._say(f"{keeper.configured.name}: no longer configured, unregistered")
            self._figures.forget(keeper.configured.name)

    async def _poll(self) -> None:
        while True:
            self._look_now.clear()
            try:
                files = self._files
                look = await asyncio.to_thread(files.look)
                # After a reload meanwhile it is not what is asked for any more.
                if files is self._files:
                    await self.apply(look)
            except Exception as error:
                # Whatever is wrong with the files, the routes there are stay announced.
                self._say(f"dynamic_config_globs: {type(error).__name__}: {error}; looking again")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL_S):
                    await self._look_now.wait()

    def _keeper(self, route: ConfiguredRoute) -> Keeper:
        return Keeper(route, self._announcer, self._voices, self._config.unregistration_limit)

    def _count_up(self) -> int:
        return sum(keeper.up for keeper in self._keepers)

    async def _stop_all(self) -> None:
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers))


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
