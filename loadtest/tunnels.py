"""WebSockets through one worker: what an idle one holds in memory, and how many small messages pass a second."""

import asyncio
import resource
import time
from collections.abc import Callable
from pathlib import Path

from loadtest import procfs, rig
from loadtest.errors import RequestError
from loadtest.report import Figure

HOST = "tunnels.example.com"
IDLE = 10_000
BUSY = 50
MESSAGE = b"\x82\x9c" + bytes(4) + b"a small message of 28 bytes."
"""A masked binary frame (RFC 6455 §5.2); nobody here looks into it."""
BATCH = 1
"""Messages that a client sends before it waits for their echoes: with 1, none shares a packet with another."""
SECONDS = 5.0
IDLE_LIMIT_KB = 12.0
MESSAGE_LIMIT_US = 20.0
"""So that one worker can pass 50,000 a second."""

_DESCRIPTORS_LEFT = 500
_AT_ONCE = 100
_SETTLE_S = 2.0
_UPGRADE = (
    f"GET /tunnel HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Origin: https://tunnels.example.com\r\nUser-Agent: loadtest\r\n\r\n"
).encode()

Tunnel = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def affordable() -> int:
    """Return how many tunnels this machine's limit of open files allows; a worker needs two for each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(min(IDLE, (hard - _DESCRIPTORS_LEFT) // 2), 0)


async def open_tunnel(port: int) -> Tunnel:
    """Open a WebSocket through the router. Raises `RequestError` and `OSError`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    writer.write(_UPGRADE)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        raise RequestError(f"the upgrade was answered {head!r}")
    return reader, writer


async def open_tunnels(port: int, count: int) -> list[Tunnel]:
    """Open many, some at a time."""
    opened: list[Tunnel] = []
    while len(opened) < count:
        wanted = min(_AT_ONCE, count - len(opened))
        opened += await asyncio.gather(*(open_tunnel(port) for _ in range(wanted)))
    return opened


async def exchange_messages(tunnel: Tunnel, until: float) -> int:
    """Send batches and wait for their echoes until this moment; return the number of messages echoed."""
    reader, writer = tunnel
    batch = MESSAGE * BATCH
    count = 0
    while time.perf_counter() < until:
        for _ in range(BATCH):
            writer.write(MESSAGE)
        await reader.readexactly(len(batch))
        count += BATCH
    return count


async def measure(folder: Path, announce: Callable[[str], None]) -> list[Figure]:
    """Run the scenario with its logs in the folder. Raises `ProgramError` if a program does not start."""
    count = affordable()
    async with rig.started(folder, host=HOST) as running:
        (worker,) = running.router.workers
        announce(f"{count} idle WebSockets")
        figures = await _measure_idle(running.router.ports.http, worker, count)
        announce(f"messages over {BUSY} WebSockets")
        return [*figures, *await _measure_messages(running.router.ports.http, worker)]


async def _measure_idle(port: int, worker: int, count: int) -> list[Figure]:
    # What the first connections cost once, such as caches, is not counted.
    first = await open_tunnels(port, _AT_ONCE)
    await asyncio.sleep(_SETTLE_S)
    before = procfs.rss_bytes(worker)
    tunnels = await open_tunnels(port, count)
    await asyncio.sleep(_SETTLE_S)
    held_kb = (procfs.rss_bytes(worker) - before) / count / 1e3
    for _, writer in first + tunnels:
        writer.close()
    name = f"{count} idle WebSockets: worker memory each"
    return [Figure(name=name, value=held_kb, unit="KB", limit=IDLE_LIMIT_KB)]


async def _measure_messages(port: int, worker: int) -> list[Figure]:
    tunnels = await open_tunnels(port, BUSY)
    cpu_before, began = procfs.cpu_s([worker]), time.perf_counter()
    counts = await asyncio.gather(*(exchange_messages(tunnel, began + SECONDS) for tunnel in tunnels))
    took, cpu_s = time.perf_counter() - began, procfs.cpu_s([worker]) - cpu_before
    for _, writer in tunnels:
        writer.close()
    # Each message passes twice: to the instance, and back as its echo.
    passed = 2 * sum(counts)
    return [
        Figure(name="small messages passed by the worker", value=passed / took, unit="/s"),
        Figure(name="CPU for each", value=cpu_s / passed * 1e6, unit="µs", limit=MESSAGE_LIMIT_US),
    ]
