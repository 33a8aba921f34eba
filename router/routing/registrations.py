"""What control knows of one route: who announced which endpoint, when last, and what they want for the pool.

Owns the values the registry keeps and the comparison of an announcement with what is known already; does not own
the table. One law: what a `Membership` says never changes, only when it was last heard; other news makes another.
"""

import msgspec

from router.routing.records import EndpointRecord, PoolOptions
from router.routing.sharing import Shared
from router.wire.registration import Registration

ALGORITHMS = frozenset(("round-robin", "least-connection", "hash"))


class RegistryRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says about the table; the names there are given in parentheses."""

    stale_threshold_s: float = 120.0
    """Default and cap of every time to live (``droplet_stale_threshold``)."""
    sharding_mode: str = "all"
    """``all``, ``segments`` or ``shared-and-segments`` (``routing_table_sharding_mode``)."""
    isolation_segments: frozenset[str] = frozenset()
    empty_pool_503: bool = False
    """(``empty_pool_response_code_503``)"""
    empty_pool_timeout_s: float = 0.0
    suspend_pruning: bool = False
    """(``suspend_pruning_if_nats_unavailable``)"""
    http2: bool = True
    """Off: instances that announce ``http2`` are spoken to in HTTP/1 (``enable_http2``)."""
    internal_domains: frozenset[str] = frozenset()
    """Names below these are never public, whoever announces them (``internal.domains``)."""

    @property
    def keeps_empty_pools(self) -> bool:
        """Whether a route whose last endpoint went is kept, to answer 503, until the time-out."""
        return self.empty_pool_503 and self.empty_pool_timeout_s > 0

    def serves(self, segment: str) -> bool:
        """Whether endpoints of this isolation segment belong into the table."""
        if self.sharding_mode == "all":
            return True
        if segment == "":
            return self.sharding_mode == "shared-and-segments"
        return segment in self.isolation_segments

    def ttl_s(self, announced_s: int) -> float:
        """Return the time to live of an endpoint that announced this one, 0 meaning none."""
        return float(announced_s) if 0 < announced_s < self.stale_threshold_s else self.stale_threshold_s


class ModificationTag(msgspec.Struct, frozen=True, gc=False):
    """Order of announcements from a routing API; those over NATS have none."""

    guid: str = ""
    index: int = 0

    def may_replace(self, old: "ModificationTag") -> bool:
        return not old.guid or old.guid != self.guid or self.index > old.index

    def may_remove(self, old: "ModificationTag") -> bool:
        return self == old or self.may_replace(old)


UNTAGGED = ModificationTag()
NO_OPTIONS = PoolOptions()


class RegisteredEndpoint(msgspec.Struct, gc=False):
    """An endpoint as workers know it, under its id; shared by the pools of all uris of one message."""

    id: int
    record: EndpointRecord
    pools: int = 0
    """How many memberships refer to it; at 0 workers are told to forget the id."""


class Membership(msgspec.Struct, gc=False):
    """One endpoint's place in one pool. Lives until it is removed or something else is announced in its place."""

    endpoint: RegisteredEndpoint
    options: PoolOptions
    """What this endpoint wants for the pool; what the pool has is what the last registration wanted."""
    ttl_s: float
    tag: ModificationTag
    seen: float
    """When it was last announced, seconds of the monotonic clock."""
    payload_digest: bytes = b""
    """Key of the line in `Heartbeats` that refers to this membership; empty if none does."""


class RegisteredPool(msgspec.Struct, gc=False, eq=False):
    """The endpoints announced for one route key, by address, in the order of their first announcement."""

    key: str
    context_path: str
    options: PoolOptions = NO_OPTIONS
    members: dict[str, Membership] = {}
    emptied_at: float = 0.0
    """When the last member went; says nothing while there are members."""

    def member(self, endpoint_id: int) -> Membership | None:
        """Return the membership of an endpoint."""
        return next((member for member in self.members.values() if member.endpoint.id == endpoint_id), None)


class Offer:
    """What one message announces, ready to be put into the pool of each of its uris.

    Attributes:
        endpoint: made when the first pool takes it, because most messages bring nothing new.
    """

    __slots__ = ("address", "endpoint", "options", "record", "tag", "ttl_s")

    def __init__(
        self, registration: Registration, rules: RegistryRules, tag: ModificationTag, shared: Shared
    ) -> None:
        self.record = _record(registration, rules, shared)
        self.address = self.record.address
        self.options = _options(registration)
        self.ttl_s = rules.ttl_s(registration.stale_threshold_s)
        self.tag = tag
        self.endpoint: RegisteredEndpoint | None = None

    def repeats(self, known: Membership) -> bool:
        """Whether nothing but the time differs from what is known."""
        return (
            known.endpoint.record == self.record
            and known.options == self.options
            and known.ttl_s == self.ttl_s
            and known.tag == self.tag
        )

    def may_replace(self, known: Membership) -> bool:
        """Whether this is newer than what is known, as far as the two say."""
        # Gorouter: over NATS, an older endpoint_updated_at_ns replaces a newer one.
        return self.tag.may_replace(known.tag) and not is_older(
            self.record.updated_at_ns, known.endpoint.record.updated_at_ns
        )


def is_older(updated_at_ns: int, known_ns: int) -> bool:
    """Compare two ``endpoint_updated_at_ns``; nothing is known of the order if either is missing, that is 0."""
    return 0 < updated_at_ns < known_ns


def merged_options(current: PoolOptions, wanted: PoolOptions) -> PoolOptions:
    """Return what holds for a pool after a registration that wants this.

    The last registration decides, and what it leaves out is cleared; only the algorithm, with its hash settings,
    stays as it is if none or an unknown one is wanted.
    """
    if wanted.algorithm not in ALGORITHMS and (current.algorithm or wanted.algorithm):
        wanted = msgspec.structs.replace(
            wanted,
            algorithm=current.algorithm,
            hash_header=current.hash_header,
            hash_balance=current.hash_balance,
        )
    return current if wanted == current else wanted


def _record(registration: Registration, rules: RegistryRules, shared: Shared) -> EndpointRecord:
    text = shared.text
    protocol = registration.protocol
    return EndpointRecord(
        host=text(registration.host),
        port=registration.port,
        tls=registration.tls,
        app=text(registration.app),
        instance_id=text(registration.instance_id),
        instance_index=text(registration.instance_index),
        san=text(registration.san),
        protocol="http1" if protocol == "http2" and not rules.http2 else text(protocol),
        availability_zone=text(registration.availability_zone),
        isolation_segment=text(registration.isolation_segment),
        tags=shared.tags(registration.tags),
        updated_at_ns=registration.updated_at_ns,
        weight=registration.weight,
    )


def _options(registration: Registration) -> PoolOptions:
    options = PoolOptions(
        registration.route_service_url,
        registration.algorithm,
        registration.hash_header,
        registration.hash_balance,
        registration.route_policy_scope,
        registration.route_policy_sources,
    )
    return NO_OPTIONS if options == NO_OPTIONS else options
