"""A DNS server with facts to decide by, clients at several addresses, and a resolver made with dnslib."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

from dnslib import QTYPE, RR, A, DNSRecord  # type: ignore[import-untyped]

from router.config.internal import Internal, InternalDns, InternalDomain
from router.control.internal.dns_server import DnsServer
from router.control.internal.hub import InternalHub
from router.log import Logger
from router.routing.access import TCP
from router.routing.internal_records import Identity, NameEntry, Policy, PutIdentity, PutName
from tests.support.ports import free_port

SERVER = "127.0.0.1"
"""Where the server under test listens."""
WEB, GUEST, STRANGER = "127.0.1.1", "127.0.1.2", "127.0.1.3"
"""Sources: an instance of app ``web``, one of ``guest``, and nobody's address. All of 127/8 is ours to bind."""
ANSWER_S = 60.0
"""A safety net for a server that does not answer, never a measurement."""


def container_ip(number: int) -> str:
    return f"10.255.{number >> 8}.{number & 255}"


def put_app(hub: InternalHub, name: str, app: str, ips: Sequence[str]) -> None:
    """Let instances of an app stand behind a name, each known by its address."""
    for ip in ips:
        hub.put(PutIdentity(Identity(ip, app)))
    hub.put(PutName(name, [NameEntry(ip, app) for ip in ips]))


def ready_hub() -> InternalHub:
    """Return facts: ``web`` may reach ``api`` and ``many``, ``guest`` nothing; ``secret`` is nobody's to reach."""
    hub = InternalHub(lambda: None)
    hub.put(PutIdentity(Identity(WEB, "web")))
    hub.put(PutIdentity(Identity(GUEST, "guest")))
    put_app(hub, "api.apps.internal", "api", [container_ip(1), container_ip(2)])
    put_app(hub, "0.api.apps.internal", "api", [container_ip(1)])
    put_app(hub, "many.apps.internal", "many", [container_ip(number) for number in range(256, 456)])
    put_app(hub, "secret.apps.internal", "secret", [container_ip(3)])
    hub.set_policies([Policy("web", app, TCP, 5000, 5000) for app in ("api", "many")])
    hub.set_ready(policies=True, names=True)
    return hub


def internal_config(
    *,
    answer: str = "endpoints",
    view: str = "split",
    unknown_answer: str = "nodata",
    addresses: Sequence[str] = (SERVER,),
    port: int = 0,
    resolvers: Sequence[str] = (),
    queries_per_second: int = 0,
) -> Internal:
    """Return a configuration with the one domain ``apps.internal``."""
    domain = InternalDomain(name="apps.internal", answer=answer, view=view, unknown_answer=unknown_answer)
    dns = InternalDns(port=port, resolvers=list(resolvers), queries_per_second=queries_per_second)
    return Internal(domains=[domain], addresses=list(addresses), dns=dns)


class RunningDns:
    """A server under test and what it decides by.

    Attributes:
        log: lines of its component log.
    """

    def __init__(self, config: Internal, clock: Callable[[], float] | None = None) -> None:
        self.port = config.dns.port
        self.hub = ready_hub()
        self.log: list[bytes] = []
        self._writers: list[asyncio.StreamWriter] = []
        logger = Logger(sink=self.log.append)
        table = lambda: self.hub.table  # noqa: E731
        self.server = DnsServer(config, table, logger, **({} if clock is None else {"clock": clock}))

    async def ask(self, name: str, kind: str = "A", *, source: str = WEB) -> DNSRecord:
        """Ask over UDP from an address; return the answer."""
        return DNSRecord.parse(await self.exchange(DNSRecord.question(name, kind).pack(), source=source))

    async def exchange(self, packet: bytes, *, source: str = WEB) -> bytes:
        """Send one packet over UDP and return the next that comes back."""
        with udp_client(source, self.port) as client:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, packet)
            return await asyncio.wait_for(loop.sock_recv(client, 65536), ANSWER_S)

    async def connect(self, source: str = WEB) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TCP connection that ends with the server at the latest."""
        reader, writer = await asyncio.open_connection(SERVER, self.port, local_addr=(source, 0))
        self._writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        """End the server and all connections to it."""
        await self.server.close()
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def running_dns(clock: Callable[[], float] | None = None, **settings: Any) -> AsyncIterator[RunningDns]:
    """Serve on a free port while the block runs; settings are `internal_config`'s."""
    running = RunningDns(internal_config(port=free_port(), **settings), clock)
    await running.server.start()
    try:
        yield running
    finally:
        await running.close()


def udp_client(source: str, port: int) -> socket.socket:
    """Return a non-blocking socket at an address of 127/8, connected to the server."""
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setblocking(False)
    client.bind((source, 0))
    client.connect((SERVER, port))
    return client


def framed(packet: bytes) -> bytes:
    """Return a message as it goes over TCP."""
    return struct.pack("!H", len(packet)) + packet


async def read_framed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(ANSWER_S):
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(length)


def addresses_in(answer: DNSRecord) -> list[str]:
    return [str(record.rdata) for record in answer.rr]


def answer_with(count: int, query: DNSRecord) -> DNSRecord:
    """Return an answer with that many addresses."""
    record = query.reply(aa=0)
    for number in range(count):
        record.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(f"192.0.2.{number % 250}"), ttl=60))
    return record


Behaviour = Callable[[DNSRecord, bool], bytes | list[bytes]]
"""What a resolver sends back for a query; the flag tells that it came over TCP. Nothing: an empty list."""


class FakeResolver(asyncio.DatagramProtocol):
    """Another DNS server: answers over UDP and TCP as it is told to.

    Attributes:
        asked: queries, with their transport and the port they came from.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.port = free_port()
        self.asked: list[tuple[DNSRecord, str, int]] = []
        self._behaviour = behaviour
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not uvloop's class, but it does what this one promises.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, packet: bytes, peer: tuple[str, int]) -> None:
        query = DNSRecord.parse(packet)
        self.asked.append((query, "udp", peer[1]))
        for answer in self._answers(query, tcp=False):
            assert self._transport is not None
            self._transport.sendto(answer, peer)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = DNSRecord.parse(await read_framed(reader))
        self.asked.append((query, "tcp", writer.get_extra_info("peername")[1]))
        for answer in self._answers(query, tcp=True):
            writer.write(framed(answer))
        writer.close()

    def _answers(self, query: DNSRecord, *, tcp: bool) -> list[bytes]:
        found = self._behaviour(query, tcp)
        return [found] if isinstance(found, bytes) else found


@contextlib.asynccontextmanager
async def fake_resolver(behaviour: Behaviour) -> AsyncIterator[FakeResolver]:
    """Run a resolver while the block runs."""
    resolver = FakeResolver(behaviour)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: resolver, local_addr=("127.0.0.1", resolver.port))
    server = await asyncio.start_server(resolver.accept, "127.0.0.1", resolver.port)
    try:
        yield resolver
    finally:
        transport.close()
        server.close()
