"""What announces a route: building `router.register`, `router.unregister` and `router.start` payloads.

Owns the JSON field names as agents write them; reading registrations leniently is `wire.registration`'s work.
One law: a field at its default is left out, so a payload says only what its author meant, and the same
announcement always encodes to the same bytes (the router recognises a heartbeat by them).
"""

import msgspec

REGISTER = "router.register"
UNREGISTER = "router.unregister"
START = "router.start"
GREET = "router.greet"

DEFAULT_WEIGHT = 1
MAX_WEIGHT = 100

_encode = msgspec.json.Encoder(order="deterministic").encode


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The ``options`` object: what the announcer wants for the whole pool."""

    loadbalancing: str = ""
    """``round-robin``, ``least-connection`` or ``hash``; empty leaves the pool as it is."""
    hash_header: str = ""
    hash_balance: str = ""
    """A decimal number as text, e.g. ``1.25``; empty means no balancing."""
    route_policy_scope: str = ""
    route_policy_sources: str = ""
    """Comma-separated."""


class _Options(PoolSettings, frozen=True, kw_only=True, omit_defaults=True):
    """The ``options`` object as it is sent: what is said of the instance stands there, too."""

    weight: int = DEFAULT_WEIGHT


class Announcement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One instance and the routes it serves; the attribute names are those on the wire, but for ``weight``."""

    host: str
    uris: list[str]
    """Host names with optional context paths, e.g. ``app.example.com/api`` or ``*.example.com``."""
    port: int = 0
    tls_port: int = 0
    """Not 0: the router dials this port with TLS, and ``port`` does not count."""
    app: str = ""
    private_instance_id: str = ""
    private_instance_index: str = ""
    isolation_segment: str = ""
    server_cert_domain_san: str = ""
    protocol: str = ""
    route_service_url: str = ""
    stale_threshold_in_seconds: int = 0
    """Time to live without a heartbeat; 0 leaves it to the router, which also caps it."""
    tags: dict[str, str] = {}
    availability_zone: str = ""
    endpoint_updated_at_ns: int = 0
    """When the instance last changed, in nanoseconds since the epoch: lets a router tell old news from new."""
    options: PoolSettings = PoolSettings()
    weight: int = DEFAULT_WEIGHT
    """``options.weight``: the instance's share of its routes' requests, beside the others'; 0 to `MAX_WEIGHT`."""


class RouterStart(msgspec.Struct, frozen=True, kw_only=True):
    """What a router says when it starts, reconnects or is greeted."""

    id: str
    """``<index>-<uuid4>``, constant for the life of the router process."""
    hosts: list[str]
    minimum_register_interval_s: int = msgspec.field(name="minimumRegisterIntervalInSeconds")
    """How often agents should announce."""
    prune_threshold_s: int = msgspec.field(name="pruneThresholdInSeconds")
    """How long the router keeps an instance it hears nothing of."""


_start_decoder = msgspec.json.Decoder(RouterStart)


def encode_announcement(announcement: Announcement) -> bytes:
    """Return the payload for `REGISTER`; `UNREGISTER` takes the same."""
    if announcement.weight == DEFAULT_WEIGHT:
        return _encode(announcement)
    options = _Options(**msgspec.structs.asdict(announcement.options), weight=announcement.weight)
    return _encode(msgspec.structs.replace(announcement, options=options, weight=DEFAULT_WEIGHT))


def encode_start(start: RouterStart) -> bytes:
    """Return the payload of `START`, which is also the answer to `GREET`."""
    return _encode(start)


def decode_start(payload: bytes) -> RouterStart:
    """Read what a router sent on `START` or as answer to `GREET`. Raises `ValueError` if it is not that."""
    try:
        return _start_decoder.decode(payload)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
