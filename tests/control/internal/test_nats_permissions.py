"""docs/examples/nats-permissions.conf in a real nats-server: who may say what, and whether that is enough."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from router.config.internal import Internal, InternalPolicies
from router.config.sections import NatsHost
from router.control.internal.hub import InternalHub
from router.control.internal.identity_feed import IdentityFeed
from router.control.internal.policies_jetstream import PolicyBucket
from router.control.internal.policy_bucket import Bucket
from router.control.nats_link import LinkOptions, dial
from router.log import Logger
from router.registrar import Announcer, InternalRoute, Observer
from router.registrar.identity_agent import IdentityAgent
from router.registrar.observer import AgentObserver
from router.routing.internal_records import Policy
from router.wire.announcement import RouterStart, encode_start
from router.wire.discovery import DiscoveryStart
from router.wire.discovery import encode_start as encode_discovery_start
from router.wire.identities import Workload
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, settle

SAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "nats-permissions.conf"
USERS = ("router", "agent", "emitter", "registrar", "docker", "app")
REGISTRATIONS = ("router.register", "router.unregister", "router.greet")
NAMES = ("service-discovery.register", "service-discovery.unregister", "service-discovery.greet")
IDENTITIES = tuple(f"router.identities.{verb}" for verb in ("put", "drop", "snapshot", "greet"))
STARTS = ("router.start", "router.identities.start", "service-discovery.start")
POLICIES = ("$KV.network-policies.x", "router.policies.network-policies")
MAY_PUBLISH = {
    "router": {*STARTS, *POLICIES},
    "agent": {*IDENTITIES},
    "emitter": {*REGISTRATIONS, *NAMES},
    "registrar": {*REGISTRATIONS},
    "docker": {*REGISTRATIONS, *NAMES, *IDENTITIES},
    "app": set[str](),
}
SUBJECTS = (*REGISTRATIONS, *NAMES, *IDENTITIES, *STARTS, *POLICIES)
ROUTER_HEARS = ("router.*", "router.identities.*", "router.policies.network-policies", "service-discovery.*")


class User:
    """A client of the server, and what the server refused it."""

    def __init__(self, client: Client, refusals: list[str]) -> None:
        self.client = client
        self.refusals = refusals

    async def publish(self, *subjects: str) -> set[str]:
        """Publish on each, and return those that the server did not refuse."""
        # Refusals come in order; the last one, which is certain, tells that the others are there.
        for subject in (*subjects, "nobody.may"):
            await self.client.publish(subject, b"{}")
        await eventually(lambda: self._refused("nobody.may"), "the last refusal")
        return {subject for subject in subjects if not self._refused(subject)}

    def _refused(self, subject: str) -> bool:
        # The client passes the server's words on in lower case.
        return any(f'publish to "{subject.lower()}"' in refusal.lower() for refusal in self.refusals)


class Heard(Observer, AgentObserver):
    """Counts what routers say, to announcers and agents."""

    def __init__(self) -> None:
        self.routers = 0

    def router_heard(self, *_: object) -> None:
        self.routers += 1


Login = Callable[[str], Awaitable[User]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    arguments = ["--config", str(SAMPLE), "--jetstream", "--store_dir", str(tmp_path)]
    passwords = {f"{user.upper()}_PASSWORD": f"secret-of-{user}" for user in USERS}
    server = NatsServer(tmp_path, arguments=arguments, environment=passwords)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def login(server: NatsServer) -> AsyncIterator[Login]:
    async with AsyncExitStack() as stack:

        async def connect(user: str) -> User:
            refusals: list[str] = []

            async def refused(error: Exception) -> None:
                refusals.append(str(error))

            client = await nats.connect(
                f"nats://127.0.0.1:{server.port}",
                user=user,
                password=f"secret-of-{user}",
                error_cb=refused,
                allow_reconnect=False,
            )
            stack.push_async_callback(client.close)
            return User(client, refusals)

        yield connect


@pytest.mark.parametrize("user", USERS)
async def test_users_publish_what_is_theirs_and_nothing_else(user: str, login: Login) -> None:
    one = await login(user)
    assert await one.publish(*SUBJECTS) == MAY_PUBLISH[user]


async def test_router_hears_emitters_and_agents_and_app_is_not_heard(login: Login) -> None:
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    router = await login("router")
    for subject in ROUTER_HEARS:
        await router.client.subscribe(subject, cb=hear)
    await settle(router.client)
    for user, subject in (
        ("app", "router.identities.put"),
        ("app", "service-discovery.register"),
        ("agent", "router.identities.put"),
        ("emitter", "service-discovery.register"),
    ):
        await (await login(user)).publish(subject)

    await eventually(lambda: len(heard) >= 2, "messages of agent and emitter")
    assert sorted(heard) == ["router.identities.put", "service-discovery.register"]
    assert router.refusals == []


@pytest.mark.parametrize("subject", [*ROUTER_HEARS, ">", "_INBOX.>", "$KV.network-policies.>"])
async def test_app_may_not_listen(subject: str, login: Login) -> None:
    app = await login("app")
    await app.client.subscribe(subject)
    await settle(app.client)
    await eventually(lambda: app.refusals, f"a refusal of {subject}")


async def test_router_may_answer_greetings_on_any_subject_they_name(login: Login) -> None:
    router, emitter = await login("router"), await login("emitter")
    answered = asyncio.Event()

    async def answer(message: Msg) -> None:
        await message.respond(b"{}")

    async def take(_: Msg) -> None:
        answered.set()

    await router.client.subscribe("service-discovery.*", cb=answer)
    await settle(router.client)
    # Cloud Foundry's route-emitter names a bare UUID.
    await emitter.client.subscribe("7d3c1a2e-5f0b-4c59-9a30-4d0d5a0b3c11", cb=take)
    await emitter.client.publish("service-discovery.greet", b"", reply="7d3c1a2e-5f0b-4c59-9a30-4d0d5a0b3c11")

    await asyncio.wait_for(answered.wait(), 20)
    assert (router.refusals, emitter.refusals) == ([], [])


async def test_routers_keep_policies_and_nobody_else_may_read_them(login: Login, server: NatsServer) -> None:
    errors: list[Exception] = []
    options = LinkOptions(user="router", password="secret-of-router")
    hubs = [InternalHub(lambda: None) for _ in range(2)]
    stores = [PolicyBucket(InternalPolicies(), hub, Logger(sink=lambda _: None)) for hub in hubs]
    links = [await dial(NatsHost(hostname="127.0.0.1", port=server.port), options, errors.append) for _ in stores]
    try:
        for store, link in zip(stores, links, strict=True):
            await store.begin(link)
        for port in range(1, 5):
            await stores[port % 2].add([Policy("a", "b", "tcp", port, port)])
        await eventually(lambda: all(hub.table.allows("a", "b", "tcp", 4) for hub in hubs), "the policies")
        # What a store asks only from time to time.
        bucket = Bucket(links[0], "network-policies", 1)
        for part in await bucket.parts():
            await bucket.remove_part(part)
    finally:
        for store, link in zip(stores, links, strict=True):
            await store.close()
            await link.close()
    assert errors == []
    agent = await login("agent")
    assert await agent.publish("$JS.API.STREAM.MSG.GET.KV_network-policies") == set()


@pytest.mark.parametrize("user", ["agent", "docker"])
async def test_identity_agent_and_feed_have_all_they_need(user: str, server: NatsServer) -> None:
    errors: list[Exception] = []
    options = LinkOptions(user="router", password="secret-of-router")
    link = await dial(NatsHost(hostname="127.0.0.1", port=server.port), options, errors.append)
    hub = InternalHub(lambda: None)
    lines: list[bytes] = []
    feed = IdentityFeed(
        Internal(container_networks=["10.255.0.0/16"]), hub.put, Logger("router", sink=lines.append)
    )
    heard = Heard()
    try:
        await feed.begin(link)
        url = f"nats://{user}:secret-of-{user}@127.0.0.1:{server.port}"
        async with IdentityAgent([url], agent_id="cell-1", observer=heard) as agent:
            await agent.put(Workload(ip="10.255.1.2", app="a"))
            await eventually(lambda: "10.255.1.2" in hub.table.identities, "the identity")
            await eventually(lambda: heard.routers, "the router's answer")
    finally:
        await link.close()
    assert errors == []


@pytest.mark.parametrize("user", ["emitter", "registrar", "docker"])
async def test_announcer_has_all_it_needs(user: str, login: Login, server: NatsServer) -> None:
    router = await login("router")
    heard = Heard()

    async def answer(message: Msg) -> None:
        if message.subject == "router.greet":
            start = RouterStart(id="0-x", hosts=[], minimum_register_interval_s=20, prune_threshold_s=120)
            await message.respond(encode_start(start))

    await router.client.subscribe("router.*", cb=answer)
    await settle(router.client)
    async with Announcer([f"nats://{user}:secret-of-{user}@127.0.0.1:{server.port}"], observer=heard):
        await eventually(lambda: heard.routers, "the router's answer")
    assert router.refusals == []


@pytest.mark.parametrize("user", ["emitter", "docker"])
async def test_announcer_of_internal_names_has_all_it_needs(user: str, login: Login, server: NatsServer) -> None:
    router = await login("router")
    said: list[str] = []

    async def hear(message: Msg) -> None:
        said.append(message.subject)

    await router.client.subscribe("service-discovery.*", cb=hear)
    await settle(router.client)
    async with Announcer([f"nats://{user}:secret-of-{user}@127.0.0.1:{server.port}"]) as announcer:
        await announcer.announce(InternalRoute(ip="10.255.1.2", names=("a.apps.internal",)))
        await eventually(lambda: {*NAMES[::2]} <= {*said}, "the greeting and the name")
        start = DiscoveryStart(id="0-x", host="", minimum_register_interval_s=7, prune_threshold_s=120)
        await router.client.publish("service-discovery.start", encode_discovery_start(start))
        await eventually(lambda: said.count("service-discovery.register") >= 2, "the name again")
    await eventually(lambda: "service-discovery.unregister" in said, "the withdrawal")
    assert router.refusals == []
