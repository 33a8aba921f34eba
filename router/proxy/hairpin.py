"""The way to a route service that is a route of our own, without leaving the worker (GOROUTER.md §7.5).

Two exchanges and a bridge between them: to the outer one it is the connection to its endpoint, to the inner one it
is the client. Gorouter dials itself over TLS for this; what the service and its app get to see is the same: one
more hop over TLS, from 127.0.0.1. Owns the translation between the two sides; decides nothing about routes.

One law: a request begins, and a side that broke off is told of to the other, in a later turn of the event loop:
neither is surprised in the middle of its own step, and the stack stays flat.
"""

import asyncio
from collections.abc import Callable

from router.backend.connection import BackendConnection, ResponseReceiver
from router.backend.connections import Carrier, Connections
from router.backend.dial import BackendOptions
from router.backend.failure import (
    BAD_GATEWAYS,
    NEVER,
    NOTHING,
    PROTOCOL,
    BackendFailure,
    FailureClass,
    of_lost,
)
from router.proxy import reply
from router.proxy.client import UNKNOWN_LENGTH
from router.proxy.exchange import Exchange
from router.proxy.presented import ANONYMOUS, Presented
from router.routing.pool import Endpoint
from router.wire.chunked import ChunkedDecoder
from router.wire.header_lines import REQUEST_FIELDS, BadMessage
from router.wire.http1 import CHUNKED, RequestHead, ResponseHead, parse_request_head, parse_response_head

MOST_HOPS = 8
"""A service may have a service; so many in a row can only be a circle."""
LOOP = FailureClass("hairpin-loop", NEVER, NOTHING, NOTHING, 502, BAD_GATEWAYS)

_LOOPBACK = b"127.0.0.1"
_HEAD_END = b"\r\n\r\n"


class HairpinConnections(Connections):
    """Bridges in place of connections: one for each request, and none is dialled.

    Args:
        clock: monotonic seconds.
        listener_port: what the inner exchange takes for the port that was dialled.
    """

    def __init__(self, options: BackendOptions, clock: Callable[[], float], listener_port: int) -> None:
        super().__init__(options, clock)
        self._listener_port = listener_port

    def checkout(self, endpoint: Endpoint, safe_to_repeat: bool, upgrade: bytes = b"") -> BackendConnection:
        return HairpinConnection(self, endpoint, self._listener_port)

    def dial(
        self,
        endpoint: Endpoint,
        done: Callable[[Carrier], None],
        failed: Callable[[BackendFailure], None],
        upgrade: bytes = b"",
    ) -> "asyncio.Task[None]":
        async def bridge() -> None:
            done(self.checkout(endpoint, True))

        return asyncio.get_running_loop().create_task(bridge())


class HairpinConnection(BackendConnection):
    """The outer exchange's side: what it takes for the connection to the service."""

    def __init__(self, owner: Connections, endpoint: Endpoint, listener_port: int) -> None:
        super().__init__(owner, endpoint)
        self._listener_port = listener_port
        self._client: HairpinClient | None = None

    def send_request(self, exchange: ResponseReceiver, head: bytes) -> None:
        assert isinstance(exchange, Exchange)
        before = exchange.client
        hops = before.hops + 1 if isinstance(before, HairpinClient) else 1
        self.exchange = exchange
        self._client = HairpinClient(self, exchange, hops, self._listener_port)
        asyncio.get_running_loop().call_soon(self._client.begin, head)

    def send(self, piece: bytes) -> None:
        if self._client is not None:
            self._client.take(piece)

    def send_eof(self) -> None:
        if self._client is not None and self._client.exchange is not None:
            self._client.exchange.tunnel_client_eof()

    def is_usable(self) -> bool:
        return False

    def fileno(self) -> int:
        return -1

    def pause_reading(self) -> None:
        if self._client is not None and self._client.exchange is not None:
            self._client.exchange.client_full()

    def resume_reading(self) -> None:
        if self._client is not None and self._client.exchange is not None:
            self._client.exchange.client_writable()

    def discard(self) -> None:
        self.exchange = None
        if self._client is not None:
            self._client.abandon()

    def close(self) -> None:
        """Let go. The inner exchange may be about to end by itself, having passed on the last it had."""
        self.exchange = None
        if self._client is not None:
            asyncio.get_running_loop().call_soon(self._client.abandon)


