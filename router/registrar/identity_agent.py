"""Telling routers which workload each container address belongs to: a library for agents that watch containers.

Owns the promise that routers hear of every workload often enough, and that a workload which is gone is taken
back; does not own the connection (`registrar.bus`) nor where workloads come from. One law: messages leave in the
order of their sequence, and every connection begins with the whole set, so that what got lost mends itself.

    async with IdentityAgent(["nats://agent:secret@127.0.0.1:4222"], agent_id="cell-7") as agent:
        await agent.snapshot(running_workloads())
        async for event in container_events():
            ...
            await agent.put(workload)      # before the container can send anything
            await agent.drop(address)      # before its address can be given to another

Leaving does not take anything back: containers live on while their agent is replaced. If it is not, they are
forgotten when the ``ttl`` is over.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import msgspec

from router.registrar.bus import Bus, Tls, server_problems
from router.registrar.observer import GREET_PATIENCE_S, AgentObserver
from router.wire.identities import (
    DROP,
    GREET,
    MAX_SEQUENCE,
    PUT,
    SNAPSHOT,
    START,
    AddressesGone,
    IdentityError,
    Workload,
    WorkloadsSaid,
    decode_said,
    decode_start,
    encode,
    normal_address,
)

BATCH = 500
"""Workloads in one message, usually some 150 kB."""

BATCH_BYTES = 500_000
"""A NATS server takes 1 MiB unless it is configured otherwise, and ends the connection for more."""

REPEATS_PER_TTL = 3
SHORTEST_INTERVAL_S = 0.5

SPREAD_S = 0.5
"""Agents answer a router's `START` within this time, at random: all of them hear it at one moment."""

CLOSE_TIMEOUT_S = 2.0


