"""Announcing an internal name over a real nats-server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from router.dev.names import NameAnnouncer
from router.registrar.bus import BusUnavailable
from router.wire.discovery import REGISTER, START, UNREGISTER, NameRegistration, decode_register
from tests.support.nats import NatsServer, settle
from tests.support.ports import free_port


class Heard:
    """What is said of names over NATS by the one announcer of a test."""

    def __init__(self, client: Client, ip: str) -> None:
        self.client = client
        self.registration = NameRegistration(ip=ip, names=("x.apps.internal",), app="x", updated_at_ns=1)
        self._said: asyncio.Queue[Msg] = asyncio.Queue()

    async def take(self, message: Msg) -> None:
        if message.subject in (REGISTER, UNREGISTER) and self.registration.ip.encode() in message.data:
            await self._said.put(message)

    async def next(self) -> Msg:
        async with asyncio.timeout(60):
            return await self._said.get()


@asynccontextmanager
async def hearing(server: NatsServer, ip: str) -> AsyncIterator[Heard]:
    client = Client()
    heard = Heard(client, ip)
    await client.connect(f"nats://127.0.0.1:{server.port}")
    await client.subscribe("service-discovery.*", cb=heard.take)
    await settle(client)
    yield heard
    await client.close()


async def test_name_is_announced_when_asked_for_and_taken_back_at_the_end(nats_server: NatsServer) -> None:
    async with hearing(nats_server, "10.255.7.1") as heard:
        url = f"nats://127.0.0.1:{nats_server.port}"
        async with NameAnnouncer(url, heard.registration, name="x"):
            first = await heard.next()
            assert (first.subject, decode_register(first.data)) == (REGISTER, heard.registration)
            await heard.client.publish(START, b"{}")
            assert (await heard.next()).subject == REGISTER
        while (last := await heard.next()).subject == REGISTER:
            pass
    assert (last.subject, last.data) == (UNREGISTER, first.data)


async def test_missing_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.dev.names.CONNECT_TIMEOUT_S", 0.1)
    registration = NameRegistration(ip="10.255.7.2", names=("x.apps.internal",))
    with pytest.raises(BusUnavailable):
        await NameAnnouncer(f"nats://127.0.0.1:{free_port()}", registration, name="x").__aenter__()
