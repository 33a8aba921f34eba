"""A gigabyte through one worker in each direction, with fast and slow readers: what it holds in memory."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from loadtest import procfs, rig
from loadtest.errors import RequestError
from loadtest.probe import content_length
from loadtest.report import Figure
from loadtest.router_process import RouterProcess

SIZE_BYTES = 1 << 30
SLOW_BYTES_PER_S = 64 << 20
GROWTH_LIMIT_MB = 20.0
HOST = "transfer.example.com"
_BLOCK_BYTES = 256 * 1024
_SLOW_RECEIVE_BUFFER = 64 * 1024
_SAMPLE_S = 0.02
_TIMEOUT_S = 60.0


def download(port: int, size: int, rate: int) -> None:
    """Fetch ``size`` bytes, reading at no more than ``rate`` bytes/s (0: as fast as they come).

    Blocks; meant for a thread. Raises `RequestError` or `OSError`.
    """
    with socket.socket() as client:
        if rate:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_RECEIVE_BUFFER)
        client.settimeout(_TIMEOUT_S)
        client.connect(("127.0.0.1", port))
        client.sendall(f"GET /bytes/{size} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        head, received = _read_head(client)
        if content_length(head) != size:
            raise RequestError(f"asked for {size} bytes, was answered {head!r}")
        block = bytearray(_BLOCK_BYTES)
        began = time.perf_counter()
        while received < size:
            count = client.recv_into(block)
            if not count:
                raise RequestError(f"the download ended after {received} of {size} bytes")
            received += count
            if rate:
                _wait_for(began, received, rate)


def upload(port: int, size: int, rate: int) -> None:
    """Send ``size`` bytes to an instance that reads at no more than ``rate`` bytes/s (0: as fast as they come).

    Blocks; meant for a thread. Raises `RequestError` or `OSError`.
    """
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as client:
        head = f"POST /sink/{rate} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n"
        client.sendall(head.encode())
        block = memoryview(bytes(_BLOCK_BYTES))
        left = size
        while left:
            count = min(left, _BLOCK_BYTES)
            client.sendall(block[:count])
            left -= count
        answer, _ = _read_head(client)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RequestError(f"the upload of {size} bytes was answered {answer!r}")


def _read_head(client: socket.socket) -> tuple[bytes, int]:
    """Return the response head, and how many bytes of the body came with it."""
    buffer = bytearray()
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        part = client.recv(65536)
        if not part:
            raise RequestError(f"the connection ended within the head: {bytes(buffer)!r}")
        buffer += part
    return bytes(buffer[:end]), len(buffer) - end - 4


def _wait_for(began: float, count: int, rate: int) -> None:
    ahead = count / rate - (time.perf_counter() - began)
    if ahead > 0:
        time.sleep(ahead)


@contextlib.asynccontextmanager
async def growth_watched(pid: int) -> AsyncIterator[list[int]]:
    """Sample a process's memory while the block runs; the list holds its RSS in bytes, the first from before."""
    samples = [procfs.rss_bytes(pid)]

    async def sample() -> None:
        while True:
            await asyncio.sleep(_SAMPLE_S)
            samples.append(procfs.rss_bytes(pid))

    sampling = asyncio.create_task(sample())
    try:
        yield samples
    finally:
        sampling.cancel()


async def measure(folder: Path, announce: Callable[[str], None]) -> list[Figure]:
    """Run the scenario with its logs in the folder. Raises `ProgramError` if a program does not start."""
    async with rig.started(folder, host=HOST) as running:
        return await _measure(running.router, announce)


async def _measure(router: RouterProcess, announce: Callable[[str], None]) -> list[Figure]:
    (worker,) = router.workers
    figures: list[Figure] = []
    for transfer in (download, upload):
        for speed, rate in (("fast", 0), ("slow", SLOW_BYTES_PER_S)):
            name = f"1 GiB {transfer.__name__}, {speed} reader"
            announce(name)
            began = time.perf_counter()
            async with growth_watched(worker) as samples:
                await asyncio.to_thread(transfer, router.ports.http, SIZE_BYTES, rate)
            took = time.perf_counter() - began
            growth_mb = (max(samples) - samples[0]) / 1e6
            figures += [
                Figure(name=f"{name}: worker RSS growth", value=growth_mb, unit="MB", limit=GROWTH_LIMIT_MB),
                Figure(name=f"{name}: rate", value=SIZE_BYTES / took / 1e6, unit="MB/s"),
            ]
    return figures
