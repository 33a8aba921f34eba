"""The load test's client, against a small server of the same kind."""

import asyncio

import pytest

from loadtest import dns
from loadtest.dns_server import INSTANCES, SOURCE, addresses, host_name, is_permitted, table_changes
from loadtest.errors import RequestError
from router.routing.access import TCP, InternalTable
from router.routing.internal_records import Identity, Policy, PutIdentity
from router.wire.dns import A, parse_query
from tests.support.dns import RunningDns, container_ip, put_app, running_dns

FEW = 40


def test_question_is_one_for_an_internal_name() -> None:
    query = parse_query(b"\0\7" + dns.question(12))
    assert (query.id, query.name, query.type, query.udp_limit) == (7, "app-12.apps.internal", A, 1232)


def test_table_holds_every_name_with_its_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.dns_server.NAMES", FEW)
    table = InternalTable()
    for change in table_changes():
        table.apply(change)
    assert len(table.names) == FEW
    assert len(table.identities) == FEW * INSTANCES + 1
    assert all(len(list(table.instances(host_name(number)))) == INSTANCES for number in range(FEW))


def put_names(server: RunningDns) -> None:
    """Put few names with instances as the load test's own server has many of them."""
    server.hub.put(PutIdentity(Identity(SOURCE, "caller")))
    for number in range(FEW):
        put_app(server.hub, host_name(number), f"app-{number}", [container_ip(ip) for ip in addresses(number)])
    policies = [Policy("caller", f"app-{number}", TCP, 1, 1) for number in range(FEW) if is_permitted(number)]
    server.hub.set_policies(policies)


@pytest.fixture
def few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "NAMES", FEW)


async def test_every_question_is_answered_and_timed(few_names: None) -> None:
    async with running_dns() as server:
        put_names(server)
        asker = dns.Asker(server.port)
        try:
            assert await asyncio.to_thread(asker.saturate, 300) > 0
            latencies = await asyncio.to_thread(asker.latencies_s, 5000, 0.05)
        finally:
            asker.close()
        assert len(latencies) == 250
        assert min(latencies) > 0


async def test_wrong_answer_ends_the_load_test(few_names: None) -> None:
    async with running_dns() as server:
        put_names(server)
        server.hub.set_policies([])
        asker = dns.Asker(server.port)
        try:
            with pytest.raises(RequestError, match="code 0 and 0 addresses"):
                await asyncio.to_thread(asker.saturate, 300)
        finally:
            asker.close()
