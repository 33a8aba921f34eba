"""What is known about an exchange.

Plain values; `proxy.exchange` and the pipeline act on them. What every exchange sets has slots, what few do has
class-level defaults: attributes without slots are found fast only while there are no more than some thirty of them
in all objects of a class (CPython 3.11).
"""

from time import monotonic, time_ns
from typing import TYPE_CHECKING

from router.backend.connections import Carrier
from router.backend.failure import BackendFailure
from router.proxy.client import Client
from router.proxy.mtls import Domain
from router.routing.internal_records import Identity
from router.routing.pool import Endpoint, Pool
from router.routing.route_policy import Caller
from router.wire.http1 import NO_BODY, RequestHead

if TYPE_CHECKING:
    import asyncio

    from router.proxy.forward import Proxy
    from router.proxy.route_service import ServiceCall


class Ordinary:
    """What every exchange sets. Times are monotonic seconds, 0.0 if there is none.

    Attributes:
        received_ns: when the request came, by the wall clock.
        plain: the route wants nothing special, and neither does the request.
        repeatable: no body and a method that may be sent twice (GOROUTER.md §6.4, "Idempotent").
        connection: in use by this exchange; None once it is released or lost.
        last_connection: the one this attempt was made on, for logs and the question whether it was a reused one.
        full_duplex: an answer that comes before the request's end does not end the request.
        counted: this exchange is in its endpoint's in-flight count.
        deadline: when ``endpoint_timeout`` is over.
        timeout_s: how long an attempt may take; 0 is no limit, below 0 what the proxy's options say.
        invite_at: when a client that waits for 100 Continue has waited long enough.
        attempt_at: when the last attempt began.
    """

    __slots__ = (
        "attempt_at",
        "attempts",
        "body_sent",
        "bytes_in",
        "bytes_out",
        "client",
        "connection",
        "counted",
        "deadline",
        "endpoint",
        "finished",
        "forwarded_for",
        "forwarded_proto",
        "full_duplex",
        "head",
        "invite_at",
        "last_connection",
        "method",
        "plain",
        "pool",
        "prefix",
        "proxied_at",
        "proxy",
        "received_ns",
        "repeatable",
        "request_complete",
        "request_id",
        "response_ended",
        "response_started",
        "router_error",
        "started",
        "status",
        "timeout_s",
        "tried",
        "upgrade",
    )

    def __init__(self, proxy: "Proxy", client: Client, head: RequestHead) -> None:
        self.received_ns = time_ns()
        self.started = monotonic()
        self.proxy = proxy
        self.client = client
        self.head = head
        self.method = head.method
        self.plain = False
        self.request_id = b""
        self.pool: Pool | None = None
        self.forwarded_for = b""
        self.forwarded_proto = b""
        self.prefix = b""
        self.upgrade = b""
        self.repeatable = False
        self.endpoint: Endpoint | None = None
        self.connection: Carrier | None = None
        self.last_connection: Carrier | None = None
        self.attempts = 0
        self.tried: list[Endpoint] | None = None
        self.full_duplex = False
        self.counted = False
        self.body_sent = False
        self.deadline = 0.0
        self.timeout_s = -1.0
        self.invite_at = 0.0
        self.proxied_at = 0.0
        self.attempt_at = 0.0
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.router_error = b""
        self.response_started = False
        self.response_ended = False
        self.request_complete = head.framing == NO_BODY
        self.finished = False


class ExchangeState(Ordinary):
    """The same and what only few exchanges set."""

    # Of requests between containers.
    caller: Identity | None = None
    internal_name: str = ""

    # Of routes and clients that ask for more than being forwarded.
    trace_id: bytes = b""
    span_id: bytes = b""
    wanted: bytes = b""
    """The instance a session cookie names; empty if none does."""
    must_stick: bool = False
    """No other instance will do (GOROUTER.md §6.7, "Negotiate")."""
    hash_key: bytes = b""
    domain: Domain | None = None
    """The domain with mutual TLS that the request is for."""
    app_caller: Caller | None = None
    """Who calls, according to the certificate such a domain asks for."""
    service: "ServiceCall | None" = None
    """This request goes to a route service, which is to call back."""
    from_service: bool = False
    """A route service has seen this request: its signature is good."""

    # Attempts.
    dialling: "asyncio.Task[None] | None" = None
    redialled: bool = False
    refusals: int = 0
    invited: bool = False
    """The router has said 100 Continue in the backend's place."""
    headed_at: float = 0.0
    """Monotonic seconds when the response head came; only if somebody looks on."""
    lookup_s: float = 0.0
    """How long the look-up of the route took; only if somebody looks on."""
    failed_attempts: int = 0
    failed_s: float = 0.0
    last_failure: BackendFailure | None = None

    # Outcome.
    answered: bool = False
    """The response is the router's own."""
    tunnelling: bool = False
    tunnel_idle_s: float = 0.0
    """A tunnel ends when nobody says anything for so long; 0 is never."""
    tunnel_eofs: int = 0
    """Sides that have ended their stream; with both the tunnel is over."""
