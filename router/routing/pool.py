"""A worker's view of endpoints and of the pools that routes lead to.

Owns membership, in-flight counts, failure marks and what is prepared per endpoint for the hot path; does not own
the choice (`routing.balancing`) nor the authoritative table (control's registry). All state here is this worker's
own: nothing is shared between processes.
"""

from collections.abc import Iterator
from typing import Any

from router.routing.hashing import fill_table, slot_of
from router.routing.records import EndpointRecord, PoolOptions
from router.routing.sharing import NO_TAGS, Tags
from router.routing.weights import turns_of


class Endpoint:
    """One instance, shared by all pools of the message that announced it; lives as long as any pool names it.

    Attributes:
        in_flight: exchanges sent whose response head has not arrived (GOROUTER.md §4.8).
        failed_at: when a connection to it failed last, in monotonic seconds; 0.0 if it is not marked.
        idle: connections ready for reuse, most recently used last; owned by the backend layer.
        shared: connections that many exchanges use at once; owned by it, too.
        identity: header lines that tell an app which instance it is, joined, with their final line end.
        tags: what the announcement said for metrics and logs; ``record.tags`` is empty in a worker.
        log_fields: the access log's ``app_id … instance_id`` part.
    """

    __slots__ = (
        "_address",
        "_identity",
        "_log_fields",
        "_quoted_address",
        "endpoint_id",
        "failed_at",
        "gone",
        "idle",
        "in_flight",
        "record",
        "shared",
        "tags",
    )

    def __init__(self, endpoint_id: int, record: EndpointRecord, tags: Tags = NO_TAGS) -> None:
        self.endpoint_id = endpoint_id
        self.record = record
        self.tags = tags
        self._address = ""
        self.in_flight = 0
        self.failed_at = 0.0
        self.gone = False
        # Any, because the routing layer must not know what a connection is; made on first use because most of a
        # large table's endpoints are never asked for.
        self.idle: list[Any] | None = None
        self.shared: list[Any] | None = None
        self._identity = b""
        self._log_fields = b""
        self._quoted_address = b""

    @property
    def address(self) -> str:
        """``host:port``."""
        if not self._address:
            self._address = self.record.address
        return self._address

    @property
    def identity(self) -> bytes:
        if not self._identity:
            record = self.record
            self._identity = (
                f"X-Cf-Applicationid: {record.app}\r\n"
                f"X-Cf-Instanceid: {record.instance_id or self.address}\r\n"
                f"X-Cf-Instanceindex: {record.instance_index}\r\n"
            ).encode()
        return self._identity

    def quoted_address(self) -> bytes:
        """Return the address as the access log shows it."""
        if not self._quoted_address:
            self._quoted_address = b'"%b"' % self.address.encode()
        return self._quoted_address

    def log_fields(self, quote: Any) -> bytes:
        """Return ``app_id:"…" app_index:"…" instance_id:"…"``; ``quote`` makes a log value of bytes."""
        if not self._log_fields:
            record = self.record
            self._log_fields = b"app_id:%b app_index:%b instance_id:%b" % (
                quote(record.app.encode()),
                quote(record.instance_index.encode()),
                quote(record.instance_id.encode()),
            )
        return self._log_fields

    def take_over(self, old: "Endpoint") -> None:
        """Inherit from the endpoint whose place this one takes: its failure mark and, if the same backend
        certificate is expected at the same address, its idle connections (GOROUTER.md §3.4)."""
        self.failed_at = old.failed_at
        if not (old.idle or old.shared) or not self._is_reached_like(old):
            return
        for connection in (*(old.idle or ()), *(old.shared or ())):
            connection.endpoint = self
        # Not all may come from this one: with several uris it is replaced in one pool after the other.
        self.idle, old.idle = [*(self.idle or ()), *(old.idle or ())], None
        self.shared, old.shared = [*(self.shared or ()), *(old.shared or ())], None

    def _is_reached_like(self, old: "Endpoint") -> bool:
        mine, theirs = self.record, old.record
        return (
            self.address == old.address
            and mine.tls == theirs.tls
            and mine.san == theirs.san
            and mine.protocol == theirs.protocol
        )


