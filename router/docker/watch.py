"""Following an engine: which containers run, and everything that happens to them, without gaps.

Owns how the picture of the engine is kept true; does not own what is announced of it. One law: an event is only
a reason to look. What counts is what the engine says when asked, except for the end of a container, which is
believed at once.

How nothing is missed: the engine's clock is read, then all its containers, and then events are asked for since
that time, so that what happened in between is told again. Every connection begins like that, and a full look is
repeated every ``sync_interval_s`` in case the engine itself lost an event. While the engine is away routes stay as
they were: containers survive their engine, and routers find out themselves what cannot be connected to. After a
while, though, nobody knows any more whose an address is, and that is told.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from router.docker.container import Container, ContainerError, read_container
from router.docker.engine import Engine, EngineError, Event
from router.log import Logger

AT_ONCE = 8
"""Inspections under way when all containers are looked at."""

SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
"""Between two attempts to reach an engine that is away."""

SECOND_LOOK_S = 0.5
"""Podman tells of a health check before it has noted the result."""

RETRY_S = 1.0
"""After an inspection that failed."""

ENDS = frozenset(("die", "died"))
REASONS_TO_LOOK = frozenset(
    ("start", "restart", "pause", "unpause", "stop", "kill", "destroy", "remove", "rename", "update", "cleanup",
     "connect", "disconnect", "health_status")
)  # fmt: skip

Changed = Callable[[Container, Mapping[str, str]], None]
"""Is told of a container that runs or is paused, with the labels of its image."""


class Watch:
    """One engine's containers.

    Args:
        connect: makes a connection; called for each anew.
        changed: called whenever a container was looked at and is there.
        gone: called with the id of a container that ended, once.
        blind: called with true when the engine has been away for ``blind_after_s``, with false when it is back.
        spawn: runs a coroutine in the background; its failure must end the process.
        sync_interval_s: seconds between two full looks.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Engine]],
        *,
        changed: Changed,
        gone: Callable[[str], None],
        blind: Callable[[bool], None],
        blind_after_s: float,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        logger: Logger,
        sync_interval_s: float,
    ) -> None:
        self.sync_interval_s = sync_interval_s
        self.synced = asyncio.Event()
        """Set once all containers have been looked at for the first time."""
        self.is_connected = False
        self._connect = connect
        self._changed = changed
        self._gone = gone
        self._blind = blind
        self._blind_after_s = blind_after_s
        self._going_blind: asyncio.TimerHandle | None = None
        self._spawn = spawn
        self._log = logger
        self._known: dict[str, int] = {}
        """Running containers and when each was started, in nanoseconds since the epoch."""
        self._looks: dict[str, int] = {}
        """The latest look at each container that is under way; what an earlier one finds is old."""
        self._look = 0

    async def run(self) -> None:
        """Follow the engine for ever, through as many connections as it takes."""
        wait_s = SHORTEST_WAIT_S
        told = ""
        while True:
            self.is_connected = False
            try:
                async with self._connect() as engine:
                    await self._follow(engine)
                error = "the stream of events ended"
            except EngineError as failure:
                error = str(failure)
            if self.is_connected:
                wait_s, told = SHORTEST_WAIT_S, ""
            if told != (told := error):
                self._log.warn("engine-lost" if self.is_connected else "engine-unreachable", error=error)
            self.is_connected = False
            if self._going_blind is None:
                loop = asyncio.get_running_loop()
                self._going_blind = loop.call_later(self._blind_after_s, self._blind, True)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def _follow(self, engine: Engine) -> None:
        version = await engine.version()
        await self._sync(engine)
        self.is_connected = True
        if self._going_blind is not None:
            self._going_blind.cancel()
            self._going_blind = None
        self._blind(False)
        self._log.info("engine-connected", engine=version.name, containers=len(self._known))
        self.synced.set()
        repeating = asyncio.get_running_loop().create_task(self._sync_for_ever(engine))
        try:
            # One second earlier: the engine's clock was read in whole ones, and what is told twice does no harm.
            async for event in engine.events(version.time_s - 1):
                self._heed(engine, event)
        finally:
            repeating.cancel()
            await asyncio.wait([repeating])

    async def _sync_for_ever(self, engine: Engine) -> None:
        while True:
            await asyncio.sleep(self.sync_interval_s)
            try:
                await self._sync(engine)
            except EngineError as error:
                self._log.warn("engine-does-not-answer", error=str(error))
                await engine.close()
                return

    async def _sync(self, engine: Engine) -> None:
        """Look at all containers; those that are not there any more are gone."""
        before = set(self._known)
        turns = {each: self._begin(each) for each in await engine.alive()}
        for each in before - turns.keys():
            # Unless it was looked at meanwhile.
            if each not in self._looks:
                self._end(each)
        gate = asyncio.Semaphore(AT_ONCE)

        async def inspected(container: str) -> tuple[Container, Mapping[str, str]] | None:
            async with gate:
                return await self._inspected(engine, container)

        found = await asyncio.gather(*(inspected(each) for each in turns))
        in_order = sorted(
            zip(turns.items(), found, strict=True), key=lambda each: each[1][0].created_ns if each[1] else 0
        )
        for (container, turn), facts in in_order:
            self._judge(container, turn, facts)

    def _heed(self, engine: Engine, event: Event) -> None:
        action = event.action.partition(":")[0]
        if action in ENDS:
            # One that was told again may be of the container's life before this one.
            if event.time_ns == 0 or event.time_ns >= self._known.get(event.container, 0):
                self._end(event.container)
        elif action in REASONS_TO_LOOK:
            self._spawn(self._look_at(engine, event.container))
            if action == "health_status":
                self._spawn(self._look_at(engine, event.container, SECOND_LOOK_S))

    async def _look_at(self, engine: Engine, container: str, after_s: float = 0.0) -> None:
        await asyncio.sleep(after_s)
        turn = self._begin(container)
        try:
            facts = await self._inspected(engine, container)
        except EngineError as error:
            self._log.warn("container-not-inspected", id=container[:12], error=str(error))
            if self._looks.get(container) == turn:
                del self._looks[container]
                # Without a connection the next one begins with a look at everything.
                if self.is_connected:
                    self._spawn(self._look_at(engine, container, RETRY_S))
        else:
            self._judge(container, turn, facts)

    async def _inspected(self, engine: Engine, container: str) -> tuple[Container, Mapping[str, str]] | None:
        inspection = await engine.inspect(container)
        if inspection is None:
            return None
        try:
            found = read_container(inspection)
        except ContainerError as error:
            self._log.error("container-not-understood", id=container[:12], error=str(error))
            return None
        return (found, await engine.image_labels(found.image)) if found.running else None

    def _begin(self, container: str) -> int:
        self._look += 1
        self._looks[container] = self._look
        return self._look

    def _judge(self, container: str, turn: int, facts: tuple[Container, Mapping[str, str]] | None) -> None:
        if self._looks.get(container) != turn:
            return
        if facts is None:
            self._end(container)
            return
        del self._looks[container]
        self._known[container] = facts[0].started_ns
        self._changed(*facts)

    def _end(self, container: str) -> None:
        self._looks.pop(container, None)
        if self._known.pop(container, None) is not None:
            self._gone(container)
