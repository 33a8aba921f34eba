"""A hundred thousand endpoints: memory, time to load them, time to bring a new worker up to date, stalls."""

import asyncio
import base64
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from loadtest import procfs, rig
from loadtest.broker import REGISTER, Broker, registration
from loadtest.errors import RequestError
from loadtest.probe import Probe
from loadtest.report import Figure
from loadtest.router_process import RouterProcess

ENDPOINTS = 100_000
HEARTBEATS_PER_S = 5_000
SETTLE_S = 3.0
_PROBE_PAUSE_S = 0.002
_LAST = "last.example.com"
_MB = 1e6


def endpoint_payload(number: int) -> bytes:
    """Return the registration of one of many endpoints: each has an address, a port and a host name of its own."""
    host = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return registration(host, 61000 + number % 1000, f"app-{number}.example.com", number=number)


class Scenario:
    """A router that is being filled."""

    def __init__(self, broker: Broker, router: RouterProcess, backend_port: int) -> None:
        self._broker = broker
        self._router = router
        self._backend_port = backend_port
        self._payloads = [endpoint_payload(number) for number in range(ENDPOINTS)]

    @property
    def worker(self) -> int:
        (pid,) = self._router.workers
        return pid

    def rss_mb(self) -> tuple[float, float]:
        """Return the memory of the worker and of control, in MB (10^6 bytes)."""
        return procfs.rss_bytes(self.worker) / _MB, procfs.rss_bytes(self._router.control) / _MB

    async def load_s(self) -> float:
        """Announce everything as fast as it is taken; return the time until the last route answered."""
        began = time.perf_counter()
        for payload in self._payloads:
            await self._broker.client.publish(REGISTER, payload)
        await self._broker.register(_LAST, self._backend_port)
        (await self._router.wait_until_routed(_LAST)).close()
        return time.perf_counter() - began

    async def restart_s(self) -> float:
        """Kill the worker; return the time until its successor answered a connection opened right after.

        Control holds the listening socket, so the connection waits in its queue meanwhile. Raises
        `RequestError` if the answer is not 200: a worker must not serve before its table is whole.
        """
        os.kill(self.worker, signal.SIGKILL)
        began = time.perf_counter()
        probe = await Probe.open(self._router.ports.http)
        status, _ = await probe.timed_status(_LAST)
        took = time.perf_counter() - began
        probe.close()
        if status != 200:
            raise RequestError(f"the new worker answered {status} for a known route")
        return took

    async def heartbeats(self) -> None:
        await self._broker.publish_paced(self._payloads, HEARTBEATS_PER_S, ENDPOINTS / HEARTBEATS_PER_S)

    async def dump_bytes(self) -> int:
        """Read the whole of ``/routes`` and return its size."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._router.ports.routes)
        credentials = base64.b64encode(b"loadtest:loadtest").decode()
        writer.write(f"GET /routes HTTP/1.0\r\nAuthorization: Basic {credentials}\r\n\r\n".encode())
        size = 0
        while block := await reader.read(1 << 20):
            size += len(block)
        writer.close()
        if size < ENDPOINTS:
            raise RequestError(f"/routes answered with only {size} bytes")
        return size

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[list[float]]:
        """Send requests one after the other while the block runs; the list holds how long each took, in s."""
        probe = await Probe.open(self._router.ports.http)
        times: list[float] = []
        asking = asyncio.create_task(_ask(probe, times))
        try:
            yield times
        finally:
            asking.cancel()
            probe.close()
        if asking.done() and not asking.cancelled():
            asking.result()


async def _ask(probe: Probe, times: list[float]) -> None:
    while True:
        status, took = await probe.timed_status(_LAST)
        if status != 200:
            raise RequestError(f"a known route was answered {status}")
        times.append(took)
        await asyncio.sleep(_PROBE_PAUSE_S)


async def measure(folder: Path, announce: Callable[[str], None]) -> list[Figure]:
    """Run the scenario with its logs in the folder. Raises `ProgramError` if a program does not start."""
    async with rig.started(folder) as running:
        return await _measure(Scenario(*running), announce)


async def _measure(scenario: Scenario, announce: Callable[[str], None]) -> list[Figure]:
    await asyncio.sleep(SETTLE_S)
    empty = scenario.rss_mb()
    announce(f"registering {ENDPOINTS:,} endpoints")
    load_s = await scenario.load_s()
    await asyncio.sleep(SETTLE_S)
    full = scenario.rss_mb()
    announce("heartbeats of all of them")
    async with scenario.watched() as beating:
        await scenario.heartbeats()
    announce("reading /routes")
    async with scenario.watched() as dumping:
        await scenario.dump_bytes()
    announce("killing the worker")
    restart_s = await scenario.restart_s()
    await asyncio.sleep(SETTLE_S)
    fresh = scenario.rss_mb()
    return [
        *_memory_figures(empty, full, fresh),
        Figure(name=f"time to load {ENDPOINTS:,} registrations", value=load_s, unit="s", limit=ENDPOINTS / 5000),
        Figure(
            name="worker killed until its successor serves the whole table", value=restart_s, unit="s", limit=5
        ),
        Figure(
            name="slowest request during a round of heartbeats", value=max(beating) * 1e3, unit="ms", limit=100
        ),
        Figure(name="slowest request while /routes is read", value=max(dumping) * 1e3, unit="ms", limit=100),
    ]


def _memory_figures(empty: Sequence[float], full: Sequence[float], fresh: Sequence[float]) -> list[Figure]:
    what = f"{ENDPOINTS:,} endpoints"
    return [
        Figure(
            name=f"table of {what} in a worker, RSS beyond empty", value=full[0] - empty[0], unit="MB", limit=150
        ),
        Figure(name=f"worker with {what}, whole RSS", value=full[0], unit="MB"),
        Figure(name=f"fresh worker after a snapshot of {what}, whole RSS", value=fresh[0], unit="MB"),
        Figure(name=f"control with {what}, whole RSS", value=full[1], unit="MB", limit=300),
        Figure(name="control after /routes and a snapshot, whole RSS", value=fresh[1], unit="MB"),
    ]