class HashTable:
    """Whose slot is whose in a pool, as long as its members stay the same (GOROUTER.md §6.9).

    Gorouter knows no weights; where they are equal, its vectors hold.
    """

    __slots__ = ("_owners", "_slots")

    def __init__(self, endpoints: list[Endpoint], size: int) -> None:
        self._owners = sorted(endpoints, key=_hash_id)
        weights = [owner.record.weight for owner in self._owners]
        turns = turns_of(weights) if len(set(weights)) > 1 else ()
        self._slots = fill_table([_hash_id(owner) for owner in self._owners], size, turns)

    def owners_of(self, key: bytes) -> Iterator[Endpoint]:
        """Yield the endpoint that a header value belongs to, then the others in the order of their next slots, and
        last those that have none, their weight being too small."""
        slots = self._slots
        size = len(slots)
        start = slot_of(key, size)
        seen: set[int] = set()
        for step in range(size):
            owner = slots[(start + step) % size]
            if owner not in seen:
                yield self._owners[owner]
                seen.add(owner)
                if len(seen) == len(self._owners):
                    return
        yield from [endpoint for owner, endpoint in enumerate(self._owners) if owner not in seen]


def _hash_id(endpoint: Endpoint) -> str:
    # Gorouter: endpoints without an instance id are one and the same, and only the last of them gets requests.
    return endpoint.record.instance_id or endpoint.address


class Pool:
    """The endpoints of one route, in registration order.

    Args:
        part_of: the pool whose members these are some of, for a request that names instances.

    Attributes:
        cursor: where round-robin goes on; -1 until first used, then random start (GOROUTER.md §6.1).
        turns: in which order members take turns, each as often as its weight says; ``endpoints`` itself if weights
            are equal, as nearly everywhere; None while nobody has asked since they changed.
    """

    __slots__ = (
        "_candidates",
        "_hash_table",
        "context_path",
        "cursor",
        "endpoints",
        "key",
        "options",
        "part_of",
        "turns",
    )

    def __init__(self, key: str, context_path: str, options: PoolOptions, part_of: "Pool | None" = None) -> None:
        self.key = key
        self.context_path = context_path
        self.options = options
        self.endpoints: list[Endpoint] = []
        self.cursor = -1
        self.part_of = part_of
        self.turns: list[Endpoint] | None = None
        self._candidates = self.endpoints
        self._hash_table: HashTable | None = None

    def candidates(self) -> list[Endpoint]:
        """Return the members that take requests of their own: those with a weight; all if none has one."""
        if self.turns is None:
            self._weigh()
        return self._candidates

    def is_weighted(self) -> bool:
        """Whether members have different weights."""
        if self.turns is None:
            self._weigh()
        return self.turns is not self.endpoints

    def _weigh(self) -> None:
        endpoints = self._candidates = self.turns = self.endpoints
        weights = [endpoint.record.weight for endpoint in endpoints]
        if len(set(weights)) > 1:
            self._candidates = [endpoint for endpoint in endpoints if endpoint.record.weight]
            self.turns = [endpoints[position] for position in turns_of(weights)]

    def hash_table(self, size: int) -> HashTable:
        """Return the table of this pool, of ``size`` slots, made on first use after a change of members."""
        if self._hash_table is None:
            self._hash_table = HashTable(self.endpoints, size)
        return self._hash_table

    def put(self, endpoint: Endpoint, replaced: Endpoint | None) -> None:
        """Append the endpoint, or put it where ``replaced`` stands if that is still a member."""
        self._hash_table = self.turns = None
        if replaced is not None:
            for index, member in enumerate(self.endpoints):
                if member is replaced:
                    self.endpoints[index] = endpoint
                    endpoint.take_over(replaced)
                    return
        if endpoint not in self.endpoints:
            self.endpoints.append(endpoint)

    def remove(self, endpoint_id: int) -> bool:
        """Take a member out, of the pool this is a part of too; return whether it was one."""
        self._hash_table = self.turns = None
        if self.part_of is not None:
            self.part_of.remove(endpoint_id)
        for index, member in enumerate(self.endpoints):
            if member.endpoint_id == endpoint_id:
                del self.endpoints[index]
                return True
        return False
