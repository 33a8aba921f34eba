"""What a DNS query gets: an answer, nothing, or to be asked elsewhere.

Owns the decision for one packet, its count and its audit line; does not own sockets. One law: every packet that
comes in is counted under exactly one outcome.
"""

import ipaddress
import random
import socket
from collections.abc import Callable, Sequence

import msgspec

from router.config.internal import Internal, InternalDomain
from router.control.internal.dns_view import View, is_ready
from router.control.internal.rate_limit import RateLimit
from router.log import Logger
from router.log_limit import LogLimit
from router.routing.access import InternalTable
from router.routing.internal_records import Identity
from router.wire.dns import (
    AAAA,
    AXFR,
    BADVERS,
    IN,
    IXFR,
    MESSAGE_BYTES,
    NOERROR,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    A,
    NotAQuery,
    NotUnderstood,
    Query,
    parse_query,
    reply,
)

_STRANGERS = ""
"""All sources without an identity share one allowance, so that made-up addresses take nobody's."""
_VERSIONS = {A: 4, AAAA: 6}

TableSource = Callable[[], InternalTable]
Found = bytes | Query | None
"""What to send; or a query to ask others; or None for nothing."""


class DnsCounters(msgspec.Struct):
    """Packets since the start by outcome, each under one."""

    answered: int = 0
    """With addresses."""
    empty: int = 0
    """The name is known and permitted, but has nothing of the type, or no instance that is known to live."""
    unknown: int = 0
    forbidden: int = 0
    """The name exists, and the source must not know."""
    not_ready: int = 0
    """Policies or names are not there yet: SERVFAIL."""
    unregistered: int = 0
    """The source address belongs to no container: REFUSED."""
    refused: int = 0
    """Other names without anyone to ask, zone transfers, classes other than IN."""
    malformed: int = 0
    """Neither a query nor answerable, or with an opcode or EDNS version that is not known here."""
    rate_limited: int = 0
    forwarded: int = 0
    forward_failures: int = 0
    """Of those forwarded: nobody answered, or too many were being asked."""
    connections_refused: int = 0
    """TCP connections beyond the limits; these are no packets."""


class Answers:
    """Decides, without waiting for anything.

    Args:
        table: returns the facts to decide by; asked anew for each packet.
        shuffle: puts a list in random order.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        config: Internal,
        table: TableSource,
        counters: DnsCounters,
        logger: Logger,
        *,
        clock: Callable[[], float],
        shuffle: Callable[[list[bytes]], None] = random.shuffle,
    ) -> None:
        self._table = table
        self._counters = counters
        self._logger = logger
        self._clock = clock
        self._shuffle = shuffle
        self._view = View(config)
        self._own = {
            (local, version): packed_addresses(own_addresses(config, first=local), version)
            for local in own_addresses(config)
            for version in (4, 6)
        }
        """Our addresses, first the one that the source can surely reach: its query came to it."""
        self._forwards = bool(config.dns.resolvers)
        self._limit = RateLimit(config.dns.queries_per_second)
        self._denials = LogLimit()
        self._strangers = LogLimit()

    def is_known(self, source: str) -> bool:
        """Whether an address belongs to a container."""
        return source in self._table().identities

    def find(self, packet: bytes, source: str, local: str, *, tcp: bool) -> Found:
        """Return what a packet gets.

        Args:
            source: normalised address it came from.
            local: our own address it came to.
        """
        counters = self._counters
        table = self._table()
        identity = table.identities.get(source)
        if not self._limit.admit(source if identity else _STRANGERS, self._clock()):
            counters.rate_limited += 1
            return None
        try:
            query = parse_query(packet)
        except NotAQuery:
            counters.malformed += 1
            return None
        except NotUnderstood as error:
            counters.malformed += 1
            return error.reply
        limit = MESSAGE_BYTES if tcp else query.udp_limit
        if identity is None:
            return self._refuse_stranger(query, source, limit)
        if query.edns is not None and query.edns.version:
            counters.malformed += 1
            return reply(query, BADVERS, limit=limit)
        if query.qclass != IN or query.type in (AXFR, IXFR):
            counters.refused += 1
            return reply(query, REFUSED, limit=limit)
        domain = self._view.domain_of(query.name)
        if domain is None:
            return self._elsewhere(query, limit)
        if not is_ready(domain, table):
            counters.not_ready += 1
            return reply(query, SERVFAIL, limit=limit)
        instances = self._view.instances(query.name, domain, identity, table)
        if not instances:
            return self._nothing(
                query, domain, identity, known=query.name in table.names, gone=instances == [], limit=limit
            )
        return self._addresses(query, domain, instances, local, limit)

    def _refuse_stranger(self, query: Query, source: str, limit: int) -> bytes:
        self._counters.unregistered += 1
        self._note(self._strangers, "dns-source-unregistered", ip=source, name=query.name)
        return reply(query, REFUSED, limit=limit)

    def _elsewhere(self, query: Query, limit: int) -> Found:
        if self._forwards:
            self._counters.forwarded += 1
            return query
        self._counters.refused += 1
        return reply(query, REFUSED, limit=limit)

    def _addresses(
        self, query: Query, domain: InternalDomain, instances: list[Identity], local: str, limit: int
    ) -> bytes:
        addresses: list[bytes] = []
        version = _VERSIONS.get(query.type)
        if version is not None and domain.answer == "proxy":
            addresses = self._own[local, version]
        elif version is not None:
            addresses = packed_addresses([one.ip for one in instances], version)
            self._shuffle(addresses)
        if addresses:
            self._counters.answered += 1
        else:
            self._counters.empty += 1
        return reply(query, NOERROR, addresses, authoritative=True, limit=limit)

    def _nothing(
        self, query: Query, domain: InternalDomain, source: Identity, *, known: bool, gone: bool, limit: int
    ) -> bytes:
        """Answer for unknown and forbidden names alike; only the count and the audit line tell them apart."""
        reason = "unknown" if not known else "no-instance" if gone else "forbidden"
        if not known:
            self._counters.unknown += 1
        elif gone:
            self._counters.empty += 1
        else:
            self._counters.forbidden += 1
        self._note(self._denials, "dns-name-denied", ip=source.ip, app=source.app, name=query.name, reason=reason)
        nxdomain = domain.unknown_answer == "nxdomain" and not self._view.is_apex(query.name)
        return reply(query, NXDOMAIN if nxdomain else NOERROR, authoritative=True, limit=limit)

    def _note(self, limit: LogLimit, message: str, **data: str) -> None:
        if limit.admit(self._clock()):
            self._logger.info(message, **data, suppressed=limit.take_suppressed())


def own_addresses(config: Internal, first: str = "") -> list[str]:
    """Return the addresses to listen on in normal form, each once, one of them first if that is wanted."""
    addresses = dict.fromkeys(str(ipaddress.ip_address(one)) for one in config.addresses)
    return sorted(addresses, key=lambda one: one != first)


def packed_addresses(texts: Sequence[str], version: int) -> list[bytes]:
    """Return those addresses of one IP version in the form of the wire."""
    if version == 4:
        return [socket.inet_aton(text) for text in texts if ":" not in text]
    return [socket.inet_pton(socket.AF_INET6, text) for text in texts if ":" in text]


def normalised(address: str) -> str:
    """Return the address of a peer as identities are kept: IPv4-mapped as IPv4, without a zone."""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address.partition("%")[0])
    return str(parsed.ipv4_mapped or parsed)
