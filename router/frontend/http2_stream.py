"""One request over HTTP/2 and its response; implements `proxy.client.Client`.

Owns what differs from HTTP/1 for one exchange: the head's translation, the body's window, WebSockets by extended
CONNECT (RFC 8441), resets. The connection it is on is `frontend.http2`'s.
"""

import base64
import os
from typing import TYPE_CHECKING

from router.frontend.connection import HEAD_SLACK_BYTES
from router.proxy import reply
from router.proxy.exchange import Exchange
from router.proxy.presented import Presented
from router.wire.head_buffer import HeadTooLong
from router.wire.header_lines import BadMessage, line_name
from router.wire.http1 import RequestHead
from router.wire.http2_frames import CANCEL, INTERNAL_ERROR, StreamFault
from router.wire.http2_head import request_of, trailers_of
from router.wire.http2_hpack import Field
from router.wire.http2_stream import Stream

if TYPE_CHECKING:
    from router.frontend.http2 import Http2Connection

_OF_THE_UPGRADE = frozenset({b"upgrade", b"connection", b"sec-websocket-accept"})
"""Fields of a 101 that mean nothing in the 200 it becomes."""
_STATUS = [b"%d" % status for status in range(1000)]


class Http2Stream(Stream):
    """Lives from a request's HEADERS until both sides have ended or either has reset the stream."""

    exchange: Exchange | None = None
    is_tunnel = False
    protocol = b"HTTP/2.0"
    stalled_since = 0.0
    """Monotonic seconds since when nothing of what waits could be sent; 0 if something was."""
    _extended = False
    """The request was an extended CONNECT."""
    _wanted = False
    """The exchange takes the body."""
    _unsent = -1
    """Bytes of body that the response still has; below 0 if that is not known."""

    def __init__(self, connection: "Http2Connection") -> None:
        super().__init__()
        self.peer = connection.peer
        self.peer_ip = connection.peer_ip
        self.secure = connection.secure
        self.listener_port = connection.listener_port
        self._connection = connection
        self._engine = connection.engine
        self._held: list[bytes] = []
        """Body that has come before anybody wanted it; the window bounds it."""
        self._request_trailers: list[bytes] = []

    # What the engine calls.

    def head_received(self, fields: list[Field], ended: bool) -> None:
        self.head_complete = True
        connection = self._connection
        try:
            request = request_of(fields, ended, self.id)
            head = request.head
            if head.size > connection.options.max_head_bytes + HEAD_SLACK_BYTES:
                raise HeadTooLong
        except BadMessage as error:
            self._refuse(error)
            return
        if request.protocol:
            self._extended = True
            head.lines.append(b"Sec-Websocket-Key: " + base64.b64encode(os.urandom(16)))
        elif b"content-length" in head.special:
            self.expected = head.length
        if head.target == b"*":
            # OPTIONS * asks about the server itself, not about any route; not logged, as in Gorouter.
            self._answer(200, [connection.proxy.date_line], b"")
            return
        self._begin(head)

    def _begin(self, head: RequestHead) -> None:
        proxy = self._connection.proxy
        exchange = self.exchange = Exchange(proxy, self, head)
        exchange.timeout_s = self._connection.http2.endpoint_timeout_s
        try:
            proxy.begin(exchange)
        except Exception as error:
            proxy.panicked(exchange, error)

    def body_received(self, piece: bytes, ended: bool) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        if self.is_tunnel:
            if piece:
                exchange.tunnel_from_client(piece)
            if ended and not exchange.finished:
                exchange.tunnel_client_eof()
        elif not self._wanted:
            # No endpoint yet: what has come is kept, what its window still allows may come.
            if piece:
                self._held.append(piece)
            self._engine.withhold_body(self)
        else:
            if piece:
                exchange.request_body(piece)
            if ended and not exchange.finished:
                exchange.request_end([])

    def trailers_received(self, fields: list[Field]) -> None:
        try:
            self._request_trailers = trailers_of(fields, self.id)
        except BadMessage as error:
            raise StreamFault(self.id, CANCEL, error.reason) from None
        exchange = self.exchange
        if exchange is None:
            return
        if self.is_tunnel:
            exchange.tunnel_client_eof()
        elif self._wanted:
            exchange.request_end(self._request_trailers)

    def aborted(self, code: int) -> None:
        exchange = self.exchange
        if exchange is not None:
            self._connection.hold_place()
            exchange.client_gone()

    def full(self) -> None:
        if self.exchange is not None:
            self.exchange.client_full()

    def writable(self) -> None:
        if self.exchange is not None:
            self.exchange.client_writable()

    # What the exchange calls (proxy.client.Client).

    def presented(self) -> Presented:
        return self._connection.presented()

    def send_interim(self, status: int, lines: list[bytes]) -> None:
        if not self.closed:
            self._engine.send_head(self, [(b":status", _STATUS[status])], lines, False)
            self._connection.wants_flush()

    def send_response(self, status: int, lines: list[bytes], length: int, body: bytes, complete: bool) -> None:
        if self.closed:
            return
        if self._extended and 200 <= status < 300:
            # To an extended CONNECT any 2xx says that the tunnel is open (RFC 8441 §5), which it is not.
            self._answer(502, [self._connection.proxy.date_line], b"")
            return
        fields = [(b":status", _STATUS[status])]
        if length >= 0:
            fields.append((b"content-length", b"%d" % length))
            if not complete:
                self._unsent = length - len(body)
        engine = self._engine
        engine.send_head(self, fields, lines, complete and not body)
        if body:
            engine.send_body(self, body, complete or self._unsent == 0)
        self._connection.wants_flush()

    def send_body(self, piece: bytes) -> None:
        if self.closed or self.local_ended or not piece:
            return
        self._unsent -= len(piece)
        # With the last byte of a known length goes the end, which saves a frame.
        self._engine.send_body(self, piece, self._unsent == 0)
        self._connection.wants_flush()

    def send_end(self, trailers: list[bytes]) -> None:
        if not (self.closed or self.local_ended or self.end_pending):
            self._engine.send_end(self, trailers)
            self._connection.wants_flush()

    def send_switch(self, lines: list[bytes]) -> None:
        exchange = self.exchange
        if self.closed or exchange is None:
            return
        self.is_tunnel = True
        kept = [line for line in lines if line_name(line) not in _OF_THE_UPGRADE]
        self._engine.send_head(self, [(b":status", b"200")], kept, False)
        self._engine.take_body(self)
        held, self._held = self._held, []
        for piece in held:
            exchange.tunnel_from_client(piece)
        if self.remote_ended and not exchange.finished:
            exchange.tunnel_client_eof()
        self._connection.wants_flush()

    def send_tunnel(self, piece: bytes) -> None:
        if not (self.closed or self.local_ended):
            self._engine.send_body(self, piece, False)
            self._connection.wants_flush()

    def send_tunnel_eof(self) -> None:
        self.send_end([])

    def accept_body(self) -> None:
        self._wanted = True
        exchange = self.exchange
        if exchange is None:
            return
        self.resume_reading()
        held, self._held = self._held, []
        for piece in held:
            exchange.request_body(piece)
        if self.remote_ended and not exchange.finished:
            exchange.request_end(self._request_trailers)

    def hold_body(self) -> None:
        self._wanted = False

    def cut(self) -> None:
        # A tunnel that breaks is told of as TCP would be (RFC 8441 §5).
        self._engine.reset(self, CANCEL if self.is_tunnel else INTERNAL_ERROR)
        self._connection.wants_flush()

    def pause_reading(self) -> None:
        self._engine.withhold_body(self)

    def resume_reading(self) -> None:
        self._engine.take_body(self)
        self._connection.wants_flush()

    def close_after_response(self) -> None:
        # What this protects from in HTTP/1, bytes of doubtful framing, cannot come about here.
        pass

    def exchange_finished(self) -> None:
        self.exchange = None
        self._held.clear()
        self._stop_request()

    # Answers that are no exchange's.

    def _refuse(self, error: BadMessage) -> None:
        """Answer what is well-formed HTTP/2, but not a request we accept."""
        proxy = self._connection.proxy
        proxy.counters.bad_requests += 1
        answer = reply.bad_request(error.status, error.reason)
        self._answer(answer.status, [*answer.lines, proxy.date_line], answer.body)

    def _answer(self, status: int, lines: list[bytes], body: bytes) -> None:
        fields = [(b":status", _STATUS[status]), (b"content-length", b"%d" % len(body))]
        self._engine.send_head(self, fields, lines, not body)
        if body:
            self._engine.send_body(self, body, True)
        self._stop_request()
        self._connection.wants_flush()

    def _stop_request(self) -> None:
        """Nobody wants what may still come of the request (RFC 9113 §8.1)."""
        if not (self.closed or self.remote_ended):
            self._engine.drop_rest(self)
