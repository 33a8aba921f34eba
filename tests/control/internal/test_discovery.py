"""Internal names heard through a real nats-server, over the router's own connection to it."""

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from router.config.internal import Internal, InternalDiscovery, InternalDomain
from router.config.schema import Config
from router.config.sections import Nats, NatsHost
from router.control.internal.discovery import Discovery
from router.control.internal.hub import InternalHub
from router.control.nats_link import LinkOptions, dial
from router.control.registry_log import make_registry
from router.control.subscriber import Subscriber
from router.log import Logger
from router.routing.internal_records import DropName, PutName, SetInternalState
from router.wire.discovery import GREET, REGISTER, START, UNREGISTER, NameRegistration, decode_start
from router.wire.discovery import encode_registration as encode
from tests.support.eventually import eventually
from tests.support.nats import Connect, NatsServer, settle

NAME = "x.apps.internal"
A, B = "10.255.1.1", "10.255.1.2"
NEVER = 86400.0

Hear = Callable[..., Awaitable["Hearing"]]


class Hearing:
    """Internal names as control has them, heard over a subscriber's connection."""

    def __init__(self, server: NatsServer, *, networks: bool = True, **times: float) -> None:
        internal = Internal(
            domains=[InternalDomain(name="Apps.Internal.")],
            container_networks=["10.255.0.0/16"] if networks else [],
            addresses=["10.255.0.1"],
            discovery=InternalDiscovery(**{"warm_duration": 0.0, "pruning_interval": NEVER, **times}),
        )
        config = Config(
            nats=Nats(hosts=[NatsHost(hostname="127.0.0.1", port=server.port)]),
            internal=internal,
            start_response_delay_interval=0.0,
        )
        self.lines: list[Any] = []
        self.now = 1000.0
        self.broken_clock = False
        self._looks = 0
        logger = Logger(sink=lambda line: self.lines.append(msgspec.json.decode(line)))
        self.hub = InternalHub(lambda: None)
        self.discovery = Discovery(
            internal, self.hub, logger, router_id="0-id", router_ip="10.255.0.2", clock=self._clock
        )
        self.registry = make_registry(config, logger)
        self.subscriber = Subscriber(
            config,
            self.registry,
            logger,
            on_changes=lambda: None,
            rng=random.Random(1),
            router_ip="10.255.0.2",
            users=[self.discovery],
        )

    async def begin(self) -> None:
        await self.discovery.start()
        await self.subscriber.connect()
        await self.subscriber.start()

    async def close(self) -> None:
        await self.subscriber.close()
        await self.discovery.close()

    def _clock(self) -> float:
        if self.broken_clock:
            raise RuntimeError("no time")
        self._looks += 1
        return self.now

    async def look_at_the_clock(self, times: int) -> None:
        """Wait until that was done so often, once for each prune pass."""
        wanted = self._looks + times
        await eventually(lambda: self._looks >= wanted, "prune passes")

    def names(self) -> dict[str, list[str]]:
        return {name: [entry.ip for entry in found] for name, found in self.hub.table.names.items()}

    def logged(self, message: str) -> list[Any]:
        return [line["data"] for line in self.lines if line["message"] == message]


@pytest.fixture
async def hear(nats_server: NatsServer) -> AsyncIterator[Hear]:
    """Makes routers that hear names through `nats_server`."""
    made: list[Hearing] = []

    async def begun(**settings: Any) -> Hearing:
        hearing = Hearing(nats_server, **settings)
        made.append(hearing)
        await hearing.begin()
        return hearing

    yield begun
    for hearing in made:
        await hearing.close()


def at(ip: str, *names: str, **fields: Any) -> bytes:
    return encode(NameRegistration(ip=ip, names=names or (NAME,), **fields))


async def publish(client: Client, subject: str, *payloads: bytes) -> None:
    for payload in payloads:
        await client.publish(subject, payload)
    await settle(client)


# Messages.


async def test_registration_reaches_control_and_the_workers(hear: Hear, connect: Connect) -> None:
    hearing = await hear()
    await publish(await connect(), REGISTER, at(A, NAME, f"0.{NAME}", app="app", index="0"))
    await eventually(lambda: hearing.names() == {NAME: [A], f"0.{NAME}": [A]}, "both names")
    put = [change for change in hearing.hub.take_changes() if isinstance(change, PutName)]
    assert [change.name for change in put] == [NAME, f"0.{NAME}"]


async def test_messages_take_effect_in_order(hear: Hear, connect: Connect) -> None:
    hearing = await hear()
    client = await connect()
    for number in range(200):
        await publish(client, REGISTER, at(A, updated_at_ns=number + 1))
        await publish(client, UNREGISTER, at(A))
    await publish(client, REGISTER, at(B))
    await eventually(lambda: B in hearing.names().get(NAME, []), "the last registration")
    assert hearing.names() == {NAME: [B]}
    changes = hearing.hub.take_changes()
    assert len([change for change in changes if isinstance(change, DropName)]) == 200


