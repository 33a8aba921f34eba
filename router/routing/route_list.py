"""The ``/routes`` document: every route and its endpoints, as Gorouter shows them.

Owns field names and order of that document; does not own serving it. One law: it is made in pieces, because for a
large table it takes longer than anything else may wait.
"""

from collections.abc import Iterator, Mapping

import msgspec

from router.routing.registrations import Membership, RegisteredPool
from router.wire.announcement import DEFAULT_WEIGHT

_encode_plain = msgspec.json.Encoder(order="deterministic").encode

_ESCAPES = {
    b"&": rb"\u0026",
    b"<": rb"\u003c",
    b">": rb"\u003e",
    "\u2028".encode(): rb"\u2028",
    "\u2029".encode(): rb"\u2029",
}
"""What Go's encoder never writes as it is. Outside of texts JSON has none of these."""


class ListedEndpoint(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One endpoint in the document; fields with a default are left out when they have it."""

    address: str
    availability_zone: str
    protocol: str
    tls: bool
    ttl: int
    """Seconds."""
    route_service_url: str = ""
    tags: dict[str, str] | None
    isolation_segment: str = ""
    private_instance_id: str = ""
    server_cert_domain_san: str = ""
    load_balancing_algorithm: str = ""
    hash_header: str = ""
    hash_balance: str = ""
    weight: int = DEFAULT_WEIGHT


def routes_json(pools: Mapping[str, RegisteredPool], routes_per_chunk: int) -> Iterator[bytes]:
    """Yield the document in pieces; it ends with a line feed. Keys are sorted, a kept empty pool is ``[]``.

    Byte for byte as Go writes it: tags sorted too, and ``&``, ``<`` and ``>`` escaped.
    """
    keys = sorted(pools)
    separator = b"{"
    for start in range(0, len(keys), routes_per_chunk):
        lines = []
        for key in keys[start : start + routes_per_chunk]:
            pool = pools.get(key)
            if pool is not None:
                lines.append(_encode(key) + b":" + _encode([_listed(member) for member in pool.members.values()]))
        if lines:
            yield separator + b",".join(lines)
            separator = b","
    yield b"{}\n" if separator == b"{" else b"}\n"


def _encode(value: object) -> bytes:
    text = _encode_plain(value)
    for octets, escape in _ESCAPES.items():
        if octets in text:
            text = text.replace(octets, escape)
    return text


def _listed(membership: Membership) -> ListedEndpoint:
    record = membership.endpoint.record
    options = membership.options
    return ListedEndpoint(
        address=record.address,
        availability_zone=record.availability_zone,
        protocol=record.protocol,
        tls=record.tls,
        ttl=int(membership.ttl_s),
        route_service_url=options.route_service_url,
        tags=record.tags or None,
        isolation_segment=record.isolation_segment,
        private_instance_id=record.instance_id,
        server_cert_domain_san=record.san,
        load_balancing_algorithm=options.algorithm,
        hash_header=options.hash_header,
        hash_balance=f"{options.hash_balance:g}" if options.hash_balance else "",
        weight=record.weight,
    )
