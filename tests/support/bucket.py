"""What tests of the policy bucket share: a nats-server with JetStream, and routers' stores on it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from router.config.internal import InternalPolicies
from router.config.sections import NatsHost
from router.control.internal.hub import InternalHub
from router.control.internal.policies_jetstream import PolicyBucket
from router.control.nats_link import Link, LinkError, LinkOptions, dial
from router.log import Logger
from router.routing.internal_records import Policy
from tests.support.eventually import eventually
from tests.support.nats import NatsServer


def jetstream_server(directory: Path) -> NatsServer:
    """Return a server, not started, that keeps what it has through `kill` and `start`."""
    return NatsServer(directory, arguments=["--jetstream", "--store_dir", str(directory / "jetstream")])


class Router:
    """One router's policies: its hub, its store, and the link the subscriber would give it."""

    def __init__(self, server: NatsServer, config: InternalPolicies) -> None:
        self.hub = InternalHub(lambda: None)
        self.lines: list[dict[str, Any]] = []
        logger = Logger(sink=lambda line: self.lines.append(json.loads(line)))
        self.store = PolicyBucket(config, self.hub, logger)
        self.link: Link | None = None
        self._host = NatsHost(hostname="127.0.0.1", port=server.port)

    async def connect(self) -> Link:
        """Connect and begin, as after every loss; tries until the server is there."""
        while True:
            try:
                link = await dial(self._host, LinkOptions(), lambda _: None)
                self.link = link
                await self.store.begin(link)
                return link
            except LinkError:
                await asyncio.sleep(0.02)

    async def lose(self) -> None:
        """The link is lost."""
        link, self.link = self.link, None
        self.store.lost()
        if link is not None:
            await link.close()

    async def ready(self) -> None:
        await eventually(lambda: self.hub.table.policies_ready, "the policies to be read")

    async def sees(self, *policies: Policy) -> None:
        await eventually(lambda: self.seen == sorted(policies), f"the policies to be {policies}")

    @property
    def seen(self) -> list[Policy]:
        """What this router decides by."""
        table = self.hub.table
        return sorted(policy for source in table.sources() for policy in table.policies_of(source))

    def logged(self, message: str) -> list[dict[str, Any]]:
        return [line["data"] for line in self.lines if line["message"] == message]

    async def close(self) -> None:
        await self.store.close()
        if self.link is not None:
            await self.link.close()


@asynccontextmanager
async def routers(server: NatsServer, count: int, **settings: Any) -> AsyncIterator[list[Router]]:
    """Run so many stores on one server, all of them connected and ready."""
    config = InternalPolicies(**settings)
    running = [Router(server, config) for _ in range(count)]
    try:
        for router in running:
            await router.connect()
            await router.ready()
        yield running
    finally:
        for router in running:
            await router.close()


def policy(
    source: str, destination: str, start: int = 80, end: int | None = None, protocol: str = "tcp"
) -> Policy:
    return Policy(source, destination, protocol, start, start if end is None else end)
