"""How soon a new route works on every worker, and what heartbeats that change nothing cost."""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from loadtest import procfs, rig
from loadtest.broker import REGISTER, Broker, registration
from loadtest.probe import Probe, one_per_worker
from loadtest.report import Figure
from loadtest.router_process import RouterProcess

ROUTES = 10_000
WORKERS = 2
SAMPLES = 500
HEARTBEATS_PER_S = 5_000
HEARTBEAT_SECONDS = 10
IDLE_SECONDS = 5
_POLL_S = 0.0005


class Figures:
    """A router with its routes, under measurement."""

    def __init__(self, broker: Broker, router: RouterProcess, backend_port: int) -> None:
        self._broker = broker
        self._router = router
        self._backend_port = backend_port
        self._heartbeats = [self._payload(f"app-{number}.example.com", number) for number in range(ROUTES)]

    def _payload(self, host: str, number: int) -> bytes:
        return registration("127.0.0.1", self._backend_port, host, number=number)

    async def load(self) -> Collection[Probe]:
        """Announce every route; return a connection to each worker once all of them are routed."""
        for payload in self._heartbeats:
            await self._broker.client.publish(REGISTER, payload)
        host = f"app-{ROUTES - 1}.example.com"
        (await self._router.wait_until_routed(host)).close()
        probes = (await one_per_worker(self._router.ports.http, self._router.workers, host)).values()
        await asyncio.gather(*(_until_routed(probe, host) for probe in probes))
        return probes

    async def latencies_s(self, probes: Collection[Probe]) -> list[float]:
        """Announce new routes one at a time; return each one's time until all connections were answered 200."""
        pauses = random.Random(2026)
        found = []
        for number in range(ROUTES, ROUTES + SAMPLES):
            await asyncio.sleep(pauses.uniform(0, 0.02))
            found.append(await self._latency_s(f"new-{number}.example.com", number, probes))
        return found

    async def _latency_s(self, host: str, number: int, probes: Collection[Probe]) -> float:
        payload = self._payload(host, number)
        began = time.perf_counter()
        await self._broker.client.publish(REGISTER, payload)
        await asyncio.gather(*(_until_routed(probe, host) for probe in probes))
        return time.perf_counter() - began

    async def cpu_shares(self, work: Callable[[], object]) -> tuple[float, float]:
        """Return the share of one core that control used, and all workers together, while the work went on."""
        began = time.perf_counter()
        control, workers = self._cpu_s()
        awaitable = work()
        assert asyncio.iscoroutine(awaitable)
        await awaitable
        control_after, workers_after = self._cpu_s()
        elapsed = time.perf_counter() - began
        return (control_after - control) / elapsed, (workers_after - workers) / elapsed

    def _cpu_s(self) -> tuple[float, float]:
        return procfs.cpu_s([self._router.control]), procfs.cpu_s(self._router.workers)

    async def idle(self) -> None:
        await asyncio.sleep(IDLE_SECONDS)

    async def heartbeats(self) -> None:
        """Announce what is known already at the full rate, and wait until control has taken it all."""
        await self._broker.publish_paced(self._heartbeats, HEARTBEATS_PER_S, HEARTBEAT_SECONDS)
        await self._broker.register("last.example.com", self._backend_port)
        (await self._router.wait_until_routed("last.example.com")).close()


async def _until_routed(probe: Probe, host: str) -> None:
    while await probe.status(host) != 200:  # noqa: ASYNC110 (the event happens in another process)
        await asyncio.sleep(_POLL_S)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of the values do not exceed (nearest rank)."""
    ranked = sorted(values)
    rank = -(-len(ranked) * percent // 100)
    return ranked[max(int(rank), 1) - 1]


async def measure(folder: Path, announce: Callable[[str], None]) -> list[Figure]:
    """Run the scenario with its logs in the folder. Raises `ProgramError` if a program does not start."""
    async with rig.started(folder, workers=WORKERS) as running:
        figures = Figures(*running)
        announce(f"registering {ROUTES:,} routes")
        probes = await figures.load()
        announce(f"registering {SAMPLES} more, one at a time")
        latencies = await figures.latencies_s(probes)
        announce(f"{IDLE_SECONDS} s without a message")
        idle = await figures.cpu_shares(figures.idle)
        announce(f"{HEARTBEATS_PER_S:,} heartbeats/s for {HEARTBEAT_SECONDS} s")
        busy = await figures.cpu_shares(figures.heartbeats)
    return _figures(latencies, idle, busy)


def _figures(latencies_s: Sequence[float], idle: tuple[float, float], busy: tuple[float, float]) -> list[Figure]:
    until = f"publish to first 200 on each of {WORKERS} workers, {ROUTES:,} routes present"
    beats = f"at {HEARTBEATS_PER_S:,} heartbeats/s"
    return [
        Figure(name=f"{until}, p50", value=percentile(latencies_s, 50) * 1e3, unit="ms"),
        Figure(name=f"{until}, p99", value=percentile(latencies_s, 99) * 1e3, unit="ms", limit=20),
        Figure(name="CPU of control, idle", value=idle[0] * 100, unit="% of a core"),
        Figure(name=f"CPU of control {beats}", value=busy[0] * 100, unit="% of a core", limit=15),
        Figure(name="CPU of all workers, idle", value=idle[1] * 100, unit="% of a core"),
        Figure(
            name=f"CPU of all workers {beats}, beyond idle",
            value=max(busy[1] - idle[1], 0.0) * 100,
            unit="% of a core",
            limit=0.5,
        ),
    ]
