"""Saying over NATS what is offered for each container, in the order in which it changes.

Owns the difference between what was said of a container and what is to be said; does not own what that is
(`docker.offer`). One law: a container's changes are said one after another, and the last one wins, however fast
they come and however long NATS takes.

An address can pass from one container to the next before the first one's end is told. Whoever was said of it last
owns it, and only its owner's end takes the identity back.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from router.docker.offer import Offer
from router.log import Logger
from router.registrar import Announced, AnnouncementError, Announcer, AnyRoute
from router.registrar.identity_agent import IdentityAgent
from router.wire.announcement import Announcement
from router.wire.identities import Workload

NOTHING = Offer()


class _Spoken:
    """One container: what is to be said of it, and what was."""

    __slots__ = ("announced", "busy", "name", "said", "wanted")

    def __init__(self, name: str) -> None:
        self.name = name
        self.wanted = NOTHING
        self.said = NOTHING
        self.announced: dict[str, Announced] = {}
        self.busy = False


class Speaker:
    """Keeps routers informed of many containers.

    Nothing is said before `connect`: what came until then is said as one whole, so that a watcher that was started
    again does not take back for a moment what its predecessor said.

    Args:
        make_announcer, make_agent: make the two voices, which need not wait for NATS when they are entered.
        spawn: runs a coroutine in the background; its failure must end the process.
        is_enabled: whether routes are announced at all; identities are in any case.
    """

    def __init__(
        self,
        make_announcer: Callable[[], Announcer],
        make_agent: Callable[[], IdentityAgent],
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        logger: Logger,
        is_enabled: bool = True,
    ) -> None:
        self._make_announcer = make_announcer
        self._make_agent = make_agent
        self._spawn = spawn
        self._log = logger
        self._enabled = is_enabled
        self._containers: dict[str, _Spoken] = {}
        self._blind = False
        self._owners: dict[str, str] = {}
        self._voices: tuple[Announcer, IdentityAgent] | None = None

    @property
    def is_enabled(self) -> bool:
        return self._enabled

    @property
    def routes(self) -> int:
        """Routes that are announced, or are about to be."""
        if self._voices is None:
            return 0
        targets = [self._target(each) for each in self._containers.values()]
        return sum((each.public is not None) + (each.internal is not None) for each in targets)

    @property
    def workloads(self) -> int:
        """Identities that are said now."""
        return len(self._owners)

    @property
    def containers(self) -> int:
        return len(self._containers)

    @property
    def is_connected(self) -> bool:
        return self._voices is not None and self._voices[0].connected and self._voices[1].connected

    async def connect(self) -> None:
        """Begin to connect to NATS, for as long as that takes, and say everything as soon as that is done."""
        agent, announcer = self._make_agent(), self._make_announcer()
        # Before it connects: it begins with this, and not by taking everything back.
        await agent.snapshot(self._all_workloads())
        for spoken in self._containers.values():
            spoken.said = Offer(workloads=spoken.wanted.workloads)
        await agent.__aenter__()
        await announcer.__aenter__()
        self._voices = announcer, agent
        for container, spoken in list(self._containers.items()):
            self._catch_up(container, spoken)

    async def close(self, *, withdraw: bool = True) -> None:
        """Withdraw all routes, or leave them to a successor. Identities stay until their time is over."""
        voices, self._voices = self._voices, None
        if voices is not None:
            announcer, agent = voices
            await announcer.close(withdraw=withdraw)
            await agent.close()

    def say(self, container: str, name: str, offer: Offer) -> None:
        """Say this of a container from now on; `NOTHING` of one that is gone."""
        if offer == NOTHING and container not in self._containers:
            return
        spoken = self._containers.setdefault(container, _Spoken(name))
        spoken.name = name or spoken.name
        spoken.wanted = offer
        self._catch_up(container, spoken)

    def enable(self, is_enabled: bool) -> None:
        """Announce all containers' routes, or withdraw them."""
        if is_enabled == self._enabled:
            return
        self._enabled = is_enabled
        self._log.info("routes-enabled" if is_enabled else "routes-disabled", containers=len(self._containers))
        for container, spoken in list(self._containers.items()):
            self._catch_up(container, spoken)

    def go_blind(self, is_blind: bool) -> None:
        """Vouch for no container's identity any more, or for all that are known again."""
        if is_blind == self._blind:
            return
        self._blind = is_blind
        if is_blind:
            self._log.warn("identities-dropped", reason="the engine has been away for too long")
        for container, spoken in list(self._containers.items()):
            self._catch_up(container, spoken)

    def _all_workloads(self) -> list[Workload]:
        by_address: dict[str, Workload] = {}
        self._owners.clear()
        for container, spoken in self._containers.items():
            for workload in spoken.wanted.workloads:
                by_address[workload.ip] = workload
                self._owners[workload.ip] = container
        return list(by_address.values())

    def _catch_up(self, container: str, spoken: _Spoken) -> None:
        if self._voices is not None and not spoken.busy:
            spoken.busy = True
            self._spawn(self._say_until_said(container, spoken))

    async def _say_until_said(self, container: str, spoken: _Spoken) -> None:
        try:
            while self._voices is not None and (target := self._target(spoken)) != spoken.said:
                announcer, agent = self._voices
                await asyncio.gather(
                    self._say_routes(announcer, container, spoken, target),
                    self._say_workloads(agent, container, spoken, target),
                )
                spoken.said = target
        finally:
            spoken.busy = False
        if spoken.said == spoken.wanted == NOTHING:
            self._containers.pop(container, None)

    def _target(self, spoken: _Spoken) -> Offer:
        """Return what is to be said now; only what is said counts, and notes are not."""
        wanted = spoken.wanted
        workloads = () if self._blind else wanted.workloads
        if not self._enabled:
            return Offer(workloads=workloads)
        return Offer(public=wanted.public, internal=wanted.internal, workloads=workloads)

    async def _say_routes(self, announcer: Announcer, container: str, spoken: _Spoken, target: Offer) -> None:
        for kind, route in (("public", target.public), ("internal", target.internal)):
            if self._voices is None:
                return
            if route == getattr(spoken.said, kind):
                continue
            try:
                await self._say_route(announcer, spoken, kind, route)
            except AnnouncementError as error:
                self._log.error(
                    "container-not-announced", container=spoken.name, id=container[:12], error=str(error)
                )
            else:
                self._tell(container, spoken.name, kind, route)

    async def _say_route(self, announcer: Announcer, spoken: _Spoken, kind: str, route: AnyRoute | None) -> None:
        before = spoken.announced.pop(kind, None)
        if route is None:
            if before is not None:
                await announcer.withdraw(before)
        elif before is None:
            spoken.announced[kind] = await announcer.announce(route)
        else:
            spoken.announced[kind] = await announcer.update(before, route)

    async def _say_workloads(self, agent: IdentityAgent, container: str, spoken: _Spoken, target: Offer) -> None:
        here = {each.ip for each in target.workloads}
        gone = [
            each.ip
            for each in spoken.said.workloads
            if each.ip not in here and self._owners.get(each.ip) == container
        ]
        if gone:
            for address in gone:
                del self._owners[address]
            await agent.drop(*gone)
        if target.workloads and target.workloads != spoken.said.workloads:
            self._owners.update(dict.fromkeys(here, container))
            await agent.put(*target.workloads)

    def _tell(self, container: str, name: str, kind: str, route: AnyRoute | None) -> None:
        facts = {"container": name, "id": container[:12], "kind": kind}
        if route is None:
            self._log.info("route-withdrawn", **facts)
        elif isinstance(route, Announcement):
            address = f"{route.host}:{route.tls_port or route.port}"
            self._log.info(
                "route-announced", **facts, uris=route.uris, address=address, index=route.private_instance_index
            )
        else:
            self._log.info("route-announced", **facts, names=route.names, address=route.ip, index=route.index)
