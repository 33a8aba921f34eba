"""The process of `router docker`: assembly, signals, reload, and the log lines about containers.

One law: what cannot be used at the start ends the process with every reason told; afterwards nothing does but a
signal. A configuration that is reloaded and has a mistake changes nothing.
"""

import asyncio
import signal
from collections.abc import Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from router.docker.container import Container
from router.docker.engine import connected
from router.docker.labels import compose_index, read_labels
from router.docker.numbering import Numbering
from router.docker.offer import Note, app_of, offer_of
from router.docker.settings import Options, Settings, SettingsError, load_settings, tls_files
from router.docker.speaker import NOTHING, Speaker
from router.docker.switch import SwitchError, listening
from router.docker.watch import Watch
from router.log import Logger
from router.registrar import Announcer, Observer
from router.registrar.identity_agent import IdentityAgent
from router.registrar.observer import AgentObserver
from router.wire.announcement import RouterStart

CLOSE_TIMEOUT_S = 3.0


async def run(file: Path | None, options: Options, logger: Logger) -> None:
    """Announce an engine's containers until SIGINT or SIGTERM; SIGHUP reads the file again.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    settings = load_settings(file, options)
    place = settings.place()
    agency = Agency(settings, partial(connected, place), logger)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, partial(reload, agency, file, options, logger))
    try:
        async with listening(settings.control_socket, agency.act):
            logger.info("watching", engine=place.url, host=agency.ground.host, agent=settings.agent_id())
            await agency.serve(stop)
    except SwitchError as error:
        raise SettingsError([str(error)]) from None


def reload(agency: "Agency", file: Path | None, options: Options, logger: Logger) -> None:
    """Read the file again and use it; if it cannot be used, go on as before."""
    try:
        agency.use(load_settings(file, options))
    except SettingsError as error:
        logger.error("reload-refused", problems=error.problems)


class Background:
    """Coroutines that run beside the main one; the first that fails is told by ``failed``."""

    def __init__(self) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT_S)
        if not self.failed.done():
            self.failed.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)


class Agency:
    """Everything between one engine and the routers, as `run` assembles it."""

    def __init__(self, settings: Settings, connect: Any, logger: Logger) -> None:
        self.ground = settings.ground()
        self._settings = settings
        self._log = logger
        self._facts: dict[str, tuple[Container, Mapping[str, str]]] = {}
        self._notes: dict[str, tuple[Note, ...]] = {}
        self._numbering = Numbering()
        self._background = Background()
        self._speaker = Speaker(
            self._announcer,
            self._agent,
            spawn=self._background.spawn,
            logger=logger,
            is_enabled=settings.enabled,
        )
        self._watch = Watch(
            connect,
            changed=self._changed,
            gone=self._gone,
            blind=self._speaker.go_blind,
            # For so long routers would believe it without us, too.
            blind_after_s=settings.identity_ttl_s,
            spawn=self._background.spawn,
            logger=logger,
            sync_interval_s=settings.sync_interval_s,
        )

    async def serve(self, stop: asyncio.Event) -> None:
        """Work until told to stop, then withdraw all routes, or leave them if the configuration says so."""
        self._background.spawn(self._watch.run())
        self._background.spawn(self._speak_when_synced())
        stopped = asyncio.get_running_loop().create_task(stop.wait())
        try:
            either: list[asyncio.Future[Any]] = [stopped, self._background.failed]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._background.failed.done():
                self._background.failed.result()
        finally:
            stopped.cancel()
            routes, withdraw = self._speaker.routes, self._settings.withdraw_at_end
            await self._speaker.close(withdraw=withdraw)
            await self._background.close()
            self._log.info("stopped", **{"routes_withdrawn" if withdraw else "routes_left": routes})

    def act(self, word: str) -> dict[str, Any]:
        """Do what the command says, and tell how things are."""
        if word in ("enable", "disable"):
            self._speaker.enable(word == "enable")
        return {
            "enabled": self._speaker.is_enabled,
            "engine": self._watch.is_connected,
            "nats": self._speaker.is_connected,
            "containers": len(self._facts),
            "routes": self._speaker.routes,
            "identities": self._speaker.workloads,
        }

    def use(self, settings: Settings) -> None:
        """Go on with another configuration; what only a start can change is told and stays."""
        fixed = ("agent", "engine", "nats", "control_socket", "identity_ttl")
        late = [key for key in fixed if getattr(settings, key) != getattr(self._settings, key)]
        if late:
            self._log.warn("needs-restart", keys=late)
        self._settings = settings
        self.ground = settings.ground()
        self._watch.sync_interval_s = settings.sync_interval_s
        for facts in list(self._facts.values()):
            self._changed(*facts)
        self._speaker.enable(settings.enabled)
        self._log.info("reloaded", enabled=settings.enabled)

    async def _speak_when_synced(self) -> None:
        await self._watch.synced.wait()
        await self._speaker.connect()

    def _changed(self, container: Container, of_image: Mapping[str, str]) -> None:
        wishes = read_labels(container.labels, of_image)
        index = wishes.index
        if index is None:
            index = self._numbering.index(container.id, app_of(container, wishes), compose_index(container.labels))
        offer = offer_of(container, wishes, index, self.ground)
        self._facts[container.id] = container, of_image
        self._tell(container, offer.notes)
        self._speaker.say(container.id, container.name, offer)

    def _gone(self, container: str) -> None:
        self._speaker.say(container, "", NOTHING)
        self._numbering.forget(container)
        self._facts.pop(container, None)
        self._notes.pop(container, None)

    def _tell(self, container: Container, notes: tuple[Note, ...]) -> None:
        before = self._notes.get(container.id, ())
        for note in notes:
            if note not in before:
                tell = self._log.warn if note.is_warning else self._log.info
                tell(note.code, container=container.name, id=container.id[:12], reason=note.text)
        self._notes[container.id] = notes

    def _announcer(self) -> Announcer:
        nats = self._settings.nats
        return Announcer(
            nats.servers,
            tls=tls_files(nats),
            name="router docker",
            observer=_RoutesObserver(self._log),
            connect_timeout_s=None,
        )

    def _agent(self) -> IdentityAgent:
        nats = self._settings.nats
        return IdentityAgent(
            nats.servers,
            agent_id=self._settings.agent_id(),
            ttl_s=self._settings.identity_ttl_s,
            tls=tls_files(nats),
            observer=_IdentitiesObserver(self._log),
            connect_timeout_s=None,
        )


class _RoutesObserver(Observer):
    def __init__(self, logger: Logger) -> None:
        self._log = logger

    def connected(self, server: str) -> None:
        self._log.info("nats-connected", server=server)

    def disconnected(self, reason: str) -> None:
        self._log.warn("nats-lost", reason=reason)

    def unreachable(self, told: str) -> None:
        self._log.warn("nats-unreachable", error=told)

    def router_heard(self, router: RouterStart, interval_s: float) -> None:
        self._log.debug("router-heard", router=router.id, interval_s=interval_s)

    def no_router_answered(self) -> None:
        self._log.warn("no-router-answered", concerns="routes")


class _IdentitiesObserver(AgentObserver):
    def __init__(self, logger: Logger) -> None:
        self._log = logger

    def no_router_answered(self) -> None:
        self._log.info("no-router-answered", concerns="identities")
