"""An exchange as observers see it, with the values of an ordinary one."""

from dataclasses import dataclass, field, replace
from typing import Any

from router.routing.pool import Endpoint
from router.routing.records import EndpointRecord
from router.routing.sharing import Tags

APP = "f47ac10b-58cc-4372-a567-0e02b2c3d479"


@dataclass
class Head:
    method: bytes = b"GET"
    host: bytes = b"app.test"
    path: bytes = b"/a?secret=1"
    special: dict[bytes, bytes] = field(default_factory=lambda: {b"user-agent": b"curl/8"})


@dataclass
class Peer:
    peer: bytes = b"10.0.0.9:4711"
    secure: bool = False


def endpoint(number: int = 1, app: str = APP, **tags: str) -> Endpoint:
    record = EndpointRecord("10.0.0.1", 8080, app=app, instance_id="inst", instance_index="3")
    return Endpoint(number, record, Tags(tuple(tags), tuple(tags.values())))


@dataclass
class Seen:
    """Began at 100 s of the monotonic clock, 10^18 ns of the other; the endpoint was asked 2 ms later."""

    received_ns: int = 10**18
    started: float = 100.0
    lookup_s: float = 0.000_025
    proxied_at: float = 100.002
    attempt_at: float = 100.002
    attempts: int = 1
    status: int = 200
    response_started: bool = True
    bytes_out: int = 12
    endpoint: Endpoint | None = field(default_factory=lambda: endpoint(component="route-emitter"))
    service: Any = None
    tunnelling: bool = False
    head: Any = field(default_factory=Head)
    client: Any = field(default_factory=Peer)
    request_id: bytes = b"7aefff86-7b8f-4c1c-5dd1-6b0f6d9cb3a1"
    trace_id: bytes = b""
    span_id: bytes = b""
    forwarded_for: bytes = b"10.0.0.9"

    def but(self, **changes: Any) -> "Seen":
        return replace(self, **changes)