async def test_repeated_announcements_are_not_told_to_workers(hear: Hear, connect: Connect) -> None:
    hearing = await hear()
    await publish(await connect(), REGISTER, *[at(A)] * 100)
    await eventually(lambda: hearing.discovery.status.messages == 100, "all messages")
    assert [change for change in hearing.hub.take_changes() if isinstance(change, PutName)] == [
        PutName(NAME, hearing.hub.table.names[NAME])
    ]


async def test_bad_messages_harm_nobody_and_are_logged(hear: Hear, connect: Connect) -> None:
    hearing = await hear()
    client = await connect()
    await publish(client, REGISTER, b"{bad", b'{"host":"localhost","uris":["x.apps.internal"]}', at(A))
    await publish(client, UNREGISTER, b"[]")
    await eventually(lambda: hearing.discovery.status.messages == 4, "all messages")
    assert hearing.names() == {NAME: [A]}
    malformed = hearing.logged("internal-name-message-malformed")
    assert [line["subject"] for line in malformed] == [REGISTER, REGISTER, UNREGISTER]
    assert malformed[1]["error"] == "host: not an IP address: 'localhost'"
    assert malformed[1]["payload"] == '{"host":"localhost","uris":["x.apps.internal"]}'
    assert hearing.discovery.status.bad_messages == 3


@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        ("192.0.2.7", "not in a container network"),
        ("127.0.0.1", "not in a container network"),
        ("169.254.169.254", "not in a container network"),
        ("10.255.0.1", "an address of this router"),
        ("10.255.0.2", "an address of this router"),
    ],
)
async def test_addresses_that_are_no_containers_are_refused(
    hear: Hear, connect: Connect, ip: str, reason: str
) -> None:
    hearing = await hear()
    await publish(await connect(), REGISTER, at(ip))
    await eventually(lambda: hearing.logged("internal-name-refused"), "the refusal")
    assert hearing.logged("internal-name-refused")[0]["reason"] == reason
    assert hearing.discovery.status.refusals == {reason: 1}
    assert hearing.names() == {}


async def test_public_and_internal_names_keep_to_their_own_subjects(hear: Hear, connect: Connect) -> None:
    hearing = await hear()
    client = await connect()
    await publish(client, REGISTER, at(A, "public.example.com"))
    route = {"host": "10.0.0.1", "port": 80, "uris": ["x.apps.internal", "public.example.com"]}
    await publish(client, "router.register", json.dumps(route).encode())
    await eventually(lambda: hearing.registry.total_routes and hearing.discovery.status.messages, "both")
    assert list(msgspec.json.decode(b"".join(hearing.registry.routes_json()))) == ["public.example.com"]
    assert hearing.names() == {}
    assert hearing.logged("internal-name-not-public")[0]["uri"] == "x.apps.internal"
    assert hearing.logged("internal-name-refused")[0]["names"] == ["public.example.com"]


async def test_missing_container_networks_are_told_at_the_start(hear: Hear, connect: Connect) -> None:
    hearing = await hear(networks=False)
    assert hearing.logged("internal-names-all-refused") == [{"reason": "internal.container_networks is empty"}]
    await publish(await connect(), REGISTER, at(A))
    await eventually(lambda: hearing.logged("internal-name-refused"), "the refusal")
    assert hearing.names() == {}


# Greetings.


async def test_announcements_are_asked_for_once_they_can_be_heard(hear: Hear, connect: Connect) -> None:
    client = await connect()
    starts: list[Msg] = []

    async def announce(message: Msg) -> None:
        starts.append(message)
        await client.publish(REGISTER, at(A))

    await client.subscribe(START, cb=announce)
    await settle(client)
    hearing = await hear(register_interval=90.5, staleness_threshold=200.5)
    await eventually(lambda: hearing.names() == {NAME: [A]}, "the answer to start")
    start = decode_start(starts[0].data)
    assert (start.id, start.host) == ("0-id", "10.255.0.2")
    assert (start.minimum_register_interval_s, start.prune_threshold_s) == (90, 201)


async def test_greeting_is_answered_while_names_are_cold(hear: Hear, connect: Connect) -> None:
    hearing = await hear(warm_duration=NEVER)
    client = await connect()
    answer = await client.request(GREET, b"", timeout=10)
    assert decode_start(answer.data).minimum_register_interval_s == 60
    assert not hearing.hub.table.names_warm


async def test_interval_of_nothing_is_never_asked_for(hear: Hear, connect: Connect) -> None:
    await hear(register_interval=0.0)
    answer = await (await connect()).request(GREET, b"", timeout=10)
    assert decode_start(answer.data).minimum_register_interval_s == 1


