"""One HTTP/1 client connection: reads requests one after another.

Owns heads that come in pieces, pipelining, bodies and what is left of them; writing is its other half's
(`frontend.http1_sender`), and neither decides about routes. One law: a connection whose framing is in doubt ends
with the response at hand, and not one byte more is read as HTTP.
"""

import asyncio
from time import monotonic

from router.frontend.connection import HEAD_SLACK_BYTES, LAST_REQUEST_S, Accepted, FrontendOptions, Served
from router.frontend.http1_sender import AWAIT, BODY, CLOSED, HEAD, LINGER, TUNNEL, ResponseSender
from router.frontend.writing import refusal, switch_head
from router.proxy import reply
from router.proxy.exchange import Exchange
from router.proxy.forward import Proxy
from router.wire.chunked import ChunkedDecoder
from router.wire.head_buffer import HeadTooLong, RequestHeadBuffer
from router.wire.header_lines import REQUEST_FIELDS, BadMessage
from router.wire.http1 import (
    LENGTH,
    NO_BODY,
    EmptyContentLength,
    RequestHead,
    UnsupportedVersion,
    parse_request_head,
)

_PIPELINED_BYTES = 65536
_DRAINED_BODY_BYTES = 256 * 1024
"""A body nobody wants is read to its end if no more than this is missing; otherwise the connection closes."""
_DRAIN_S = 10.0
"""A body nobody wants has this long to end."""
_REMEMBERED_BYTES = 8192
"""A head above this is forgotten with its response: an idle connection should not cost what its requests did."""


