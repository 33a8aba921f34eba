"""The deprecated status mode: its document, its listener, its announcements over a real nats-server."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import msgspec
import nats
import pytest
from nats.aio.msg import Msg

from router.config.schema import Config
from router.config.sections import Nats, NatsHost
from router.control.admin import Admin
from router.control.health import Health, State
from router.control.registry_log import make_registry
from router.control.subscriber import Subscriber
from router.control.varz import ANNOUNCE, DISCOVER, Component, Varz, VarzIdentity, uptime_text
from router.log import Logger
from router.routing.registrations import RegistryRules
from router.routing.registry import Registry
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, settle
from tests.support.ports import free_port
from tests.support.registry import announced

IDENTITY = VarzIdentity(index=3, uuid="3-uuid", host="10.0.0.1:8080", started_s=1_700_000_000.0)


class Watched:
    """A document on a clock that stands still, with totals to be set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.figures: dict[str, float] = {}
        self.registry = Registry(RegistryRules())
        self.varz = Varz(
            IDENTITY,
            credentials=lambda: ("user", "pass"),
            figures=lambda: self.figures,
            registry=self.registry,
            processes=lambda: {"process_resident_memory_bytes": 5e6, "process_cpu_seconds_total": 937.84},
            log_counts=lambda: {"info": 4},
            clock=lambda: self.now,
        )

    def document(self) -> Any:
        return json.loads(b"".join(self.varz.document()))


def test_document_has_gorouters_keys() -> None:
    watched = Watched()
    watched.now += 93_784
    document = watched.document()

    assert list(document) == [
        *("type", "index", "host", "credentials", "uuid", "start", "uptime", "num_cores", "mem", "cpu"),
        *("log_counts", "urls", "droplets", "bad_requests", "bad_gateways", "requests_per_sec"),
        *("top10_app_requests", "ms_since_last_registry_update", "requests", "rate"),
        *("responses_2xx", "responses_3xx", "responses_4xx", "responses_5xx", "responses_xxx", "latency", "tags"),
    ]
    assert document["type"] == "Router"
    assert (document["index"], document["uuid"], document["host"]) == (3, "3-uuid", "10.0.0.1:8080")
    assert document["credentials"] == ["user", "pass"]
    assert re.fullmatch(r"2023-11-1\d \d\d:\d\d:\d\d [+-]\d{4}", document["start"])
    assert document["uptime"] == "1d:2h:3m:4s"
    assert document["num_cores"] >= 1
    assert (document["mem"], document["cpu"]) == (4882, 1.0)
    assert document["log_counts"] == {"info": 4}
    assert document["tags"] == {"component": {}}


def test_table_is_counted() -> None:
    watched = Watched()
    assert watched.document()["ms_since_last_registry_update"] == -1
    watched.registry.register(announced("a.test", "b.test"), watched.now)
    watched.registry.register(announced("a.test", host="10.0.0.2"), watched.now)
    watched.now += 1.5
    document = watched.document()

    assert (document["urls"], document["droplets"]) == (2, 2)
    assert document["ms_since_last_registry_update"] == 1500


def test_totals_are_shown_together_and_by_component() -> None:
    watched = Watched()
    watched.figures = {
        "total_requests": 7,
        "rejected_requests": 2,
        "bad_requests": 1,
        "bad_gateways": 5,
        "responses_2xx": 6,
        "responses_xxx": 1,
        "total_requests\tuaa": 4,
        "total_requests\t": 3,
        "responses_2xx\tuaa": 4,
        "http_latency_seconds\tsome-app\t0.1": 9,
    }
    document = watched.document()

    assert (document["requests"], document["bad_requests"], document["bad_gateways"]) == (7, 3, 5)
    assert (document["responses_2xx"], document["responses_4xx"], document["responses_xxx"]) == (6, 0, 1)
    assert list(document["tags"]["component"]) == ["uaa"]
    uaa = document["tags"]["component"]["uaa"]
    assert (uaa["requests"], uaa["responses_2xx"], uaa["responses_5xx"]) == (4, 4, 0)
    assert set(uaa) == {"requests", "rate", "latency", *(f"responses_{group}xx" for group in "2345x")}


def test_rates_follow_the_totals() -> None:
    watched = Watched()
    for step in range(200):
        watched.figures = {"total_requests": 50.0 * step, "total_requests\tuaa": 5.0 * step}
        watched.varz.sample()
        watched.now += 5.0
    document = watched.document()

    assert document["requests_per_sec"] == document["rate"][0] == pytest.approx(10.0, rel=0.01)
    assert len(document["rate"]) == 3
    assert document["tags"]["component"]["uaa"]["rate"][0] == pytest.approx(1.0, rel=0.01)


def latencies(slow: int, fast: int) -> dict[str, float]:
    return {
        "latency\t\t100.0": fast,
        "latency\t\t1000.0": slow,
        "latency\t\tinf": 0,
        "latency\t\tsum": 50.0 * fast + 500.0 * slow,
    }


