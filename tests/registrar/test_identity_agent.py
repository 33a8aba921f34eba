"""The agent against a real nats-server, heard by a plain client as a router would hear it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from router.registrar.bus import BusUnavailable
from router.registrar.identity_agent import BATCH, IdentityAgent
from router.registrar.observer import AgentObserver
from router.wire.identities import IdentitiesStart, IdentityError, Workload, encode
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, settle
from tests.support.ports import free_port

ONE = Workload(ip="10.255.1.2", app="a", instance="i", generation=5, ports=(5000,))
TWO = Workload(ip="10.255.1.3", app="b")


class Heard:
    """Everything agents say, in order; speaks as a router too."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.greetings: list[str] = []

    async def take(self, message: Msg) -> None:
        verb = message.subject.removeprefix("router.identities.")
        if verb == "greet":
            self.greetings.append(message.reply)
        elif verb != "start":
            self.messages.append((verb, json.loads(message.data)))

    def said(self, verb: str) -> list[dict[str, Any]]:
        return [body for each, body in self.messages if each == verb]

    def ips(self) -> list[set[str]]:
        """Return the addresses of each snapshot."""
        return [{workload["ip"] for workload in body["workloads"]} for body in self.said("snapshot")]

    async def start(self, interval: float = 40.0, subject: str = "router.identities.start") -> None:
        await self.client.publish(subject, encode(IdentitiesStart(router="0-x", interval=interval, ttl=120.0)))
        await settle(self.client)


class Recording(AgentObserver):
    def __init__(self) -> None:
        self.events: list[str] = []

    def connected(self, server: str) -> None:
        self.events.append(f"connected {server}")

    def disconnected(self, reason: str) -> None:
        self.events.append("disconnected")

    def router_heard(self, start: IdentitiesStart) -> None:
        self.events.append(f"router {start.router}")

    def no_router_answered(self) -> None:
        self.events.append("nobody")


@pytest.fixture
async def heard(nats_server: NatsServer) -> AsyncIterator[Heard]:
    async def ignore(_: Exception) -> None:
        """Tests kill the server on purpose; that is not news."""

    client = await nats.connect(
        f"nats://127.0.0.1:{nats_server.port}",
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,
        error_cb=ignore,
    )
    made = Heard(client)
    await client.subscribe("router.identities.*", cb=made.take)
    await settle(client)
    yield made
    await client.close()


def make(server: NatsServer, **options: Any) -> IdentityAgent:
    return IdentityAgent([f"nats://127.0.0.1:{server.port}"], agent_id="cell-7", **options)


async def test_agent_begins_with_a_snapshot_and_a_greeting(nats_server: NatsServer, heard: Heard) -> None:
    async with make(nats_server, wall_clock_us=lambda: 100):
        await eventually(lambda: heard.greetings, "the greeting")
    assert heard.messages == [
        ("snapshot", {"agent": "cell-7", "sequence": 101, "ttl": 120.0, "first": 101, "workloads": []})
    ]


async def test_put_and_drop_are_said_at_once_in_the_order_of_their_sequence(
    nats_server: NatsServer, heard: Heard
) -> None:
    async with make(nats_server) as agent:
        assert await agent.put(ONE, TWO)
        assert await agent.drop("::ffff:10.255.1.3")
        await eventually(lambda: heard.said("drop"), "the drop")
        assert agent.workloads == [ONE]
    assert heard.said("drop")[0]["addresses"] == ["10.255.1.3"]
    assert heard.said("put")[0]["workloads"] == [
        {"ip": "10.255.1.2", "app": "a", "instance": "i", "generation": 5, "ports": [5000]},
        {"ip": "10.255.1.3", "app": "b"},
    ]
    sequences = [body["sequence"] for _, body in heard.messages]
    assert sequences == list(range(sequences[0], sequences[0] + 3))


