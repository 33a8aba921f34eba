"""An exchange's place in tests of backend connections: it writes down what a connection tells it."""

import asyncio
from typing import Any

from router.backend.connection import BackendConnection
from router.backend.connections import Carrier, Connections
from router.backend.dial import BackendOptions
from router.backend.failure import BackendFailure
from router.routing.pool import Endpoint
from router.routing.records import EndpointRecord
from router.wire.http1 import ResponseHead
from tests.support.eventually import eventually

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Receiver:
    """Implements `ResponseReceiver`."""

    def __init__(self, method: bytes = b"GET", *, upgrade: bytes = b"", complete: bool = True) -> None:
        self.method = method
        self.request_complete = complete
        self.body_sent = False
        self.full_duplex = False
        self.upgrade = upgrade
        self.events: list[tuple[Any, ...]] = []
        self.body = b""
        self.tunnelled = b""
        self.trailers: list[bytes] | None = None
        self.status = 0
        self.failure: BackendFailure | None = None
        self._changed = asyncio.Event()

    async def until_over(self) -> "Receiver":
        """Wait for the end of the response, or the failure."""
        await self.until(lambda: self.trailers is not None or self.failure is not None)
        return self

    async def until(self, condition: Any) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _note(self, *event: Any) -> None:
        self.events.append(event)
        self._changed.set()

    def names(self) -> list[str]:
        """What happened, in order; body pieces, which may be cut anyhow, count once."""
        names = [event[0] for event in self.events]
        return [name for place, name in enumerate(names) if name != "body" or names[place - 1] != "body"]

    def interim_response(self, head: ResponseHead) -> None:
        self._note("interim", head.status)

    def response_head(self, head: ResponseHead, body: bytes, complete: bool) -> None:
        self.status = head.status
        self.body += body
        if complete:
            self.trailers = []
        self._note("head", head.status)

    def response_body(self, piece: bytes) -> None:
        self.body += piece
        self._note("body")

    def response_end(self, trailers: list[bytes]) -> None:
        self.trailers = trailers
        self._note("end")

    def switched(self, head: ResponseHead, first: bytes) -> None:
        self.status = head.status
        self.tunnelled += first
        self._note("switched")

    def tunnel_from_backend(self, piece: bytes) -> None:
        self.tunnelled += piece
        self._note("tunnel")

    def tunnel_backend_eof(self) -> None:
        self._note("tunnel eof")

    def backend_failed(self, failure: BackendFailure) -> None:
        self.failure = failure
        self._note("failed")

    def backend_full(self) -> None:
        self._note("full")

    def backend_writable(self) -> None:
        self._note("writable")


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Dialler:
    """`Connections` whose callbacks are awaited."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        defaults: dict[str, Any] = {
            "dial_timeout_s": 10.0,
            "handshake_timeout_s": 10.0,
            "keep_alive": True,
            "max_idle": 2,
            "probe_interval_s": 1.0,
            "max_head_bytes": 1_000_000,
            "max_headers": 0,
            "contexts": (),
        }
        self.connections = Connections(BackendOptions(**(defaults | options)), self.clock)

    async def dial(self, endpoint: Endpoint) -> BackendConnection:
        """Connect to an endpoint that speaks HTTP/1. Raises `BackendFailure`."""
        connection = await self.carrier(endpoint)
        assert isinstance(connection, BackendConnection)
        return connection

    async def carrier(self, endpoint: Endpoint, upgrade: bytes = b"") -> Carrier:
        """Get what carries one exchange to an endpoint. Raises `BackendFailure`."""
        outcome: asyncio.Future[Carrier] = asyncio.get_running_loop().create_future()
        self.connections.dial(endpoint, outcome.set_result, outcome.set_exception, upgrade)
        return await outcome

    async def exchange(
        self, connection: Carrier, receiver: Receiver | None = None, request: bytes = GET
    ) -> Receiver:
        """Send a request and wait for the end of what comes back."""
        receiver = receiver or Receiver()
        connection.send_request(receiver, request)
        return await receiver.until_over()

    async def until_closed(self) -> None:
        """Wait until no connection is open."""
        await eventually(lambda: not len(self.connections), "all connections are closed")


def endpoint(port: int, *, host: str = "127.0.0.1", **fields: Any) -> Endpoint:
    return Endpoint(1, EndpointRecord(host, port, **fields))
