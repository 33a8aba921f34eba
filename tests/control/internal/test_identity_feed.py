"""The feed on a real nats-server, with a plain client as the agent, and on real files."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from router.config.internal import Internal, InternalIdentities
from router.config.sections import NatsHost
from router.control.internal.hub import InternalHub
from router.control.internal.identity_feed import ASK_AGAIN_S, IdentityFeed
from router.control.nats_link import Link, LinkError, LinkOptions, dial
from router.log import Logger
from router.registrar.identity_agent import IdentityAgent
from router.wire.identities import Workload
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, settle

ONE = {"ip": "10.255.1.2", "app": "a", "generation": 1}


class Cell:
    """A feed with its hub, its clock and its log."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1000.0
        self.lines: list[dict[str, Any]] = []
        self.hub = InternalHub(lambda: None)
        logger = Logger("router", sink=lambda line: self.lines.append(json.loads(line)))
        self.feed = IdentityFeed(
            self.config(**settings), self.hub.put, logger, router_id="0-router", clock=lambda: self.now
        )

    @staticmethod
    def config(**settings: Any) -> Internal:
        return Internal(
            container_networks=["10.255.0.0/16"],
            addresses=["10.255.0.53"],
            identities=InternalIdentities(**settings),
        )

    async def begin(self, link: Link) -> None:
        """Return when the feed is sure to hear: it answers a greeting."""
        await self.feed.begin(link)
        await link.client.request("router.identities.greet", b"", timeout=20)

    def apps(self) -> dict[str, str]:
        return {ip: identity.app for ip, identity in self.hub.table.identities.items()}

    async def until(self, apps: dict[str, str]) -> None:
        await eventually(lambda: self.apps() == apps, f"identities {apps}, not {self.apps()}")

    async def logged(self, message: str) -> dict[str, Any]:
        await eventually(lambda: [line for line in self.lines if line["message"] == message], message)
        fields: dict[str, Any] = [line for line in self.lines if line["message"] == message][-1]["data"]
        return fields