async def test_everything_is_said_again_before_its_time_is_over(nats_server: NatsServer, heard: Heard) -> None:
    async with make(nats_server, ttl_s=1.5) as agent:
        assert agent.interval_s == 0.5
        await agent.put(ONE)
        await eventually(lambda: heard.ips().count({ONE.ip}) >= 2, "two repetitions")
    assert heard.said("snapshot")[-1]["ttl"] == 1.5


async def test_router_that_starts_hears_a_snapshot(nats_server: NatsServer, heard: Heard) -> None:
    async with make(nats_server) as agent:
        await agent.snapshot([ONE, TWO])
        before = len(heard.said("snapshot"))
        await heard.start()
        await eventually(lambda: len(heard.said("snapshot")) > before, "another snapshot")
    assert heard.ips()[-1] == {ONE.ip, TWO.ip}


async def test_router_may_ask_for_more_frequent_repetition_and_not_for_less(
    nats_server: NatsServer, heard: Heard
) -> None:
    observer = Recording()
    async with make(nats_server, observer=observer) as agent:
        await eventually(lambda: heard.greetings, "the greeting")
        await heard.start(interval=2.0, subject=heard.greetings[0])
        await eventually(lambda: agent.interval_s == 2.0, "the router's interval")
        await heard.start(interval=300.0)
        await eventually(lambda: observer.events.count("router 0-x") == 2, "the second router")
        assert agent.interval_s == 40.0


async def test_what_is_not_a_routers_word_is_passed_over(nats_server: NatsServer, heard: Heard) -> None:
    async with make(nats_server) as agent:
        await heard.client.publish("router.identities.start", b'{"interval": 0}')
        await heard.start(interval=3.0)
        await eventually(lambda: agent.interval_s == 3.0, "the second start")


async def test_large_snapshot_is_several_messages_and_the_last_one_names_the_first(
    nats_server: NatsServer, heard: Heard
) -> None:
    count = 2 * BATCH + 1
    workloads = [Workload(ip=f"10.255.{number // 250}.{number % 250}", app="a") for number in range(count)]
    async with make(nats_server) as agent:
        await agent.snapshot(workloads)
        await eventually(lambda: len(heard.said("snapshot")) == 2, "the snapshot")
    parts = [*heard.said("put"), heard.said("snapshot")[-1]]
    assert [len(part["workloads"]) for part in parts] == [BATCH, BATCH, 1]
    assert parts[-1]["first"] == parts[0]["sequence"]


async def test_message_never_exceeds_what_a_server_takes(nats_server: NatsServer, heard: Heard) -> None:
    text = "x" * 255
    ports = tuple(range(10_000, 11_000))
    workloads = [
        Workload(ip=f"10.255.1.{number}", app=text, space=text, organization=text, instance=text, ports=ports)
        for number in range(200)
    ]
    async with make(nats_server) as agent:
        assert await agent.put(*workloads)
        await eventually(lambda: sum(len(body["workloads"]) for body in heard.said("put")) == 200, "all of them")
        assert agent.connected


async def test_after_nats_was_away_the_whole_set_is_said(nats_server: NatsServer, heard: Heard) -> None:
    observer = Recording()
    async with make(nats_server, observer=observer) as agent:
        await agent.put(ONE)
        nats_server.kill()
        await eventually(lambda: "disconnected" in observer.events, "the loss")
        assert not await agent.put(TWO)
        assert not await agent.drop(ONE.ip)
        before = len(heard.said("snapshot"))
        nats_server.start()
        await eventually(lambda: agent.connected and heard.client.is_connected, "new connections")
        # The listener may have come back after the agent's snapshot.
        await heard.start()
        await eventually(lambda: len(heard.said("snapshot")) > before, "a snapshot")
    assert heard.ips()[-1] == {TWO.ip}


async def test_leaving_takes_nothing_back(nats_server: NatsServer, heard: Heard) -> None:
    async with make(nats_server) as agent:
        await agent.put(ONE)
    await settle(heard.client)
    assert heard.said("drop") == []
    assert set() not in heard.ips()[1:]


