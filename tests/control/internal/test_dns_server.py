"""The whole DNS server on real sockets, asked by dig, by dnslib and by nobody's idea of a client."""

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from dnslib import EDNS0, DNSRecord  # type: ignore[import-untyped]

from router.control.internal.dns_server import DnsServer
from router.control.internal.hub import InternalHub
from router.control.listeners import ListenError
from router.log import Logger
from router.routing.access import TCP
from router.routing.internal_records import Identity, Policy, PutIdentity
from tests.support.dns import (
    GUEST,
    SERVER,
    STRANGER,
    WEB,
    RunningDns,
    addresses_in,
    answer_with,
    container_ip,
    fake_resolver,
    framed,
    internal_config,
    read_framed,
    running_dns,
    udp_client,
)
from tests.support.eventually import eventually
from tests.support.needs import needs
from tests.support.ports import free_port


async def dig(dns: RunningDns, *arguments: str, source: str = WEB, server: str = SERVER) -> str:
    """Return what dig prints."""
    command = [needs("dig"), f"@{server}", "-p", str(dns.port), "-b", source, "+time=10", "+tries=1", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    return printed.decode()


# With dig, as an operator does.


async def test_dig_is_told_the_permitted_instances() -> None:
    async with running_dns() as dns:
        printed = await dig(dns, "+short", "api.apps.internal")
        assert set(printed.split()) == {container_ip(1), container_ip(2)}
        assert (await dig(dns, "+short", "0.api.apps.internal")).split() == [container_ip(1)]
        assert (await dig(dns, "+short", "+tcp", "API.apps.internal.")).split() != []


async def test_dig_sees_an_authoritative_answer_that_must_not_be_kept() -> None:
    async with running_dns() as dns:
        printed = await dig(dns, "0.api.apps.internal")
        assert "flags: qr aa rd ra;" in printed
        assert "EDNS: version: 0, flags:; udp: 1232" in printed
        assert f"0.api.apps.internal.\t0\tIN\tA\t{container_ip(1)}" in printed
        assert "WARNING" not in printed


async def test_dig_cannot_tell_a_forbidden_name_from_an_unknown_one() -> None:
    async with running_dns() as dns:
        for name in ("api", "nobody"):
            printed = await dig(dns, f"{name}.apps.internal", source=GUEST)
            assert "status: NOERROR" in printed
            assert "ANSWER: 0, AUTHORITY: 0" in printed


async def test_dig_from_an_unregistered_address_is_refused() -> None:
    async with running_dns() as dns:
        assert "status: REFUSED" in await dig(dns, "api.apps.internal", source=STRANGER)


async def test_dig_comes_back_over_tcp_for_two_hundred_instances() -> None:
    async with running_dns() as dns:
        printed = await dig(dns, "many.apps.internal")
        assert "ANSWER: 200" in printed
        assert "(TCP)" in printed
        assert "Truncated" in await dig(dns, "many.apps.internal", "+noedns") or "(TCP)" in printed
        cut = await dig(dns, "many.apps.internal", "+ignore", "+noedns")
        assert "flags: qr aa tc rd ra" in cut


async def test_dig_with_another_edns_version_is_told_ours() -> None:
    async with running_dns() as dns:
        assert "status: BADVERS" in await dig(dns, "api.apps.internal", "+edns=1", "+noednsnegotiation")
        assert "status: NOERROR" in await dig(dns, "api.apps.internal", "+edns=1", "+ednsnegotiation")


async def test_dig_with_client_subnet_cookie_and_padding_gets_its_own_view() -> None:
    async with running_dns() as dns:
        printed = await dig(dns, "api.apps.internal", "+subnet=127.0.1.1/32", "+padding=128", source=GUEST)
        assert "ANSWER: 0" in printed
        assert "CLIENT-SUBNET" not in printed


async def test_dig_gets_other_names_from_the_resolver() -> None:
    async with (
        fake_resolver(lambda record, tcp: bytes(answer_with(300 if tcp else 2, record).pack())) as resolver,
        running_dns(resolvers=[resolver.address]) as dns,
    ):
        assert set((await dig(dns, "+short", "www.example.com")).split()) == {"192.0.2.0", "192.0.2.1"}
        assert "status: NOERROR" in await dig(dns, "+tcp", "www.example.com")
        assert "status: REFUSED" in await dig(dns, "www.example.com", source=STRANGER)
    assert all(str(record.q.qname) == "www.example.com." for record, _, _ in resolver.asked)


# With packets.


async def test_ten_askers_at_a_time_each_get_their_own_answer() -> None:
    async with running_dns() as dns:
        names = ["api.apps.internal", "0.api.apps.internal", "secret.apps.internal"] * 10
        found = await asyncio.gather(*(dns.ask(name) for name in names))
        assert [len(answer.rr) for answer in found] == [2, 1, 0] * 10


async def test_name_is_echoed_in_the_letters_it_was_asked_in() -> None:
    async with running_dns() as dns:
        assert str((await dns.ask("aPi.ApPs.iNtErNaL")).q.qname) == "aPi.ApPs.iNtErNaL."


async def test_order_of_addresses_varies() -> None:
    async with running_dns() as dns:
        firsts = {addresses_in(await dns.ask("api.apps.internal"))[0] for _ in range(64)}
        assert firsts == {container_ip(1), container_ip(2)}


async def test_change_of_policy_acts_on_the_next_query() -> None:
    async with running_dns() as dns:
        assert (await dns.ask("secret.apps.internal")).rr == []
        dns.hub.set_policies([Policy("web", "secret", TCP, 80, 80)])
        assert addresses_in(await dns.ask("secret.apps.internal")) == [container_ip(3)]
        dns.hub.set_policies([])
        assert (await dns.ask("secret.apps.internal")).rr == []


async def test_container_on_two_networks_is_told_the_address_it_asked() -> None:
    second = "127.0.0.2"
    async with running_dns(answer="proxy", addresses=[SERVER, second]) as dns:
        assert (await dig(dns, "+short", "api.apps.internal")).split()[0] == SERVER
        assert (await dig(dns, "+short", "api.apps.internal", server=second)).split()[0] == second


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_ipv6_containers_are_served_over_ipv6() -> None:
    async with running_dns(answer="proxy", addresses=["::1", SERVER]) as dns:
        dns.hub.put(PutIdentity(Identity("::1", "web")))
        printed = await dig(dns, "+short", "AAAA", "api.apps.internal", source="::1", server="::1")
        assert printed.split() == ["::1"]


async def test_queries_beyond_the_rate_are_dropped() -> None:
    now = 100.0
    async with running_dns(lambda: now, queries_per_second=3) as dns:
        for _ in range(3):
            await dns.ask("api.apps.internal")
        with udp_client(WEB, dns.port) as client:
            client.send(bytes(DNSRecord.question("api.apps.internal").pack()))
            await eventually(lambda: dns.server.counters.rate_limited == 1, "query dropped")
        assert len((await dns.ask("api.apps.internal", source=GUEST)).rr) == 0
        now += 1.0
        assert len((await dns.ask("api.apps.internal")).rr) == 2


async def test_nobody_to_forward_to_is_a_server_failure() -> None:
    async with running_dns(resolvers=[f"127.0.0.1:{free_port()}"]) as dns:
        answer = await dns.ask("www.example.com")
        assert (answer.header.rcode, answer.header.aa) == (2, 0)
        assert (dns.server.counters.forwarded, dns.server.counters.forward_failures) == (1, 1)


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Yield packets that are nearly queries."""
    choose = random.Random(seed)
    for _ in range(count):
        record = DNSRecord.question(choose.choice(["api.apps.internal", "many.apps.internal", "x.example.com"]))
        record.header.id = choose.getrandbits(16)
        if choose.random() < 0.5:
            record.add_ar(EDNS0(udp_len=choose.choice([0, 512, 1232, 65535]), version=choose.choice([0, 0, 1])))
        packet = bytearray(record.pack())
        for _ in range(choose.choice([0, 1, 3])):
            packet[choose.randrange(len(packet))] = choose.getrandbits(8)
        yield bytes(packet[: choose.choice([len(packet), choose.randrange(len(packet) + 1)])])


async def test_garbage_neither_ends_the_server_nor_is_it_amplified_to_strangers() -> None:
    """Every second packet is a stranger's; a query of a known sequence shows when all before it were handled."""
    async with running_dns() as dns:
        with udp_client(STRANGER, dns.port) as stranger, udp_client(WEB, dns.port) as known:
            for packet in mutations(2026, 400):
                stranger.send(packet)
                known.send(packet)
                await dns.ask("api.apps.internal")
                assert sum(map(len, received(stranger))) <= len(packet)
                assert sum(map(len, received(known))) <= 1232
        assert len((await dns.ask("api.apps.internal")).rr) == 2
        assert not any(b"internal-error" in line for line in dns.log)


def received(client: socket.socket) -> list[bytes]:
    packets = []
    with contextlib.suppress(BlockingIOError):
        while True:
            packets.append(client.recv(65536))
    return packets


# Start and end.


async def test_port_zero_leaves_it_off() -> None:
    hub = InternalHub(lambda: None)
    server = DnsServer(internal_config(port=0), lambda: hub.table, Logger(sink=lambda line: None))
    await server.start()
    await server.close()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
async def test_port_that_is_taken_is_told_with_its_key_and_leaves_nothing_open(kind: socket.SocketKind) -> None:
    port = free_port()
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind((SERVER, port))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        dns = RunningDns(internal_config(port=port, addresses=["127.0.0.2", SERVER]))
        with pytest.raises(ListenError, match=rf"internal\.dns\.port: cannot listen on 127\.0\.0\.1:{port}: "):
            await dns.server.start()
    async with serving(dns):
        assert len((await dns.ask("api.apps.internal")).rr) == 2


@contextlib.asynccontextmanager
async def serving(dns: RunningDns) -> AsyncIterator[None]:
    await dns.server.start()
    yield
    await dns.close()


async def test_closing_ends_connections_and_questions_and_frees_the_port() -> None:
    async with fake_resolver(lambda record, tcp: []) as silent, running_dns(resolvers=[silent.address]) as dns:
        reader, writer = await dns.connect()
        writer.write(framed(bytes(DNSRecord.question("slow.example.com").pack())))
        await eventually(lambda: silent.asked, "resolver asked")
        await dns.server.close()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        again = RunningDns(internal_config(port=dns.port))
        async with serving(again):
            assert len((await again.ask("api.apps.internal")).rr) == 2


async def test_tcp_and_udp_answers_are_the_same() -> None:
    async with running_dns() as dns:
        query = bytes(DNSRecord.question("0.api.apps.internal").pack())
        reader, writer = await dns.connect()
        writer.write(framed(query))
        assert await read_framed(reader) == await dns.exchange(query)


UNDER_UVLOOP = """
import asyncio, uvloop
from dnslib import DNSRecord
from tests.support.dns import *

async def main():
    def behave(record, tcp):
        return bytes(answer_with(1, record).pack())
    async with fake_resolver(behave) as resolver, running_dns(resolvers=[resolver.address]) as dns:
        assert len((await dns.ask("api.apps.internal")).rr) == 2
        assert (await dns.ask("api.apps.internal", source=STRANGER)).header.rcode == 5
        assert len((await dns.ask("www.example.com")).rr) == 1
        reader, writer = await dns.connect()
        writer.write(framed(bytes(DNSRecord.question("many.apps.internal").pack())))
        assert len(DNSRecord.parse(await read_framed(reader)).rr) == 200
    async with running_dns(resolvers=[f"127.0.0.1:{free_port()}"]) as dns:
        assert (await dns.ask("www.example.com")).header.rcode == 2

uvloop.run(main())
"""


async def test_everything_works_on_the_event_loop_of_control() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-X", "dev", "-c", UNDER_UVLOOP)
    assert await process.wait() == 0


async def test_other_rules_count_from_the_next_query_on() -> None:
    async with (
        running_dns() as dns,
        fake_resolver(lambda record, tcp: bytes(answer_with(1, record).pack())) as other,
    ):
        assert (await dns.ask("www.example.com")).header.rcode == 5
        dns.server.configure(internal_config(answer="proxy", resolvers=[other.address]))
        assert addresses_in(await dns.ask("www.example.com")) == ["192.0.2.0"]
        assert addresses_in(await dns.ask("api.apps.internal")) == [SERVER]
        assert dns.server.counters.refused == dns.server.counters.forwarded == 1