class Agent:
    """A plain client that says what it is told to, and hears what routers say."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.starts: list[Any] = []
        self._sequence = 0

    async def listen(self) -> None:
        async def take(message: Msg) -> None:
            self.starts.append(json.loads(message.data))

        await self.client.subscribe("router.identities.start", cb=take)
        await settle(self.client)

    async def say(self, verb: str, *workloads: dict[str, Any], agent: str = "cell-1", **fields: Any) -> None:
        self._sequence += 1
        message = {"agent": agent, "sequence": self._sequence, "workloads": list(workloads), **fields}
        await self.raw(verb, json.dumps(message).encode())

    async def raw(self, verb: str, payload: bytes) -> None:
        await self.client.publish(f"router.identities.{verb}", payload)
        await settle(self.client)


Connect = Callable[[], Awaitable[Link]]


@pytest.fixture
async def agent(nats_server: NatsServer) -> AsyncIterator[Agent]:
    async def ignore(_: Exception) -> None:
        """Tests kill the server on purpose; that is not news."""

    client = await nats.connect(
        f"nats://127.0.0.1:{nats_server.port}",
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,
        error_cb=ignore,
    )
    yield Agent(client)
    await client.close()


@pytest.fixture
async def connect(nats_server: NatsServer) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def make() -> Link:
            link = await dial(NatsHost(hostname="127.0.0.1", port=nats_server.port), LinkOptions(), lambda _: None)
            stack.push_async_callback(link.close)
            return link

        yield make


@pytest.fixture
async def cell() -> AsyncIterator[Cell]:
    made = Cell()
    await made.feed.start()
    yield made
    await made.feed.close()


async def test_agents_are_asked_for_what_they_have_and_told_how_often(
    cell: Cell, agent: Agent, connect: Connect
) -> None:
    await agent.listen()
    await cell.begin(await connect())
    await eventually(lambda: agent.starts, "the router's start")
    assert agent.starts == [{"router": "0-router", "interval": 40.0, "ttl": 120.0}]


async def test_greeting_is_answered(cell: Cell, agent: Agent, connect: Connect) -> None:
    await cell.begin(await connect())
    answer = await agent.client.request("router.identities.greet", b"", timeout=20)
    assert json.loads(answer.data)["ttl"] == 120.0
    await agent.raw("greet", b"")
    assert cell.feed.status.bad_messages == 0


async def test_put_drop_and_snapshot_reach_the_hub(cell: Cell, agent: Agent, connect: Connect) -> None:
    await cell.begin(await connect())
    await agent.say("put", ONE)
    await cell.until({"10.255.1.2": "a"})
    await agent.say("snapshot", {**ONE, "ip": "10.255.1.3"}, {**ONE, "ip": "10.255.1.4", "app": "b"})
    await cell.until({"10.255.1.3": "a", "10.255.1.4": "b"})
    await agent.say("drop", addresses=["10.255.1.3"])
    await cell.until({"10.255.1.4": "b"})
    status = cell.feed.status
    assert (status.identities, status.agents, status.messages, status.bad_messages) == (1, {"cell-1": 1}, 3, 0)


@pytest.mark.parametrize(
    ("verb", "payload"),
    [("put", b"{"), ("snapshot", b'{"agent": "x"}'), ("drop", b"[]"), ("other", b"{}"), ("put", b"\xff" * 5000)],
)
async def test_bad_message_is_logged_and_changes_nothing(
    cell: Cell, agent: Agent, connect: Connect, verb: str, payload: bytes
) -> None:
    await cell.begin(await connect())
    await agent.say("put", ONE)
    await agent.raw(verb, payload)
    fields = await cell.logged("identity-message-refused")
    assert fields["subject"] == f"router.identities.{verb}"
    assert fields["error"]
    assert len(fields["payload"]) <= 512
    assert cell.apps() == {"10.255.1.2": "a"}
    assert cell.feed.status.bad_messages == 1


async def test_identity_of_a_silent_agent_lapses(cell: Cell, agent: Agent, connect: Connect) -> None:
    await cell.begin(await connect())
    await agent.say("put", ONE)
    await cell.until({"10.255.1.2": "a"})
    cell.now += 120
    await cell.until({})


async def test_router_that_lost_nats_holds_identities_for_a_time_and_asks_when_it_is_back(
    cell: Cell, agent: Agent, connect: Connect, nats_server: NatsServer
) -> None:
    await cell.begin(await connect())
    await agent.say("put", ONE, {**ONE, "ip": "10.255.1.3"})
    await eventually(lambda: len(cell.apps()) == 2, "two identities")
    await agent.listen()

    nats_server.kill()
    cell.feed.lost()
    cell.now += 500
    nats_server.start()
    await cell.begin(await connect())
    await eventually(lambda: agent.client.is_connected, "the agent's own connection")
    assert len(cell.apps()) == 2
    assert (await cell.logged("identities-held"))["seconds_at_most"] == 720.0

    await agent.say("snapshot", ONE)
    await cell.until({"10.255.1.2": "a"})


async def test_identities_are_gone_when_nats_stays_away(cell: Cell, agent: Agent, connect: Connect) -> None:
    await cell.begin(await connect())
    await agent.say("put", ONE)
    await cell.until({"10.255.1.2": "a"})
    cell.feed.lost()
    cell.now += 719
    await asyncio.sleep(0)
    assert cell.apps() == {"10.255.1.2": "a"}
    cell.now += 1
    await cell.until({})


async def test_agents_are_asked_again_when_a_message_was_lost(cell: Cell, agent: Agent, connect: Connect) -> None:
    await agent.listen()
    await cell.begin(await connect())
    await agent.say("put", ONE)
    await agent.say("put", sequence=5)
    await eventually(lambda: cell.feed.status.messages == 2, "both messages")
    cell.now += ASK_AGAIN_S
    await eventually(lambda: len(agent.starts) == 2, "a second start")
    await agent.say("snapshot", sequence=6)
    await cell.until({})


async def test_conflicting_agents_are_seen_in_status_and_log(cell: Cell, agent: Agent, connect: Connect) -> None:
    await cell.begin(await connect())
    await agent.say("put", ONE, agent="cell-1")
    await agent.say("put", {**ONE, "app": "b"}, agent="cell-2")
    fields = await cell.logged("identity-conflict")
    assert [claim["agent"] for claim in fields["claims"]] == ["cell-1", "cell-2"]
    assert cell.feed.status.conflicts == ["10.255.1.2"]
    assert cell.apps() == {}


async def test_without_nats_in_the_configuration_agents_are_not_heard(agent: Agent, connect: Connect) -> None:
    cell = Cell(nats=False)
    await agent.listen()
    link = await connect()
    await cell.feed.begin(link)
    await link.publish("router.identities.start", b'"the last message of this link"')
    await eventually(lambda: agent.starts, "something")
    assert agent.starts == ["the last message of this link"]


async def test_lost_link_at_the_beginning_is_the_subscribers_to_mend(
    cell: Cell, connect: Connect, nats_server: NatsServer
) -> None:
    link = await connect()
    nats_server.kill()
    await link.wait_lost(20.0)
    with pytest.raises(LinkError):
        await cell.feed.begin(link)


async def test_real_agent_and_feed_understand_each_other(
    cell: Cell, nats_server: NatsServer, connect: Connect
) -> None:
    workloads = [
        Workload(ip=f"10.255.{high}.{low}", app=f"app-{high}") for high in range(1, 6) for low in range(250)
    ]
    async with IdentityAgent([f"nats://127.0.0.1:{nats_server.port}"], agent_id="cell-1") as agent:
        await agent.snapshot(workloads)
        await cell.begin(await connect())
        await eventually(lambda: len(cell.apps()) == len(workloads), "the whole snapshot")
        await agent.drop("10.255.3.1")
        await eventually(lambda: "10.255.3.1" not in cell.apps(), "the drop")
        await agent.snapshot(workloads[:3])
        await eventually(lambda: len(cell.apps()) == 3, "the smaller snapshot")
    assert cell.feed.status.bad_messages == 0


def replace(path: Path, text: str) -> None:
    whole = path.with_suffix(".new")
    whole.write_text(text)
    whole.replace(path)


def listed(**apps: str) -> str:
    return json.dumps({"workloads": [{"ip": f"10.255.1.{ip[1:]}", "app": app} for ip, app in apps.items()]})


async def test_file_is_in_force_once_the_feed_has_started_and_follows_its_changes(tmp_path: Path) -> None:
    path = tmp_path / "identities.yml"
    path.write_text(listed(_1="a", _2="b"))
    cell = Cell(file=str(path))
    await cell.feed.start()
    try:
        assert cell.apps() == {"10.255.1.1": "a", "10.255.1.2": "b"}
        replace(path, listed(_2="c"))
        await cell.until({"10.255.1.2": "c"})
        assert cell.feed.status.agents == {"identities file": 1}
    finally:
        await cell.feed.close()


async def test_bad_file_leaves_the_last_good_one_in_force_and_its_line_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "identities.yml"
    path.write_text(listed(_1="a"))
    cell = Cell(file=str(path))
    await cell.feed.start()
    try:
        replace(path, "workloads:\n  - ip: 10.255.1.9\n    ap: x\n")
        fields = await cell.logged("identities-file-not-read")
        assert fields["kept"] == 1
        assert "workloads[0].ap, line 3" in fields["error"]
        assert cell.feed.status.file_error == fields["error"]
        assert cell.apps() == {"10.255.1.1": "a"}

        replace(path, listed(_1="b"))
        await cell.until({"10.255.1.1": "b"})
        assert cell.feed.status.file_error == ""
    finally:
        await cell.feed.close()


async def test_missing_file_is_told_and_read_when_it_appears(tmp_path: Path) -> None:
    path = tmp_path / "identities.yml"
    cell = Cell(file=str(path))
    await cell.feed.start()
    try:
        assert str(path) in (await cell.logged("identities-file-not-read"))["error"]
        replace(path, listed(_1="a"))
        await cell.until({"10.255.1.1": "a"})
        path.unlink()
        await eventually(lambda: cell.feed.status.file_error, "the file is missed")
        assert cell.apps() == {"10.255.1.1": "a"}
    finally:
        await cell.feed.close()


async def test_address_in_the_file_that_is_no_containers_is_refused_alone(tmp_path: Path) -> None:
    path = tmp_path / "identities.yml"
    path.write_text(json.dumps({"workloads": [ONE, {"ip": "10.255.0.53", "app": "x"}, {"ip": "::1", "app": "y"}]}))
    cell = Cell(file=str(path))
    await cell.feed.start()
    await cell.feed.close()
    assert cell.apps() == {"10.255.1.2": "a"}
    assert (await cell.logged("identity-refused"))["reason"] == "not in a container network"


async def test_other_configuration_takes_effect_at_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yml", tmp_path / "two.yml"
    one.write_text(listed(_1="a", _2="b"))
    two.write_text(listed(_3="c", _4="d"))
    cell = Cell(file=str(one))
    await cell.feed.start()
    try:
        cell.feed.configure(Cell.config(file=str(one), excluded=["10.255.1.2"]))
        assert cell.apps() == {"10.255.1.1": "a"}
        cell.feed.configure(Cell.config(file=str(two), excluded=["10.255.1.4"]))
        await cell.until({"10.255.1.3": "c"})
        with pytest.raises(ValueError, match="nonsense"):
            cell.feed.configure(Cell.config(excluded=["nonsense"]))
        assert cell.apps() == {"10.255.1.3": "c"}
        cell.feed.configure(Cell.config())
        assert cell.apps() == {}
    finally:
        await cell.feed.close()