class ClientConnection(ResponseSender):
    """Serves one client connection from accept to close; implements `proxy.client.Client`."""

    def __init__(
        self, proxy: Proxy, options: FrontendOptions, connections: set[Served], accepted: Accepted
    ) -> None:
        super().__init__(proxy, options, connections, accepted)
        # For the connection.
        self._buffer = b""
        self._partial: RequestHeadBuffer | None = None
        self._serving = False
        self._full = False
        """The client does not take what is written as fast as it comes."""
        # For the request at hand.
        self.exchange: Exchange | None = None
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        self._body_wanted = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._take(transport)
        self._connections.add(self)
        # Balancers connect ahead of requests: without a byte yet, a connection is as idle as between two of them.
        self._await_head(monotonic())

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client; called directly where TLS lies between."""
        phase = self._phase
        if phase == HEAD:
            self._buffer = self._buffer + data if self._buffer else data
            if not self._serving:
                self._serve()
            if self._full and len(self._buffer) > _PIPELINED_BYTES:
                self.pause_reading()
        elif phase == BODY:
            self._body_bytes(data)
        elif phase == TUNNEL:
            if self.exchange is not None:
                self.exchange.tunnel_from_client(data)
        elif phase == AWAIT:
            self._buffer += data
            if len(self._buffer) > _PIPELINED_BYTES:
                self.pause_reading()

    def eof_received(self) -> bool:
        exchange = self.exchange
        if self._phase == TUNNEL and exchange is not None:
            exchange.tunnel_client_eof()
            return True
        # As in Gorouter (and nginx), a client that ends its side while it waits for a response has gone: a closed
        # connection cannot be told from a half-closed one until something is written to it.
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = CLOSED
        self._connections.discard(self)
        if self.exchange is not None:
            self.exchange.client_gone()

    def pause_writing(self) -> None:
        self._full = True
        if self.exchange is not None:
            self.exchange.client_full()

    def resume_writing(self) -> None:
        self._full = False
        if self.exchange is not None:
            self.exchange.client_writable()
        elif self._phase == HEAD and not self._serving:
            self.resume_reading()
            self._serve()

    # What the worker calls.

    def expire(self) -> None:
        """The deadline has passed: of an idle connection, an unfinished head, or lingering."""
        self.deadline = 0.0
        if self._phase == HEAD and self._partial is not None:
            self._refuse(BadMessage(408, "request head not complete in time"))
        elif self._phase in (HEAD, BODY, LINGER):
            self._close()
        elif self._phase == CLOSED:
            self._check_flush(monotonic())

    def drain(self) -> None:
        """Close with the response at hand; if idle, after one more request or as soon as none comes."""
        self._draining = True
        if self._phase == HEAD and not self._buffer and self._partial is None:
            self._await_head(monotonic())

    def is_tunnel(self) -> bool:
        return self._phase == TUNNEL

    def unread_descriptor(self) -> int:
        return self.fileno() if self._paused and not self._transport.is_closing() else -1

    # Reading.

    def _await_head(self, now: float) -> None:
        self._phase = HEAD
        idle_s = LAST_REQUEST_S if self._draining else self.options.idle_s
        self.deadline = now + idle_s if idle_s else 0.0

    def _serve(self) -> None:
        """Read and serve requests as long as whole heads are at hand and no exchange is in progress.

        A client that pipelines requests but does not read the responses is not served further until it does.
        """
        self._serving = True
        while self._phase == HEAD and self._buffer and not self._full:
            data = self._buffer
            end = data.find(b"\r\n\r\n") if self._partial is None else -1
            try:
                if end >= 0:
                    self._buffer = data[end + 4 :]
                    self._begin(data[:end])
                else:
                    self._buffer = b""
                    gathered = self._gather(data)
                    if gathered is not None:
                        self._buffer = gathered[1]
                        self._begin(gathered[0])
            except BadMessage as error:
                self._refuse(error)
        self._serving = False
        if self._phase == HEAD and not self._full:
            # What has come was used up: the rest of a long head may still be waiting in the socket.
            self.resume_reading()

    def _gather(self, data: bytes) -> tuple[bytes, bytes] | None:
        if self._partial is None:
            self._partial = RequestHeadBuffer(self.options.max_head_bytes + HEAD_SLACK_BYTES)
            if self.options.header_s:
                self.deadline = monotonic() + self.options.header_s
        gathered = self._partial.add(data)
        if gathered is not None:
            self._partial = None
        return gathered

    def _begin(self, raw: bytes) -> None:
        if len(raw) > self.options.max_head_bytes + HEAD_SLACK_BYTES:
            raise HeadTooLong
        head = parse_request_head(raw, self._head)
        self._head = head
        self.deadline = 0.0
        self._keep_alive = head.keep_alive and not self._draining
        self._chunked_out = False
        self._until_close = False
        self.protocol = b"HTTP/1.1" if head.minor else b"HTTP/1.0"
        if head.target == b"*":
            self._answer_options()
            return
        if head.framing == NO_BODY:
            self._phase = AWAIT
        else:
            self._expect_body(head)
        exchange = self.exchange = Exchange(self.proxy, self, head)
        if self.options.full_duplex:
            exchange.full_duplex = True
        try:
            self.proxy.begin(exchange)
        except Exception as error:
            self.proxy.panicked(exchange, error)

    def _answer_options(self) -> None:
        """``OPTIONS *`` asks about the server itself, not about any route; not logged, as in Gorouter."""
        self._phase = AWAIT
        if self._head is not None and self._head.framing != NO_BODY:
            self._expect_body(self._head)
        self.send_response(200, [self.proxy.date_line], 0, b"", True)
        self.exchange_finished()

    def _expect_body(self, head: RequestHead) -> None:
        self._phase = BODY
        self._body_wanted = False
        if head.framing == LENGTH:
            self._remaining = head.length
            self._decoder = None
        else:
            self._decoder = ChunkedDecoder(REQUEST_FIELDS, self.options.max_head_bytes)

    def _body_bytes(self, data: bytes) -> None:
        exchange = self.exchange
        if not self._body_wanted and exchange is not None:
            # No endpoint yet: what has come is kept, what comes waits in the socket.
            self._buffer += data
            self.pause_reading()
            return
        try:
            self._read_body(exchange, data)
        except BadMessage as error:
            self._keep_alive = False
            if exchange is not None:
                self.proxy.counters.bad_requests += 1
                exchange.break_off(reply.bad_request(error.status, error.reason))
            else:
                self._linger()

    def _read_body(self, exchange: Exchange | None, data: bytes) -> None:
        """Feed body bytes to the exchange, or to nobody if it is over; then what follows the body."""
        decoder = self._decoder
        if decoder is not None:
            piece = decoder.feed(data)
            done, rest = decoder.done, decoder.leftover
        else:
            piece, rest = data[: self._remaining], data[self._remaining :]
            self._remaining -= len(piece)
            done = self._remaining == 0
        if exchange is None:
            if done:
                self._buffer = rest
                self._next(monotonic())
            return
        if done:
            self._phase = AWAIT
            self._buffer = rest
        if piece:
            exchange.request_body(piece)
        if done and not exchange.finished:
            exchange.request_end(decoder.trailers if decoder is not None else [])

    # What the exchange calls (proxy.client.Client).

    def accept_body(self) -> None:
        self._body_wanted = True
        data, self._buffer = self._buffer, b""
        # First, because these bytes may already be more than the endpoint takes.
        self.resume_reading()
        if data:
            self._body_bytes(data)

    def send_switch(self, lines: list[bytes]) -> None:
        self._phase = TUNNEL
        self._transport.write(switch_head(lines))
        data, self._buffer = self._buffer, b""
        self.resume_reading()
        if data and self.exchange is not None:
            self.exchange.tunnel_from_client(data)

    def hold_body(self) -> None:
        self._body_wanted = False

    def cut(self) -> None:
        self._buffer = b""
        super().cut()

    def exchange_finished(self) -> None:
        self.exchange = None
        if self._phase == CLOSED:
            return
        if self._phase == TUNNEL:
            self._close()
        elif self._phase == BODY:
            self._drain_body()
        else:
            self._next(monotonic())

    # After a response.

    def _next(self, now: float) -> None:
        """Go on with the next request, or close."""
        self._decoder = None
        if self._head is not None and self._head.size > _REMEMBERED_BYTES:
            self._head = None
        if not self._keep_alive or self._draining:
            self._linger() if self._buffer else self._close()
            return
        self._await_head(now)
        if self._paused and len(self._buffer) <= _PIPELINED_BYTES:
            self.resume_reading()
        if self._buffer and not self._serving:
            self._serve()

    def _can_pass_body(self) -> bool:
        return self._will_pass_body_on() or self._can_drain_body()

    def _will_pass_body_on(self) -> bool:
        exchange, head = self.exchange, self._head
        if exchange is None or head is None or b"expect" in head.special:
            return False
        return exchange.full_duplex and exchange.connection is not None

    def _can_drain_body(self) -> bool:
        """Whether the rest of a body that is not wanted any more is short enough to be read away."""
        assert self._head is not None
        if b"expect" in self._head.special:
            # A client that waits for 100 Continue may or may not send the body after a final response
            # (RFC 9110 §10.1.1): what comes next on the connection cannot be known.
            return False
        return self._decoder is None and self._remaining - len(self._buffer) <= _DRAINED_BODY_BYTES

    def _drain_body(self) -> None:
        """The exchange ended before the request body did."""
        if not self._keep_alive:
            self._linger()
            return
        self.deadline = monotonic() + _DRAIN_S
        data, self._buffer = self._buffer, b""
        self.resume_reading()
        if data:
            self._body_bytes(data)

    def _linger(self) -> None:
        self._buffer = b""
        super()._linger()

    def _refuse(self, error: BadMessage) -> None:
        """Answer what is not a request we accept, and read nothing more."""
        counters = self.proxy.counters
        counters.bad_requests += 1
        if isinstance(error, EmptyContentLength):
            counters.empty_content_length_header += 1
        self._partial = None
        self._keep_alive = False
        if isinstance(error, UnsupportedVersion) and (error.major == 1 or error.head.method == b"PRI"):
            self._refuse_version(error)
            return
        self._transport.write(refusal(reply.bad_request(error.status, error.reason), self.proxy.date_line))
        self._linger()

    def _refuse_version(self, error: UnsupportedVersion) -> None:
        """Answer and log, as Gorouter does, HTTP/1.2 and the like with a bare 400, and the preface of an HTTP/2
        connection as a request without a host."""
        self.protocol = error.version
        self._head = error.head
        exchange = self.exchange = Exchange(self.proxy, self, self._head)
        exchange.request_id = self.proxy.new_request_id()
        self._phase = AWAIT
        if error.major == 1:
            self._transport.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            exchange.finish()
        else:
            exchange.answer(reply.empty_host())
