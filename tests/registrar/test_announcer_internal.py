"""Internal routes by the announcer: their own subjects, their own interval, and only where there are some."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from router.registrar import Announcer, InternalRoute, Route
from router.wire.discovery import DiscoveryStart, encode_start
from tests.support.nats import NatsServer, settle

NAMES = InternalRoute(ip="10.255.0.9", names=("x.apps.internal", "0.x.apps.internal"), app="guid", index="0")


class Containers:
    """What is said on ``service-discovery.*``; greets as a router does."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.said: asyncio.Queue[Msg] = asyncio.Queue()

    async def take(self, message: Msg) -> None:
        await self.said.put(message)

    async def next(self, subject: str) -> Msg:
        async with asyncio.timeout(60):
            while (message := await self.said.get()).subject != f"service-discovery.{subject}":
                pass
        return message

    async def router_says(self, subject: str, interval_s: int) -> None:
        start = DiscoveryStart(
            id="0-x", host="127.0.0.1", minimum_register_interval_s=interval_s, prune_threshold_s=1000
        )
        await self.client.publish(subject, encode_start(start))


@pytest.fixture
async def containers(nats_server: NatsServer) -> AsyncIterator[Containers]:
    client = Client()
    await client.connect(f"nats://127.0.0.1:{nats_server.port}")
    heard = Containers(client)
    await client.subscribe("service-discovery.*", cb=heard.take)
    await settle(client)
    yield heard
    await client.close()


def announcer(nats_server: NatsServer) -> Announcer:
    return Announcer(nats=f"nats://127.0.0.1:{nats_server.port}", wall_clock_ns=lambda: 77)


def body(message: Msg) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(message.data)
    return decoded


async def test_internal_route_is_registered_and_taken_back(
    nats_server: NatsServer, containers: Containers
) -> None:
    async with announcer(nats_server) as tested:
        await tested.announce(NAMES)
        registered = await containers.next("register")
    assert body(await containers.next("unregister")) == body(registered)
    assert body(registered) == {
        "host": "10.255.0.9",
        "port": 0,
        "uris": ["x.apps.internal", "0.x.apps.internal"],
        "app": "guid",
        "private_instance_index": "0",
        "endpoint_updated_at_ns": 77,
    }


async def test_routers_are_greeted_and_their_start_is_answered(
    nats_server: NatsServer, containers: Containers
) -> None:
    async with announcer(nats_server) as tested:
        await tested.announce(NAMES)
        await containers.next("register")
        await containers.router_says("service-discovery.start", 60)
        await containers.next("register")


async def test_answer_to_the_greeting_sets_the_interval_of_internal_routes_alone(
    nats_server: NatsServer, containers: Containers
) -> None:
    async with announcer(nats_server) as tested:
        await tested.announce(Route(host="10.0.0.7", port=1, uris=["a.test"]))
        await tested.announce(NAMES)
        greeting = await containers.next("greet")
        await containers.router_says(greeting.reply, 1)
        for _ in range(3):
            await containers.next("register")
        assert tested.interval_s == 20


async def test_announcer_of_public_routes_is_silent_on_the_internal_subjects(
    nats_server: NatsServer, containers: Containers
) -> None:
    async with announcer(nats_server) as tested:
        await tested.announce(Route(host="10.0.0.7", port=1, uris=["a.test"]))
    await settle(containers.client)
    assert containers.said.empty()


async def test_update_of_names_takes_back_those_that_are_gone(
    nats_server: NatsServer, containers: Containers
) -> None:
    async with announcer(nats_server) as tested:
        first = await tested.announce(NAMES)
        await tested.update(first, InternalRoute(ip=NAMES.ip, names=("y.apps.internal",), app="guid"))
        await containers.next("register")
        assert body(await containers.next("register"))["uris"] == ["y.apps.internal"]
        assert body(await containers.next("unregister"))["uris"] == list(NAMES.names)
