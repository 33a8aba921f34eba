"""A keep-alive HTTP/1.1 client connection for single requests, and which worker process is at its other end."""

import asyncio
import time
from collections.abc import Iterable
from typing import Self

from loadtest import procfs
from loadtest.errors import RequestError

_READ_TIMEOUT_S = 60.0


class Probe:
    """One connection to a loopback port. Answers must carry Content-Length, as the ones asked for here do."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._port = port
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect. Raises `OSError`."""
        return cls(port, *await asyncio.open_connection("127.0.0.1", port))

    async def status(self, host: str, path: str = "/") -> int:
        """Send a GET, read its answer and return the status.

        Raises `OSError` or `asyncio.IncompleteReadError` if the connection ends first, `TimeoutError` after 60 s.
        """
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        async with asyncio.timeout(_READ_TIMEOUT_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            await self._reader.readexactly(content_length(head))
        return int(head[9:12])

    async def timed_status(self, host: str) -> tuple[int, float]:
        """Return the status and how long the answer took, in seconds."""
        began = time.perf_counter()
        return await self.status(host), time.perf_counter() - began

    def worker(self, candidates: Iterable[int]) -> int | None:
        """Return the process that accepted this connection, None while it waits in the kernel's queue."""
        client_port = self._writer.get_extra_info("sockname")[1]
        return procfs.owner_of_connection(self._port, client_port, candidates)

    def close(self) -> None:
        self._writer.close()


def content_length(head: bytes) -> int:
    """Return the announced body length of a message head, 0 if there is none."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def one_per_worker(port: int, workers: Iterable[int], host: str) -> dict[int, Probe]:
    """Open connections until every worker process has accepted one; return that one by process id.

    The kernel spreads new connections by a hash, so a few tries are needed; a request on each makes sure that it
    was accepted. Raises `RequestError` if a worker gets none of two hundred.
    """
    wanted = set(workers)
    found: dict[int, Probe] = {}
    for _ in range(200):
        probe = await Probe.open(port)
        await probe.status(host)
        owner = probe.worker(wanted)
        if owner is None or owner in found:
            probe.close()
        else:
            found[owner] = probe
        if len(found) == len(wanted):
            return found
    raise RequestError(f"no connection reached the workers {sorted(wanted - found.keys())}")