class IdentityAgent:
    """Speaks for the containers of one machine; lives as long as its ``async with`` block.

    On entering it connects, and raises `BusUnavailable` if no server answers in time; from then on it reconnects
    for ever. What it was told meanwhile is said as soon as there is a connection.

    Args:
        servers: NATS URLs, ``nats://[user:pass@]host[:port]``, or ``tls://``; used in turn.
        agent_id: whose word this is; of all agents that run at one time, one alone may have it.
        ttl_s: seconds for which routers believe what is not repeated, unless they believe it for less.
        tls: context for servers that demand TLS, or what makes one before each connection, such as `TlsFiles`.
        observer: is told what happens.
        connect_timeout_s: how long entering may try; None enters at once and connects as soon as it can.
        rng: spreads answers to routers that start.
        wall_clock_us: where sequences start, so that they go on growing when the agent is started again: no agent
            sends more than a message a microsecond.

    Raises:
        ValueError: a server URL or the agent's id is malformed.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        agent_id: str,
        ttl_s: float = 120.0,
        tls: Tls | None = None,
        observer: AgentObserver | None = None,
        connect_timeout_s: float | None = 10.0,
        rng: random.Random | None = None,
        wall_clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        problems = [problem for server in servers for problem in server_problems(server)]
        problems += [] if servers else ["no NATS server given"]
        if problems:
            raise ValueError("; ".join(problems))
        self._agent = agent_id
        self._ttl_s = ttl_s
        self._observer = observer or AgentObserver()
        self._connect_timeout_s = connect_timeout_s
        self._rng = rng or random.Random()
        self._interval_s = max(ttl_s / REPEATS_PER_TTL, SHORTEST_INTERVAL_S)
        self._workloads: dict[str, Workload] = {}
        self._sequence = min(wall_clock_us(), MAX_SEQUENCE // 2)
        self._in_order = asyncio.Lock()
        self._wake = asyncio.Event()
        self._due = 0.0
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        # Routers refuse what is malformed; better that this shows at once.
        decode_said(encode(self._said([])))
        self._answers = f"_INBOX.identities.{random.SystemRandom().getrandbits(96):024x}"
        self._bus = Bus(
            servers,
            name=f"identity agent {agent_id}",
            tls=tls,
            subjects=[START, self._answers],
            on_message=self._message,
            on_up=self._up,
            on_down=self._down,
        )

    async def __aenter__(self) -> "IdentityAgent":
        await self._bus.connect(self._connect_timeout_s)
        self._task = asyncio.get_running_loop().create_task(self._repeat_for_ever())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        return self._bus.up

    @property
    def interval_s(self) -> float:
        """Seconds after which everything is said again."""
        return self._interval_s

    @property
    def workloads(self) -> list[Workload]:
        """All that is being said now."""
        return list(self._workloads.values())

    async def put(self, *workloads: Workload) -> bool:
        """Say whose addresses these are; replaces what was said of the same addresses.

        Returns true once the NATS server has it, false if there is no connection: then it is said when there is.

        Raises:
            IdentityError: a workload is malformed; nothing was said.
        """
        accepted = self._accepted(workloads)
        self._workloads.update(accepted)
        for batch in _batches(accepted.values()):
            await self._publish(PUT, partial(self._said, batch))
        return await self._taken()

    async def drop(self, *addresses: str) -> bool:
        """Say that nobody has these addresses now. Returns and raises as `put` does."""
        normal = [normal_address(address) for address in addresses]
        for address in normal:
            self._workloads.pop(address, None)
        for start in range(0, len(normal), BATCH):
            await self._publish(DROP, partial(self._gone, normal[start : start + BATCH]))
        return await self._taken()

    async def snapshot(self, workloads: Iterable[Workload]) -> bool:
        """Replace all that was said so far. Returns and raises as `put` does."""
        self._workloads = self._accepted(workloads)
        return await self._say_everything()

    async def close(self) -> None:
        """End the connection. Routers believe what was said until its ``ttl`` is over, or another agent speaks."""
        self._closing = True
        self._wake.set()
        if self._patience is not None:
            self._patience.cancel()
        if self._task is not None:
            # Not by cancelling at first: NATS' client swallows a cancellation that meets it while it flushes.
            await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT_S)
            self._task.cancel()
        await self._bus.close()

    def _accepted(self, workloads: Iterable[Workload]) -> dict[str, Workload]:
        given = list(workloads)
        accepted: dict[str, Workload] = {}
        for start in range(0, len(given), BATCH):
            # Through the bytes and back: constructing a `Workload` checks no types, and routers would refuse it.
            for workload in decode_said(encode(self._said(given[start : start + BATCH]))).workloads:
                if workload.ip in accepted:
                    raise IdentityError(f"{workload.ip} is given twice")
                accepted[workload.ip] = workload
        return accepted

    def _said(self, workloads: list[Workload], first: int | None = None) -> WorkloadsSaid:
        return WorkloadsSaid(
            agent=self._agent, sequence=self._sequence, workloads=workloads, ttl=self._ttl_s, first=first
        )

    def _gone(self, addresses: list[str]) -> AddressesGone:
        return AddressesGone(agent=self._agent, sequence=self._sequence, addresses=addresses)

    async def _say_everything(self) -> bool:
        self._due = asyncio.get_running_loop().time() + self._interval_s
        first = self._sequence + 1
        *batches, last = list(_batches(self._workloads.values())) or [[]]
        for batch in batches:
            await self._publish(PUT, partial(self._still_said, batch))
        await self._publish(SNAPSHOT, partial(self._still_said, last, first))
        return await self._taken()

    def _still_said(self, workloads: list[Workload], first: int | None = None) -> WorkloadsSaid:
        """Say what there is now of the workloads there were when the snapshot began."""
        return self._said([self._workloads[each.ip] for each in workloads if each.ip in self._workloads], first)

    async def _publish(self, subject: str, build: Callable[[], WorkloadsSaid | AddressesGone]) -> None:
        async with self._in_order:
            self._sequence += 1
            await self._bus.publish(subject, encode(build()))

    async def _taken(self) -> bool:
        """Wait until the NATS server has all that was published; false if the connection broke instead."""
        return await self._bus.flush()

    async def _repeat_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            self._wake.clear()
            if self._bus.up and loop.time() >= self._due:
                await self._say_everything()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._due if self._bus.up else None):
                    await self._wake.wait()

    async def _up(self, server: str) -> None:
        self._observer.connected(server)
        await self._say_everything()
        if self._patience is not None:
            self._patience.cancel()
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(GREET_PATIENCE_S, self._observer.no_router_answered)
        await self._bus.publish(GREET, b"", reply=self._answers)
        self._wake.set()

    def _down(self, reason: str) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._observer.disconnected(reason)

    def _message(self, subject: str, payload: bytes) -> None:
        try:
            start = decode_start(payload)
        except IdentityError:
            # Anybody who may publish there may publish anything; what is not a router's word concerns nobody.
            return
        if self._patience is not None:
            self._patience.cancel()
        self._interval_s = max(min(self._ttl_s / REPEATS_PER_TTL, start.interval), SHORTEST_INTERVAL_S)
        latest = asyncio.get_running_loop().time() + self._interval_s
        if subject == START:
            latest = asyncio.get_running_loop().time() + self._rng.uniform(0, SPREAD_S)
        self._due = min(self._due, latest)
        self._wake.set()
        self._observer.router_heard(start)


def _batches(workloads: Iterable[Workload]) -> Iterator[list[Workload]]:
    batch: list[Workload] = []
    size = 0
    for workload in list(workloads):
        added = len(msgspec.json.encode(workload))
        if len(batch) == BATCH or (batch and size + added > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(workload)
        size += added
    if batch:
        yield batch
