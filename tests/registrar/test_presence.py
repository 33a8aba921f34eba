"""When an app that announces itself is announced: not before it listens."""

import asyncio
import json

import pytest
from nats.aio.client import Client

from router.registrar import AnnouncementError, AnyRoute, InternalRoute, Observer, Route
from router.registrar.presence import Presence, accepts
from tests.support.nats import NatsServer, settle
from tests.support.ports import free_port


async def heard_by(nats_server: NatsServer) -> tuple[Client, "asyncio.Queue[str]"]:
    client = Client()
    await client.connect(f"nats://127.0.0.1:{nats_server.port}")
    said: asyncio.Queue[str] = asyncio.Queue()

    async def take(message: object) -> None:
        uris = json.loads(getattr(message, "data", b"{}") or b"{}").get("uris", [""])
        await said.put(f"{getattr(message, 'subject', '')} {uris[0]}")

    for subject in ("*.register", "*.unregister"):
        await client.subscribe(subject, cb=take)
    await settle(client)
    return client, said


async def test_route_is_announced_once_its_port_accepts_connections(nats_server: NatsServer) -> None:
    client, said = await heard_by(nats_server)
    port = free_port()
    routes: list[AnyRoute] = [
        Route(host="127.0.0.1", port=port, uris=["late.test"]),
        InternalRoute(ip="127.0.0.1", names=("at-once.internal",)),
    ]
    async with asyncio.timeout(60), Presence(f"nats://127.0.0.1:{nats_server.port}", routes) as presence:
        assert await said.get() == "service-discovery.register at-once.internal"
        assert len(presence.announced) == 1
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
        async with server:
            assert await said.get() == "router.register late.test"
            await presence.drain(0)
            assert {await said.get(), await said.get()} == {
                "router.unregister late.test",
                "service-discovery.unregister at-once.internal",
            }
            assert server.is_serving()
    await client.close()


async def test_address_that_only_routers_reach_is_announced_after_some_patience(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.registrar.presence.PATIENCE_S", 0.01)
    client, said = await heard_by(nats_server)
    route = Route(host="127.0.0.1", port=free_port(), uris=["far.test"])
    async with asyncio.timeout(60), Presence(f"nats://127.0.0.1:{nats_server.port}", [route]):
        assert await said.get() == "router.register far.test"
    await client.close()


async def test_app_that_stops_before_it_listened_was_never_announced(nats_server: NatsServer) -> None:
    client, said = await heard_by(nats_server)
    route = Route(host="127.0.0.1", port=free_port(), uris=["never.test"])
    async with Presence(f"nats://127.0.0.1:{nats_server.port}", [route], observer=Observer()):
        pass
    await settle(client)
    assert said.empty()
    await client.close()


def test_all_malformed_routes_are_told_together() -> None:
    with pytest.raises(AnnouncementError) as caught:
        Presence("nats://a", [Route(host="", port=1, uris=["a.test"]), InternalRoute(ip="x", names=("a",))])
    assert len(caught.value.problems) == 2


async def test_port_that_nobody_listens_on_does_not_accept() -> None:
    assert not await accepts("127.0.0.1", free_port())
