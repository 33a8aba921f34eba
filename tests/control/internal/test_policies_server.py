"""Against a policy server that speaks TLS and demands client certificates."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from router.certs import Pair, issue, make_ca
from router.config.internal import InternalPolicies, PolicyApi, PolicyServerSource
from router.control.internal.hub import InternalHub
from router.control.internal.policies_server import PolicyServer
from router.control.internal.policy_api import PolicyApi as Api
from router.control.internal.policy_store import PolicyStoreError
from router.control.internal.server_tls import server_context
from router.log import Logger
from router.tls import TlsError
from tests.support.bucket import policy
from tests.support.eventually import eventually
from tests.support.policies import MemoryStore
from tests.support.ports import free_port

CA = make_ca("policy server")
SERVER = issue(CA, ["127.0.0.1"], rsa_key=True)
CLIENT = issue(CA, ["router"], client=True, server=False)
STRANGER = issue(make_ca("others"), ["router"], client=True, server=False)


def said(
    source: str, destination: str, start: int = 80, end: int = 80, /, *, protocol: str = "tcp", **tags: str
) -> Any:
    """Return a policy as the server writes it."""
    return {
        "source": {"id": source, "tag": tags.get("source", "0001")},
        "destination": {
            "id": destination,
            "tag": tags.get("destination", "0002"),
            "protocol": protocol,
            "ports": {"start": start, "end": end},
        },
    }


class Server:
    """A policy server that says what a test lets it say, and notes what it is asked."""

    def __init__(self) -> None:
        self.port = free_port()
        self.policies: list[Any] | None = []
        self.updated: Any = 1
        self.asked: list[str] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/networking/v1/internal/policies_last_updated", self._last_updated)
        app.router.add_get("/networking/v1/internal/policies", self._policies)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        context = server_context("", SERVER.certificate, SERVER.private_key, client_ca=CA.pair.certificate)
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context).start()

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _last_updated(self, _: web.Request) -> web.Response:
        self.asked.append("date")
        if isinstance(self.updated, int):
            return web.Response(text=str(self.updated))
        return web.Response(status=500, text='{"error": "getting policies last updated failed"}')

    async def _policies(self, _: web.Request) -> web.Response:
        self.asked.append("policies")
        if self.policies is None:
            return web.Response(status=500, text='{"error": "database read failed"}')
        return web.json_response({"total_policies": len(self.policies), "policies": self.policies})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def polling(
    port: int, *, client: Pair = CLIENT, keep: float = 600.0, log: Callable[[bytes], None] = lambda _: None
) -> AsyncIterator[tuple[PolicyServer, InternalHub]]:
    hub = InternalHub(lambda: None)
    source = PolicyServerSource(
        url=f"https://127.0.0.1:{port}/",
        poll_interval=0.01,
        ca_certs=CA.pair.certificate,
        cert_chain=client.certificate,
        private_key=client.private_key,
    )
    config = InternalPolicies(source="policy_server", policy_server=source, keep=keep)
    store = PolicyServer(config, hub, Logger(sink=log))
    await store.start()
    try:
        yield store, hub
    finally:
        await store.close()
        await store.close()


async def test_policies_and_tags_are_the_servers(server: Server) -> None:
    server.policies = [
        said("a", "b", 5000, 5010, source="0011", destination="00FE"),
        said("a", "c", protocol="udp", source="0011", destination="?"),
    ]
    server.updated = 1700000000000001000
    async with polling(server.port) as (store, hub):
        await eventually(lambda: hub.table.policies_ready, "the policies to be read")
        assert store.policies == [policy("a", "b", 5000, 5010), policy("a", "c", protocol="udp")]
        assert store.tags == {"a": 0x11, "b": 0xFE}
        assert store.last_updated_ns == 1700000000000001000
        assert (store.status()["state"], store.status()["policies"]) == ("current", 2)


async def test_the_set_is_fetched_only_when_its_date_changes(server: Server) -> None:
    server.policies = [said("a", "b")]
    async with polling(server.port) as (store, hub):
        await eventually(lambda: server.asked.count("date") > 5, "several polls")
        assert server.asked.count("policies") == 1
        server.policies = [said("c", "d")]
        server.updated = 2
        await eventually(lambda: store.policies == [policy("c", "d")], "the new policies")
        assert not hub.table.allows("a", "b", "tcp", 80)
        server.policies = [said("e", "f")]
        # A restored database: the date goes back.
        server.updated = 1
        await eventually(lambda: store.policies == [policy("e", "f")], "the old policies")


async def test_the_set_is_fetched_every_time_while_there_is_no_date(server: Server) -> None:
    server.policies = [said("a", "b")]
    server.updated = None
    async with polling(server.port) as (store, _):
        await eventually(lambda: server.asked.count("policies") > 3, "several fetches")
        assert store.policies == [policy("a", "b")]
        server.policies = []
        await eventually(lambda: store.policies == [], "the new policies")
        assert store.status()["state"] == "current"


async def test_a_failed_fetch_is_repeated_whatever_the_date(server: Server) -> None:
    server.policies = [said("a", "b")]
    async with polling(server.port) as (store, hub):
        await eventually(lambda: hub.table.policies_ready, "the policies to be read")
        server.policies, server.updated = None, 2
        await eventually(lambda: store.status()["state"] == "lost", "the failure to be noted")
        assert "policies answers 500" in store.status()["error"]
        assert hub.table.allows("a", "b", "tcp", 80)
        server.policies = [said("c", "d")]
        await eventually(lambda: store.policies == [policy("c", "d")], "the new policies")


async def test_a_server_that_is_away_is_denied_after_a_time_and_back_at_once(server: Server) -> None:
    server.policies = [said("a", "b")]
    async with polling(server.port, keep=0.05) as (store, hub):
        await eventually(lambda: hub.table.policies_ready, "the policies to be read")
        await server.stop()
        await eventually(lambda: not hub.table.policies_ready, "the policies to expire")
        assert store.status()["state"] == "expired"
        await server.start()
        await eventually(lambda: hub.table.allows("a", "b", "tcp", 80), "the policies to be read again")


@pytest.mark.parametrize(
    ("policies", "error"),
    [
        ([{"source": {"id": "a"}}], "destination"),
        ([said("a", "b", 0, 80)], ">= 1"),
        ([said("", "b")], "length >= 1"),
        ("nonsense", "array"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_none(server: Server, policies: Any, error: str) -> None:
    server.policies = policies
    async with polling(server.port) as (store, hub):
        await eventually(lambda: store.status()["error"], "an error")
        assert "not a list of policies" in store.status()["error"]
        assert error in store.status()["error"]
        assert not hub.table.policies_ready


async def test_policies_of_a_kind_unknown_here_are_left_out_and_said(server: Server) -> None:
    lines: list[bytes] = []
    server.policies = [said("a", "b", protocol="icmp"), said("a", "b", 90, 80), said("a", "b")]
    async with polling(server.port, log=lines.append) as (store, hub):
        await eventually(lambda: hub.table.policies_ready, "the policies to be read")
        assert store.policies == [policy("a", "b")]
    assert any(b"policies-left-out" in line and b'"count":2' in line for line in lines)


async def test_a_server_that_does_not_know_us_is_lost(server: Server) -> None:
    async with polling(server.port, client=STRANGER) as (store, hub):
        await eventually(lambda: store.status()["error"], "an error")
        assert not hub.table.policies_ready
        assert server.asked == []


async def test_policies_cannot_be_changed_here(server: Server) -> None:
    async with polling(server.port) as (store, _):
        assert not store.writable
        with pytest.raises(PolicyStoreError, match="changed there"):
            await store.add([policy("a", "b")])
        with pytest.raises(PolicyStoreError, match="changed there"):
            await store.remove([policy("a", "b")])


def test_a_certificate_that_cannot_be_used_is_told_with_its_key() -> None:
    source = PolicyServerSource(url="https://127.0.0.1:1", ca_certs="nonsense", cert_chain="x", private_key="y")
    config = InternalPolicies(source="policy_server", policy_server=source)
    with pytest.raises(TlsError, match=r"internal\.policies\.policy_server"):
        PolicyServer(config, InternalHub(lambda: None), Logger())


async def test_a_routers_own_internal_api_serves_as_the_server() -> None:
    hub = InternalHub(lambda: None)
    hub.set_ready(policies=True)
    kept = MemoryStore(hub)
    config = PolicyApi(
        internal_port=free_port(),
        internal_cert_chain=SERVER.certificate,
        internal_private_key=SERVER.private_key,
        internal_ca_certs=CA.pair.certificate,
    )
    api = Api(config, kept, hub, Logger(sink=lambda _: None))
    await api.start()
    try:
        await kept.add([policy("a", "b", 1, 65535, "udp")])
        async with polling(api.internal_port) as (store, _):
            await eventually(lambda: store.policies == kept.policies, "the policies to be read")
            assert store.tags == kept.tags
            await kept.add([policy("c", "b")])
            await eventually(lambda: store.policies == kept.policies, "the change")
    finally:
        await api.close()
