"""The agent of `router dev`, in this process, over a real nats-server."""

import asyncio

from nats.aio.client import Client
from nats.aio.msg import Msg

from router.dev.cell import AGENT, speak
from router.wire.identities import SNAPSHOT, decode_said
from tests.support.nats import NatsServer, settle


async def test_agent_says_who_has_which_address(nats_server: NatsServer) -> None:
    said: asyncio.Queue[Msg] = asyncio.Queue()
    client, stop = Client(), asyncio.Event()
    url = f"nats://127.0.0.1:{nats_server.port}"
    await client.connect(url)
    await client.subscribe(SNAPSHOT, cb=said.put)
    await settle(client)
    speaking = asyncio.ensure_future(speak(url, 2, 5000, stop=stop))
    async with asyncio.timeout(60):
        snapshot = decode_said((await said.get()).data)
        while not (snapshot.agent == AGENT and snapshot.workloads):
            snapshot = decode_said((await said.get()).data)
    assert {each.ip: each.app for each in snapshot.workloads} == {
        "127.0.20.2": "front",
        "127.0.20.3": "other",
        "127.0.20.10": "backend",
        "127.0.20.11": "backend",
    }
    stop.set()
    await speaking
    await client.close()
