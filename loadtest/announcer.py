"""What it costs to announce many routes: CPU time and memory of one process that uses the library."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg

from loadtest import procfs
from loadtest.broker import REGISTER, Broker
from loadtest.errors import RequestError
from loadtest.programs import Cores, Program
from loadtest.report import Figure

ROUTES = 20_000
INTERVAL_S = 20
"""As routers ask for by default."""
MEASURED_S = 2 * INTERVAL_S
LIMIT = 10.0
START_TIMEOUT_S = 60.0
_POLL_S = 0.02


class Listener:
    """Counts what is announced, each message once, as a router would have to take it."""

    def __init__(self) -> None:
        self.count = 0

    async def listen(self, client: Client) -> None:
        await client.subscribe(REGISTER, cb=self._take, pending_msgs_limit=10 * ROUTES, pending_bytes_limit=2**30)
        await client.flush()

    async def _take(self, message: Msg) -> None:
        self.count += 1

    async def until(self, count: int) -> None:
        """Wait for so many messages. Raises `RequestError` if they do not come."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while self.count < count:  # noqa: ASYNC110 (the event is the last of many callbacks)
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            told = f"{self.count:,} of {count:,} announcements were heard within {START_TIMEOUT_S:g} s"
            raise RequestError(told) from None


async def measure(folder: Path, announce: Callable[[str], None]) -> list[Figure]:
    """Run the scenario. Raises `RequestError` if a route was not announced as often as it must be."""
    cores = Cores.of_this_process().all
    listener = Listener()
    async with AsyncExitStack() as running:
        broker = await running.enter_async_context(Broker.started(folder, cores))
        await listener.listen(broker.client)
        command = [sys.executable, "-m", "loadtest.announcing", f"nats://127.0.0.1:{broker.port}", str(ROUTES)]
        began = time.perf_counter()
        announcer = running.enter_context(Program("announcer", command, cores=cores, log_folder=folder))
        announce(f"announcing {ROUTES:,} routes")
        await listener.until(ROUTES)
        start_s = time.perf_counter() - began
        announce(f"listening to heartbeats for {MEASURED_S} s")
        share, heard = await _heartbeats(announcer.pid, listener)
        memory = procfs.rss_bytes(announcer.pid)
    if heard < ROUTES * MEASURED_S // INTERVAL_S:
        raise RequestError(f"only {heard:,} heartbeats in {MEASURED_S} s, so the figures would mean nothing")
    return [
        Figure(name=f"start of the process until {ROUTES:,} routes are announced", value=start_s, unit="s"),
        Figure(name="heartbeats", value=heard / MEASURED_S, unit="/s"),
        Figure(
            name=f"CPU of one announcer, {ROUTES:,} routes per {INTERVAL_S} s",
            value=share * 100,
            unit="% of a core",
            limit=LIMIT,
        ),
        Figure(name="RSS of one announcer", value=memory / 1e6, unit="MB"),
    ]


async def _heartbeats(pid: int, listener: Listener) -> tuple[float, int]:
    """Return the share of a core the process used over `MEASURED_S`, and how many heartbeats were heard."""
    began, cpu_s, count = time.perf_counter(), procfs.cpu_s([pid]), listener.count
    await asyncio.sleep(MEASURED_S)
    return (procfs.cpu_s([pid]) - cpu_s) / (time.perf_counter() - began), listener.count - count
