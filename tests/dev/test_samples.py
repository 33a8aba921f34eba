"""The sample apps, in this process, over real sockets and a real nats-server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from router.dev.places import free_port
from router.dev.samples import serve
from tests.support.nats import NatsServer, settle


class Served:
    """One instance that serves, and what it announced."""

    def __init__(self, http: aiohttp.ClientSession, said: list[tuple[str, dict[str, Any]]]) -> None:
        self.http = http
        self.said = said

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.said[0][1]['port']}"


@asynccontextmanager
async def served(nats_server: NatsServer, app: str, number: int = 0) -> AsyncIterator[Served]:
    said: list[tuple[str, dict[str, Any]]] = []
    news = asyncio.Event()

    async def hear(message: Msg) -> None:
        body = json.loads(message.data)
        if body["private_instance_id"] == f"{app}-{number}":
            said.append((message.subject, body))
            news.set()

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                news.clear()
                await news.wait()

    client, stop = Client(), asyncio.Event()
    url = f"nats://127.0.0.1:{nats_server.port}"
    await client.connect(url)
    await client.subscribe("router.register", cb=hear)
    await client.subscribe("router.unregister", cb=hear)
    await settle(client)
    serving = asyncio.ensure_future(serve(app, number, url, stop=stop))
    await until(lambda: bool(said))
    async with aiohttp.ClientSession() as http:
        yield Served(http, said)
    stop.set()
    await serving
    await until(lambda: said[-1][0] == "router.unregister")
    await client.close()


async def test_instance_announces_itself_where_it_serves(nats_server: NatsServer) -> None:
    async with served(nats_server, "hello", 1) as tested:
        subject, body = tested.said[0]
        assert subject == "router.register"
        assert body["uris"] == ["hello.localhost"]
        assert body["private_instance_index"] == "1"
        assert body["tags"] == {"app_name": "hello", "component": "hello/1"}
        async with tested.http.get(tested.url) as response:
            assert response.status == 200
    assert tested.said[-1] == ("router.unregister", body)


@pytest.mark.parametrize(
    ("accept", "kind", "part"),
    [
        ("*/*", "text/plain", "hello from hello/2 (pid "),
        ("text/html,*/*", "text/html", "<h1>hello from"),
        ("application/json", "application/json", '"instance": "hello/2"'),
    ],
)
async def test_hello_answers_in_the_way_the_client_accepts(
    nats_server: NatsServer, accept: str, kind: str, part: str
) -> None:
    async with (
        served(nats_server, "hello", 2) as tested,
        tested.http.get(f"{tested.url}/any/path", headers={"Accept": accept}) as response,
    ):
        assert response.content_type == kind
        assert part in await response.text()


async def test_echo_shows_the_request_as_it_came(nats_server: NatsServer) -> None:
    async with (
        served(nats_server, "echo") as tested,
        tested.http.put(f"{tested.url}/a%20b?x=1", data="body", headers={"X-Own": "1"}) as response,
    ):
        seen = json.loads(await response.text())
    assert seen["request"] == "PUT /a%20b?x=1 HTTP/1.1"
    assert "X-Own: 1" in seen["headers"]
    assert (seen["body"], seen["body_bytes"]) == ("body", 4)


async def test_backend_serves_inside_alone_and_tells_who_calls(nats_server: NatsServer) -> None:
    said: asyncio.Queue[Msg] = asyncio.Queue()
    client, stop = Client(), asyncio.Event()
    url = f"nats://127.0.0.1:{nats_server.port}"
    await client.connect(url)
    await client.subscribe("*.register", cb=said.put)
    await settle(client)
    port = free_port(5000, ["127.0.20.13"], [])
    serving = asyncio.ensure_future(serve("backend", 3, url, port, stop=stop))
    async with asyncio.timeout(60):
        message = await said.get()
        while json.loads(message.data)["host"] != "127.0.20.13":
            message = await said.get()
    assert message.subject == "service-discovery.register"
    caller = {"X-Cf-Caller-App": "front", "X-Other": "1"}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.20.13:{port}/any", headers=caller) as response,
    ):
        told = await response.text()
    assert told == f"backend/3 at 127.0.20.13:{port} is called by\n  X-Cf-Caller-App: front\n"
    stop.set()
    await serving
    await client.close()


async def test_echo_sends_websocket_messages_back(nats_server: NatsServer) -> None:
    async with served(nats_server, "echo") as tested, tested.http.ws_connect(f"{tested.url}/ws") as websocket:
        await websocket.send_str("text")
        assert await websocket.receive_str() == "text"
        await websocket.send_bytes(b"\x00\x01")
        assert await websocket.receive_bytes() == b"\x00\x01"


@pytest.mark.parametrize("code", [204, 304, 404, 503])
async def test_echo_answers_with_the_status_asked_for(nats_server: NatsServer, code: int) -> None:
    async with served(nats_server, "echo") as tested, tested.http.get(f"{tested.url}/status/{code}") as response:
        assert response.status == code


async def test_echo_answers_after_the_delay_asked_for(nats_server: NatsServer) -> None:
    async with served(nats_server, "echo") as tested, tested.http.get(f"{tested.url}/delay/0.01") as response:
        assert (await response.json())["request"] == "GET /delay/0.01 HTTP/1.1"