class HairpinClient:
    """The inner exchange's side: what it takes for its client; implements `proxy.client.Client`.

    Attributes:
        exchange: the inner one, while it is in progress.
        hops: bridges between the real client and this exchange, this one included.
    """

    peer = _LOOPBACK + b":0"
    peer_ip = _LOOPBACK
    secure = True
    protocol = b"HTTP/1.1"

    def __init__(self, connection: HairpinConnection, outer: Exchange, hops: int, listener_port: int) -> None:
        self.listener_port = listener_port
        self.exchange: Exchange | None = None
        self.hops = hops
        self._connection = connection
        self._proxy = outer.proxy
        self._method = outer.method
        self._body_wanted = False
        self._waiting = b""
        """Body that came before an endpoint was found for it."""
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        self._tunnel = False

    # What the outer side does.

    def begin(self, raw: bytes) -> None:
        """Read the head that the outer exchange wrote, and serve it as a request."""
        if self._connection.exchange is None:
            return
        if self.hops > MOST_HOPS:
            self._fail(BackendFailure(LOOP, f"more than {MOST_HOPS} route services in a row"))
            return
        try:
            head = parse_request_head(raw.removesuffix(_HEAD_END))
        except BadMessage as error:
            self._fail(BackendFailure(PROTOCOL, error.reason))
            return
        self._expect_body(head)
        exchange = self.exchange = Exchange(self._proxy, self, head)
        try:
            self._proxy.begin(exchange)
        except Exception as error:
            self._proxy.panicked(exchange, error)

    def take(self, piece: bytes) -> None:
        """Take bytes of the body, framed as for an endpoint, or of a tunnel."""
        if self._tunnel:
            if self.exchange is not None:
                self.exchange.tunnel_from_client(piece)
        elif self._body_wanted:
            self._read_body(piece)
        else:
            self._waiting += piece
            self.pause_reading()

    def abandon(self) -> None:
        """The outer side is not interested any more."""
        self._waiting = b""
        if self.exchange is not None:
            self.exchange.client_gone()

    def _expect_body(self, head: RequestHead) -> None:
        self._remaining = head.length
        if head.framing == CHUNKED:
            self._decoder = ChunkedDecoder(REQUEST_FIELDS, self._proxy.options.max_header_bytes)

    def _read_body(self, data: bytes) -> None:
        exchange, decoder = self.exchange, self._decoder
        if exchange is None:
            return
        try:
            piece = decoder.feed(data) if decoder is not None else data
        except BadMessage as error:
            exchange.break_off(reply.bad_request(error.status, error.reason))
            return
        self._remaining -= len(piece)
        done = decoder.done if decoder is not None else self._remaining == 0
        if piece:
            exchange.request_body(piece)
        if done and not exchange.finished:
            exchange.request_end(decoder.trailers if decoder is not None else [])

    # What the inner exchange asks of its client (proxy.client.Client).

    def presented(self) -> Presented:
        return ANONYMOUS

    def send_interim(self, status: int, lines: list[bytes]) -> None:
        outer = self._connection.exchange
        if outer is not None:
            head = ResponseHead(status, 1)
            head.lines = lines
            outer.interim_response(head)

    def send_response(self, status: int, lines: list[bytes], length: int, body: bytes, complete: bool) -> None:
        framing = []
        if length >= 0:
            framing.append(b"Content-Length: %d" % length)
        elif length == UNKNOWN_LENGTH:
            framing.append(b"Transfer-Encoding: chunked")
        outer = self._connection.exchange
        head = self._head(status, [*lines, *framing])
        if outer is None or head is None:
            return
        if complete:
            self._connection.exchange = None
        outer.response_head(head, body, complete)

    def send_body(self, piece: bytes) -> None:
        outer = self._connection.exchange
        if outer is not None:
            outer.response_body(piece)

    def send_end(self, trailers: list[bytes]) -> None:
        outer, self._connection.exchange = self._connection.exchange, None
        if outer is not None:
            outer.response_end(trailers)

    def send_switch(self, lines: list[bytes]) -> None:
        outer = self._connection.exchange
        head = self._head(101, lines)
        if outer is not None and head is not None:
            self._tunnel = True
            outer.switched(head, b"")

    def send_tunnel(self, piece: bytes) -> None:
        outer = self._connection.exchange
        if outer is not None:
            outer.tunnel_from_backend(piece)

    def send_tunnel_eof(self) -> None:
        outer = self._connection.exchange
        if outer is not None:
            outer.tunnel_backend_eof()

    def accept_body(self) -> None:
        self._body_wanted = True
        data, self._waiting = self._waiting, b""
        # First, because these bytes may already be more than the endpoint takes.
        self.resume_reading()
        if data:
            self._read_body(data)

    def hold_body(self) -> None:
        self._body_wanted = False

    def cut(self) -> None:
        asyncio.get_running_loop().call_soon(self._fail, of_lost(None))

    def pause_reading(self) -> None:
        outer = self._connection.exchange
        if outer is not None:
            outer.backend_full()

    def resume_reading(self) -> None:
        outer = self._connection.exchange
        if outer is not None:
            outer.backend_writable()

    def close_after_response(self) -> None:
        """A bridge is used once anyway."""

    def exchange_finished(self) -> None:
        self.exchange = None

    # The inside.

    def _head(self, status: int, lines: list[bytes]) -> ResponseHead | None:
        """Read the inner response's head as that of any endpoint, so that nothing gets through by this way that
        would not by another."""
        self._connection.got_bytes = True
        raw = b"\r\n".join([b"HTTP/1.1 %d " % status, *lines])
        try:
            return parse_response_head(raw, self._method)
        except BadMessage as error:
            failure = BackendFailure(PROTOCOL, error.reason)
            asyncio.get_running_loop().call_soon(self._fail, failure)
            return None

    def _fail(self, failure: BackendFailure) -> None:
        outer, self._connection.exchange = self._connection.exchange, None
        if outer is not None:
            outer.backend_failed(failure)
