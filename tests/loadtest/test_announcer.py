"""The scenario's parts: what is announced, and that it is counted."""

import asyncio

import pytest
from nats.aio.client import Client

from loadtest.announcer import Listener
from loadtest.announcing import route
from loadtest.errors import RequestError
from router.registrar import Announcer
from router.registrar.announced import route_problems
from tests.support.nats import NatsServer


def test_every_route_is_one_of_its_own() -> None:
    some = [route(number) for number in (0, 255, 256, 65_536, 19_999)]
    assert [problem for each in some for problem in route_problems(each)] == []
    assert len({each.host for each in some}) == len({each.uris[0] for each in some}) == len(some)


async def test_every_announcement_is_counted(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    client, listener = Client(), Listener()
    await client.connect(f"nats://127.0.0.1:{nats_server.port}")
    await listener.listen(client)
    async with Announcer(f"nats://127.0.0.1:{nats_server.port}") as announcer, asyncio.timeout(60):
        await announcer.announce_all(route(number) for number in range(100))
        await listener.until(100)
    monkeypatch.setattr("loadtest.announcer.START_TIMEOUT_S", 0.05)
    with pytest.raises(RequestError, match="100 of 101"):
        await listener.until(101)
    await client.close()