def test_latencies_are_those_of_the_last_minutes_in_seconds() -> None:
    watched = Watched()
    watched.figures = latencies(slow=1000, fast=0)
    watched.varz.sample()
    watched.figures = latencies(slow=1000, fast=100)
    latency = watched.document()["latency"]

    assert set(latency) == {"50", "75", "90", "95", "99", "value", "samples"}
    assert latency["50"] == pytest.approx(0.05)
    assert latency["99"] == pytest.approx(0.099)
    assert (latency["value"], latency["samples"]) == (pytest.approx(0.05), 100)


def test_busiest_apps_are_listed() -> None:
    watched = Watched()
    watched.varz.add_requests({f"app-{number:02}": number * 60 for number in range(1, 15)} | {"": 9999})
    top = watched.document()["top10_app_requests"]

    assert top[0] == {"application_id": "app-14", "rps": 14, "rpm": 840}
    assert [one["application_id"] for one in top] == [f"app-{number:02}" for number in range(14, 4, -1)]


async def test_totals_are_sampled_until_close() -> None:
    watched = Watched()
    await watched.varz.start()
    await watched.varz.close()
    await watched.varz.close()

    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_uptime_is_written_in_days_hours_minutes_and_seconds() -> None:
    assert uptime_text(5.9) == "0d:0h:0m:5s"


# The listener.


@pytest.fixture
async def status_url() -> AsyncIterator[str]:
    health = Health()
    health.enter(State.HEALTHY)
    watched = Watched()
    made = Admin()
    documents = {"/varz": watched.varz.document, "/routes": watched.registry.routes_json}
    port = await made.open_deprecated(
        health, documents, lambda: ("user", "pass"), "127.0.0.1", free_port(), key="status.port"
    )
    yield f"http://127.0.0.1:{port}"
    await made.close()


@pytest.mark.parametrize("path", ["/health", "/healthz"])
async def test_health_needs_no_credentials(status_url: str, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(status_url + path) as response:
        assert (response.status, await response.read()) == (200, b"ok\n")


@pytest.mark.parametrize("path", ["/varz", "/routes", "/", "/unknown"])
async def test_everything_else_does(status_url: str, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(status_url + path) as response:
        assert (response.status, await response.read()) == (401, b"401 Unauthorized\n")
        assert response.headers["WWW-Authenticate"] == "Basic"


@pytest.mark.parametrize(("path", "status"), [("/varz", 200), ("/routes", 200), ("/unknown", 404)])
async def test_documents_are_shown_to_who_knows_user_and_password(status_url: str, path: str, status: int) -> None:
    headers = {"Authorization": "Basic " + base64.b64encode(b"user:pass").decode()}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(status_url + path) as response:
        assert response.status == status
        if status == 200:
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["Connection"] == "close"
            assert isinstance(json.loads(await response.read()), dict)


# Announcements.


class Heard:
    """A subscriber with the component at work, and a client that hears what it says."""

    def __init__(self, server: NatsServer) -> None:
        self.url = f"nats://127.0.0.1:{server.port}"
        self.lines: list[Any] = []
        logger = Logger(sink=lambda line: self.lines.append(msgspec.json.decode(line)))
        config = Config(nats=Nats(hosts=[NatsHost(hostname="127.0.0.1", port=server.port)]))
        self.component = Component(Watched().varz.document, logger)
        self.subscriber = Subscriber(
            config, make_registry(config, logger), logger, on_changes=lambda: None, users=[self.component]
        )
        self.announced: list[Any] = []

    async def hear(self, message: Msg) -> None:
        self.announced.append(json.loads(message.data))

    def messages(self) -> Iterator[str]:
        return (line["message"] for line in self.lines)


async def test_router_announces_itself_and_is_discovered(nats_server: NatsServer) -> None:
    heard = Heard(nats_server)
    client = await nats.connect(heard.url)
    await client.subscribe(ANNOUNCE, cb=heard.hear)
    await settle(client)
    await heard.subscriber.connect()
    await heard.subscriber.start()
    await eventually(lambda: heard.announced, "the announcement")

    assert heard.announced[0]["uuid"] == "3-uuid"
    answer = await client.request(DISCOVER, b"", timeout=20)
    assert json.loads(answer.data)["type"] == "Router"
    await client.publish(DISCOVER, b"")
    await eventually(lambda: "component-discover-without-reply" in heard.messages(), "the line about no reply")
    await heard.subscriber.close()
    await client.close()


async def test_router_announces_itself_again_after_a_loss(nats_server: NatsServer) -> None:
    heard = Heard(nats_server)
    await heard.subscriber.connect()
    await heard.subscriber.start()
    nats_server.kill()
    await eventually(lambda: "nats-connection-disconnected" in heard.messages(), "the loss")
    nats_server.start()
    await eventually(lambda: "nats-connection-reconnected" in heard.messages(), "the return")
    client = await nats.connect(heard.url)

    assert json.loads((await client.request(DISCOVER, b"", timeout=20)).data)["uuid"] == "3-uuid"
    await heard.subscriber.close()
    await client.close()
