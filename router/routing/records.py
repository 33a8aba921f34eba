"""Facts about endpoints and routes, and the changes to them that travel from control to the workers.

Values only: no clock, no I/O, no counters. Control's registry makes them, `router.sync` carries them, and a
worker's `routing.mirror` turns them into live pools. One law: a record never changes; an endpoint whose data
changed is a new record under a new id.
"""

import msgspec


class EndpointRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One instance as it was announced (GOROUTER.md §3.2); immutable, and shared by every route of one message."""

    host: str
    port: int
    """The port to dial: ``tls_port`` when the message had one, else ``port``."""
    tls: bool = False
    app: str = ""
    instance_id: str = ""
    """``private_instance_id``; may be empty."""
    instance_index: str = ""
    san: str = ""
    """``server_cert_domain_san``: the name the backend's certificate must carry; empty means the host."""
    protocol: str = "http1"
    availability_zone: str = ""
    isolation_segment: str = ""
    tags: dict[str, str] = {}
    updated_at_ns: int = 0
    """``endpoint_updated_at_ns``; 0 when the message had none."""
    weight: int = 1
    """Its share of the requests, beside the weights of the pool's other members."""

    @property
    def address(self) -> str:
        """``host:port``, the identity of an endpoint within a pool (GOROUTER.md §3.4); IPv6 hosts in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class PoolOptions(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the last registration decided for a whole pool (GOROUTER.md §3.4, "Then pool-wide")."""

    route_service_url: str = ""
    algorithm: str = ""
    """``round-robin``, ``least-connection`` or ``hash``; empty means the router's global algorithm."""
    hash_header: str = ""
    hash_balance: float = 0.0
    route_policy_scope: str = ""
    route_policy_sources: str = ""


PLAIN = PoolOptions()
"""What most pools have: nothing special is wanted. Workers use this very object for it."""


class DefineEndpoint(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Give an endpoint its id. Comes before the first `PutEndpoint` that names the id."""

    endpoint_id: int
    record: EndpointRecord


class PutEndpoint(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Put an endpoint into the pool of a route key, making the pool if there is none.

    ``replaces`` is the id of the endpoint whose position it takes, or 0 to append. A worker that no longer has
    that id (it removed the endpoint after a failed connection) appends.
    """

    key: str
    context_path: str
    """The context path as registered, case kept, ``/`` if none: the Path of sticky cookies."""
    endpoint_id: int
    replaces: int
    options: PoolOptions


class RemoveEndpoint(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Take an endpoint out of a pool; the pool stays, empty if it was the last. Unknown ids are ignored."""

    key: str
    endpoint_id: int


class SetPoolOptions(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Change what holds for the whole pool, its endpoints being the same."""

    key: str
    options: PoolOptions


class PutEmptyPool(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Part of a snapshot: a route that is kept although no endpoint is left (GOROUTER.md §4.6)."""

    key: str
    context_path: str
    options: PoolOptions


class DropPool(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Forget a route key altogether."""

    key: str


class ForgetEndpoints(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """No pool names these ids any more; they will not come back."""

    endpoint_ids: list[int]


Change = DefineEndpoint | PutEndpoint | RemoveEndpoint | SetPoolOptions | PutEmptyPool | DropPool | ForgetEndpoints
"""One step from an older state of the route table to a newer one. A snapshot is a list of these too."""