async def test_sequence_of_an_agent_that_was_started_again_goes_on_growing(
    nats_server: NatsServer, heard: Heard
) -> None:
    for _ in range(2):
        async with make(nats_server) as agent:
            await agent.put(ONE)
    await eventually(lambda: len(heard.messages) == 4, "messages of both")
    sequences = [body["sequence"] for _, body in heard.messages]
    assert sequences == sorted(set(sequences))


@pytest.mark.parametrize(
    "workload",
    [
        Workload(ip="nowhere", app="a"),
        Workload(ip="10.0.0.1", app=""),
        Workload(ip="10.0.0.1", app="a", ports=(0,)),
        Workload(ip="10.0.0.1", app="a", index="0\n"),
        Workload(ip="10.0.0.1", app="a", generation=-1),
        Workload(ip="10.0.0.1", app=7),  # type: ignore[arg-type]
    ],
)
async def test_malformed_workload_is_refused_and_nothing_said(
    nats_server: NatsServer, heard: Heard, workload: Workload
) -> None:
    async with make(nats_server) as agent:
        with pytest.raises(IdentityError):
            await agent.put(ONE, workload)
        with pytest.raises(IdentityError):
            await agent.snapshot([ONE, workload])
        assert agent.workloads == []
    assert heard.said("put") == []


async def test_same_address_twice_is_refused_also_across_messages(nats_server: NatsServer) -> None:
    others = [
        Workload(ip=f"10.255.{number // 250}.{number % 250}", app="a") for number in range(1000, 1000 + BATCH)
    ]
    async with make(nats_server) as agent:
        with pytest.raises(IdentityError, match="twice"):
            await agent.put(ONE, *others, ONE)
        with pytest.raises(IdentityError):
            await agent.drop("nowhere")


@pytest.mark.parametrize(
    ("servers", "agent_id"), [([], "cell-1"), (["http://x"], "cell-1"), (["nats://x"], ""), (["nats://x"], "a b")]
)
async def test_malformed_server_or_name_is_an_error_before_anything_is_tried(
    servers: list[str], agent_id: str
) -> None:
    with pytest.raises(ValueError, match=r"."):
        IdentityAgent(servers, agent_id=agent_id)


async def test_agent_without_a_server_says_so() -> None:
    agent = IdentityAgent([f"nats://127.0.0.1:{free_port()}"], agent_id="cell-1", connect_timeout_s=2.0)
    with pytest.raises(BusUnavailable):
        async with agent:
            pass
    await agent.close()


async def test_entering_need_not_wait_for_nats(nats_server: NatsServer, heard: Heard) -> None:
    nats_server.kill()
    agent = make(nats_server, connect_timeout_s=None)
    await agent.snapshot([ONE])
    async with agent:
        assert not agent.connected
        nats_server.start()
        await eventually(lambda: agent.connected and heard.client.is_connected, "both are connected")
        await heard.start()
        await eventually(lambda: {ONE.ip} in heard.ips(), "the snapshot")


async def test_silence_of_all_routers_is_told(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.registrar.identity_agent.GREET_PATIENCE_S", 0.05)
    observer = Recording()
    async with make(nats_server, observer=observer):
        await eventually(lambda: "nobody" in observer.events, "the end of patience")


async def test_put_and_snapshot_at_once_leave_nothing_out(nats_server: NatsServer, heard: Heard) -> None:
    workloads = [Workload(ip=f"10.255.{number // 250}.{number % 250}", app="a") for number in range(BATCH + 1)]
    extra = [Workload(ip=f"10.255.200.{number}", app="b") for number in range(20)]
    async with make(nats_server) as agent:
        await agent.snapshot(workloads)
        await asyncio.gather(heard.start(), *(agent.put(each) for each in extra), agent.drop(workloads[0].ip))
        await agent.snapshot(agent.workloads)
        assert len(agent.workloads) == BATCH + 20
    sequences = [body["sequence"] for _, body in heard.messages]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
