"""DNS over TCP: framing at every split, pipelining, limits, idle connections, clients that do not read."""

import asyncio
import socket
import struct

import pytest
from dnslib import DNSRecord  # type: ignore[import-untyped]

from router.control.internal import dns_tcp
from router.control.internal.dns_tcp import CONNECTIONS_OF_ONE, IDLE_S
from tests.support.dns import (
    ANSWER_S,
    GUEST,
    SERVER,
    STRANGER,
    WEB,
    RunningDns,
    answer_with,
    fake_resolver,
    framed,
    read_framed,
    running_dns,
)
from tests.support.eventually import eventually


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def question(name: str = "api.apps.internal", packet_id: int = 7) -> bytes:
    record = DNSRecord.question(name)
    record.header.id = packet_id
    packed: bytes = record.pack()
    return packed


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the server has closed; waits for it, and for nothing else to come."""
    try:
        return await asyncio.wait_for(reader.read(1), ANSWER_S) == b""
    except ConnectionError:
        return True


def open_connections(dns: RunningDns) -> int:
    return len(dns.server._connections)


async def test_pipelined_queries_are_all_answered() -> None:
    async with running_dns() as dns:
        reader, writer = await dns.connect()
        writer.write(b"".join(framed(question(packet_id=number)) for number in range(50)))
        found = [DNSRecord.parse(await read_framed(reader)).header.id for _ in range(50)]
        assert found == list(range(50))


async def test_query_may_come_byte_by_byte() -> None:
    async with running_dns() as dns:
        reader, writer = await dns.connect()
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in framed(question()):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert len(DNSRecord.parse(await read_framed(reader)).rr) == 2


async def test_client_that_has_no_more_to_ask_still_gets_its_answers() -> None:
    async with (
        fake_resolver(lambda record, tcp: bytes(answer_with(1, record).pack())) as resolver,
        running_dns(resolvers=[resolver.address]) as dns,
    ):
        reader, writer = await dns.connect()
        writer.write(framed(question("www.example.com")) + framed(question()))
        writer.write_eof()
        ids = [DNSRecord.parse(await read_framed(reader)).header.id for _ in range(2)]
        assert ids == [7, 7]
        assert await ended(reader)


async def test_answers_come_as_they_are_ready() -> None:
    async with (
        fake_resolver(lambda record, tcp: []) as silent,
        running_dns(resolvers=[silent.address]) as dns,
    ):
        reader, writer = await dns.connect()
        writer.write(framed(question("slow.example.com", 1)) + framed(question(packet_id=2)))
        assert DNSRecord.parse(await read_framed(reader)).header.id == 2


@pytest.mark.parametrize(
    "sent",
    [b"\x00\x00", b"\x00\x05short", b"\xff\xff", framed(bytes(DNSRecord.question("x").reply().pack()))],
    ids=["empty", "shorter than a header", "longer than any query", "a response"],
)
async def test_what_is_no_query_ends_the_connection(sent: bytes) -> None:
    async with running_dns() as dns:
        reader, writer = await dns.connect()
        writer.write(sent)
        assert await ended(reader)


async def test_malformed_query_is_answered_and_the_next_one_too() -> None:
    async with running_dns() as dns:
        reader, writer = await dns.connect()
        writer.write(framed(question()[:-1]) + framed(question()))
        assert DNSRecord.parse(await read_framed(reader)).header.rcode == 1
        assert DNSRecord.parse(await read_framed(reader)).header.rcode == 0


async def test_stranger_is_refused_over_tcp_as_well() -> None:
    async with running_dns() as dns:
        reader, writer = await dns.connect(STRANGER)
        writer.write(framed(question()))
        assert DNSRecord.parse(await read_framed(reader)).header.rcode == 5


async def test_client_beyond_its_rate_is_disconnected() -> None:
    async with running_dns(queries_per_second=3) as dns:
        _, writer = await dns.connect()
        writer.write(b"".join(framed(question()) for _ in range(9)))
        await eventually(lambda: dns.server.counters.rate_limited, "rate limit reached")
        await eventually(lambda: open_connections(dns) == 0, "connection closed")
        assert dns.server.counters.rate_limited == 1


async def test_idle_connection_is_closed_and_a_busy_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.control.internal.dns_server.SWEEP_S", 0.01)
    clock = Clock()
    async with running_dns(clock) as dns:
        idle_reader, idle = await dns.connect()
        busy_reader, busy = await dns.connect(GUEST)
        await eventually(lambda: open_connections(dns) == 2, "both connected")
        clock.now += IDLE_S - 1
        # Part of a query is no sign of life: it could go on for ever.
        idle.write(framed(question())[:5])
        busy.write(framed(question()))
        await read_framed(busy_reader)
        clock.now += 2
        assert await ended(idle_reader)
        busy.write(framed(question()))
        await read_framed(busy_reader)
        clock.now += IDLE_S + 1
        assert await ended(busy_reader)


async def test_connection_that_waits_for_a_resolver_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.control.internal.dns_server.SWEEP_S", 0.01)
    clock = Clock()
    async with (
        fake_resolver(lambda record, tcp: []) as silent,
        running_dns(clock, resolvers=[silent.address]) as dns,
    ):
        _, waiting = await dns.connect()
        waiting.write(framed(question("slow.example.com")))
        await eventually(lambda: silent.asked, "resolver asked")
        reader, _ = await dns.connect(GUEST)
        await eventually(lambda: open_connections(dns) == 2, "both connected")
        clock.now += IDLE_S + 1
        assert await ended(reader)
        assert open_connections(dns) == 1


async def test_one_source_has_its_share_of_connections_and_others_theirs() -> None:
    async with running_dns() as dns:
        held = [await dns.connect() for _ in range(CONNECTIONS_OF_ONE)]
        await eventually(lambda: open_connections(dns) == CONNECTIONS_OF_ONE, "share taken")
        reader, _ = await dns.connect()
        assert await ended(reader)
        assert dns.server.counters.connections_refused == 1
        other_reader, other = await dns.connect(GUEST)
        other.write(framed(question()))
        await read_framed(other_reader)
        held.pop()[1].close()
        await eventually(lambda: open_connections(dns) == CONNECTIONS_OF_ONE, "one closed")
        again_reader, again = await dns.connect()
        again.write(framed(question()))
        await read_framed(again_reader)


async def test_strangers_together_have_one_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_tcp, "CONNECTIONS_OF_ONE", 2)
    async with running_dns() as dns:
        await dns.connect("127.8.0.1")
        await dns.connect("127.8.0.2")
        await eventually(lambda: open_connections(dns) == 2, "share taken")
        reader, _ = await dns.connect("127.8.0.3")
        assert await ended(reader)
        reader, known = await dns.connect(WEB)
        known.write(framed(question()))
        await read_framed(reader)


async def test_all_connections_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_tcp, "CONNECTIONS", 1)
    async with running_dns() as dns:
        await dns.connect()
        await eventually(lambda: open_connections(dns) == 1, "first connected")
        reader, _ = await dns.connect(GUEST)
        assert await ended(reader)


async def test_client_that_does_not_read_is_not_read_either() -> None:
    async with running_dns() as dns:
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            client.bind((WEB, 0))
            await loop.sock_connect(client, (SERVER, dns.port))
            queries = framed(question("many.apps.internal")) * 200
            sending = asyncio.create_task(send_without_end(client, queries))
            connection = await only_connection(dns)
            await eventually(lambda: connection._paused, "server stops reading")
            answered = dns.server.counters.answered
            other_reader, other = await dns.connect(GUEST)
            other.write(framed(question()))
            await read_framed(other_reader)
            assert dns.server.counters.answered == answered
            assert dns.server.counters.forbidden == 1
            reading = asyncio.create_task(receive_without_end(client))
            await eventually(lambda: dns.server.counters.answered > answered + 1, "server reads on")
            for task in (sending, reading):
                task.cancel()
            await asyncio.wait([sending, reading])


async def send_without_end(client: socket.socket, queries: bytes) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(client, queries)


async def receive_without_end(client: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(client, 65536):
        pass


async def only_connection(dns: RunningDns) -> dns_tcp.Connection:
    await eventually(lambda: open_connections(dns) == 1, "connected")
    (connection,) = dns.server._connections._open
    return connection


async def test_client_that_leaves_while_a_resolver_is_asked_harms_nobody() -> None:
    async with (
        fake_resolver(lambda record, tcp: []) as silent,
        running_dns(resolvers=[silent.address]) as dns,
    ):
        _, writer = await dns.connect()
        writer.write(framed(question("slow.example.com")))
        await eventually(lambda: silent.asked, "resolver asked")
        # Reset instead of an orderly end, which would leave the client waiting for its answer.
        lingering = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        writer.transport.abort()
        await eventually(lambda: open_connections(dns) == 0, "connection gone")
        (query, _, port) = silent.asked[0]
        assert silent._transport is not None
        silent._transport.sendto(bytes(answer_with(1, query).pack()), ("127.0.0.1", port))
        await eventually(lambda: not dns.server._asking, "answer taken and dropped")
        assert len((await dns.ask("api.apps.internal")).rr) == 2