async def test_greeting_without_a_reply_subject_is_ignored(hear: Hear, connect: Connect) -> None:
    hearing = await hear()
    client = await connect()
    await publish(client, GREET, b"")
    await publish(client, REGISTER, at(A))
    await eventually(lambda: hearing.names() == {NAME: [A]}, "the registration after it")
    assert hearing.logged("nats-connection-error") == []


# Time.


async def test_names_become_warm_in_time(hear: Hear) -> None:
    hearing = await hear(warm_duration=0.05)
    await eventually(lambda: hearing.hub.table.names_warm, "names are warm")
    assert hearing.hub.take_changes() == [SetInternalState(False, True)]
    assert hearing.logged("internal-names-warm") == [{"names": 0}]
    assert hearing.discovery.status.warm


async def test_names_do_not_warm_without_nats_and_stay_warm_without_it(
    hear: Hear, nats_server: NatsServer
) -> None:
    hearing = await hear(warm_duration=60.0)
    hearing.now += 59.99
    nats_server.kill()
    await eventually(lambda: not hearing.discovery.status.heard, "the loss")
    hearing.now += 500.0
    assert not hearing.hub.table.names_warm
    nats_server.start()
    await eventually(lambda: hearing.hub.table.names_warm, "the rest of warming")
    nats_server.kill()
    await eventually(lambda: not hearing.discovery.status.heard, "the second loss")
    assert hearing.hub.table.names_warm
    assert [line["warm"] for line in hearing.logged("internal-names-held")] == [False, True]


async def test_instances_not_heard_of_are_forgotten(hear: Hear, connect: Connect) -> None:
    hearing = await hear(pruning_interval=0.01)
    client = await connect()
    await publish(client, REGISTER, at(A))
    await eventually(lambda: hearing.names() == {NAME: [A]}, "the registration")
    hearing.now += 100.0
    await publish(client, REGISTER, at(B))
    await eventually(lambda: hearing.names() == {NAME: [A, B]}, "the second registration")
    hearing.now += 100.0
    await eventually(lambda: hearing.names() == {NAME: [B]}, "the first is stale")
    assert hearing.discovery.status.stale == 1


async def test_nothing_is_forgotten_while_nats_is_away(
    hear: Hear, connect: Connect, nats_server: NatsServer
) -> None:
    hearing = await hear(pruning_interval=0.01)
    await publish(await connect(), REGISTER, at(A), at(B))
    await eventually(lambda: hearing.names() == {NAME: [A, B]}, "the registrations")
    nats_server.kill()
    await eventually(lambda: not hearing.discovery.status.heard, "the loss")
    hearing.now += 10_000.0
    await hearing.look_at_the_clock(3)
    assert hearing.names() == {NAME: [A, B]}
    nats_server.start()
    await eventually(lambda: hearing.discovery.status.heard, "the return")
    await publish(await connect(), REGISTER, at(B))
    await eventually(lambda: hearing.discovery.status.messages == 3, "the registration after it")
    hearing.now += 59.0
    await hearing.look_at_the_clock(3)
    assert hearing.names() == {NAME: [A, B]}
    hearing.now += 1.0
    await eventually(lambda: hearing.names() == {NAME: [B]}, "what was not announced again is forgotten")


async def test_every_fresh_link_asks_for_announcements(nats_server: NatsServer, connect: Connect) -> None:
    client = await connect()
    starts: list[Msg] = []

    async def hear_start(message: Msg) -> None:
        starts.append(message)

    await client.subscribe(START, cb=hear_start)
    await settle(client)
    discovery = Hearing(nats_server).discovery
    for count in (1, 2):
        link = await dial(NatsHost(hostname="127.0.0.1", port=nats_server.port), LinkOptions(), lambda error: None)
        await discovery.begin(link)
        await eventually(lambda: len(starts) == count, "start")  # noqa: B023
        await link.close()
        discovery.lost()
    await discovery.close()


async def test_pass_that_fails_is_not_the_last_one(hear: Hear, connect: Connect) -> None:
    hearing = await hear(pruning_interval=0.01)
    await publish(await connect(), REGISTER, at(A))
    await eventually(lambda: hearing.names() == {NAME: [A]}, "the registration")
    hearing.broken_clock = True
    await eventually(lambda: hearing.logged("internal-names-prune-failed"), "the failure")
    hearing.broken_clock = False
    hearing.now += 1000.0
    await eventually(lambda: hearing.names() == {}, "the next pass")


async def test_close_is_harmless_without_start(nats_server: NatsServer) -> None:
    hearing = Hearing(nats_server)
    await hearing.discovery.close()
    hearing.discovery.lost()
    assert hearing.lines == []
