"""The contract between exchanges and those who tell others of them: metrics, events for the platform's agent.

Owns what an observer is told and what it may read; does not own when. One law: an observer changes nothing, and
nothing it meets with costs the exchange anything.
"""

from typing import Any, Protocol

from router.proxy.client import Client
from router.routing.pool import Endpoint
from router.wire.http1 import RequestHead


class Observed(Protocol):
    """An exchange, as observers see it. Times are monotonic seconds unless said otherwise."""

    received_ns: int
    """Nanoseconds since the epoch at which the request head was there."""
    started: float
    """The same moment."""
    lookup_s: float
    """Seconds that looking up the route took; 0 if there was no look-up."""
    proxied_at: float
    """Start of the first attempt; 0 before any."""
    attempt_at: float
    """Start of the last attempt."""
    attempts: int
    status: int
    response_started: bool
    bytes_out: int
    """Body bytes sent to the client."""
    endpoint: Endpoint | None
    """Of the last attempt, or chosen for a refusal; None on the leg to a route service too."""
    service: Any
    """Not None while the request is on its way to a route service."""
    tunnelling: bool
    head: RequestHead
    client: Client
    request_id: bytes
    trace_id: bytes
    """Hexadecimal; empty without tracing."""
    span_id: bytes
    forwarded_for: bytes
    """X-Forwarded-For as the backend gets it."""


class Observer(Protocol):
    """Told of every exchange of a worker."""

    def attempted(self, exchange: Observed, failed: bool, now: float) -> None:
        """The response head of an attempt has come, or the attempt has failed."""

    def finished(self, exchange: Observed, now: float) -> None:
        """The exchange is over."""
