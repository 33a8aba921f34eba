"""One configured route, kept announced for as long as its check finds it healthy.

A task for each route, so that a slow check delays no other. Owns when a check is due; what follows from its result
is `registrar.health`'s, and heartbeats are the announcer's.
"""

import asyncio
import contextlib

from router.registrar.announced import Announced, shared_part
from router.registrar.announcer import Announcer
from router.registrar.checks import Outcome, carry_out
from router.registrar.health import Health, Verdict
from router.registrar.service_config import ConfiguredRoute


class KeeperObserver:
    """Is told what happens to routes; override what is of interest. The methods must neither block nor raise."""

    def checked(self, configured: ConfiguredRoute, outcome: Outcome) -> None:
        """A check came to its end."""

    def came_up(self, configured: ConfiguredRoute) -> None:
        """The route is announced from now on."""

    def went_down(self, configured: ConfiguredRoute, reason: str) -> None:
        """The route is unregistered; told once for a row of failures."""

    def failed(self, configured: ConfiguredRoute, error: Exception) -> None:
        """The route is kept no longer, for a reason that is a mistake of this program; it was withdrawn."""


class Keeper:
    """Keeps one route, from `start` to `stop`."""

    def __init__(
        self,
        configured: ConfiguredRoute,
        announcer: Announcer,
        observer: KeeperObserver,
        unregistration_limit: int,
    ) -> None:
        self.configured = configured
        self._announcer = announcer
        self._observer = observer
        check = configured.check
        self._health = Health(
            check.success_threshold if check else 1,
            check.failure_threshold if check else 1,
            unregistration_limit,
        )
        self._told_down = False
        self._announced: Announced | None = None
        self._stopping = asyncio.Event()
        self._checking: asyncio.Task[Outcome] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether it is announced."""
        return self._announced is not None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """End checking and withdraw the route; returns as `Announcer.withdraw` does."""
        await self._end()
        await self._withdraw()

    async def hand_over(self, heir: "Keeper") -> None:
        """End checking and leave the route to a keeper that was not started yet and knows better what it is like.

        What the two have in common stays announced as it is until the heir has made up its mind; the rest is
        withdrawn.
        """
        await self._end()
        announced = self._announced
        if announced is None:
            return
        shared = shared_part(announced.route, heir.configured.route)
        if shared is None:
            await self._withdraw()
            return
        if shared != announced.route:
            announced = await self._announcer.update(announced, shared)
        heir._announced, self._announced = announced, None

    async def _end(self) -> None:
        self._stopping.set()
        # The check alone is cancelled: what is being announced must be known before it can be withdrawn.
        if self._checking is not None:
            self._checking.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _keep(self) -> None:
        try:
            await self._check_for_ever()
        except Exception as error:
            self._observer.failed(self.configured, error)
            await self._withdraw()

    async def _check_for_ever(self) -> None:
        check = self.configured.check
        if check is None:
            await self._act(self._health.after(True), "")
            return
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._stopping.is_set():
            self._checking = loop.create_task(carry_out(check))
            await asyncio.wait([self._checking])
            if self._checking.cancelled():
                return
            outcome = self._checking.result()
            self._observer.checked(self.configured, outcome)
            await self._act(self._health.after(outcome.healthy), outcome.reason)
            # From start to start, and not at once for what was missed while NATS was slow to answer.
            due = max(due + self.configured.interval_s, loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._stopping.wait()

    async def _act(self, verdict: Verdict, reason: str) -> None:
        if verdict is Verdict.ANNOUNCE:
            self._told_down = False
            await self._announce()
            self._observer.came_up(self.configured)
        elif verdict is Verdict.UNREGISTER:
            await self._unregister(reason)

    async def _announce(self) -> None:
        route, interval_s = self.configured.route, self.configured.interval_s
        if self._announced is None:
            self._announced = await self._announcer.announce(route, interval_s=interval_s)
        else:
            self._announced = await self._announcer.update(self._announced, route, interval_s=interval_s)

    async def _unregister(self, reason: str) -> None:
        if self._announced is not None:
            await self._withdraw()
        else:
            await self._announcer.deny(self.configured.route)
        if not self._told_down:
            self._told_down = True
            self._observer.went_down(self.configured, reason)

    async def _withdraw(self) -> None:
        announced, self._announced = self._announced, None
        if announced is not None:
            await self._announcer.withdraw(announced)
