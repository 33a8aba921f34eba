"""One request over an HTTP/2 connection to an endpoint, and its response.

Towards its exchange it behaves as a `BackendConnection` that serves one exchange. Owns what differs from HTTP/1:
heads, ends, resets, WebSockets by extended CONNECT (RFC 8441). The connection it is on is `backend.http2`'s.
"""

from typing import TYPE_CHECKING

from router.backend.connection import ResponseReceiver
from router.backend.failure import PROTOCOL, BackendFailure
from router.wire.header_lines import BadMessage
from router.wire.http1 import LENGTH, NO_BODY, ResponseHead
from router.wire.http2_backend import outgoing_head, response_head, response_trailers, switched_head
from router.wire.http2_frames import CANCEL, PROTOCOL_ERROR, StreamFault
from router.wire.http2_hpack import OVERHEAD, Field
from router.wire.http2_stream import Stream

if TYPE_CHECKING:
    from router.backend.http2 import SharedConnection

_MOST_INTERIM = 32
"""More 1xx responses than this before a final one are an attack or a fault."""
_RECORD_BYTES = 65536


class BackendStream(Stream):
    """A place on a shared connection, and the exchange that takes it.

    Attributes:
        exchange: the exchange being served; None before and after.
        reused: the connection has served another exchange before.
        got_bytes: something of the response has arrived.
        record: body sent so far, for the case that the backend turns out not to have looked at any of it; None
            once it has looked, or if it is too much to keep.
        trailers_sent: those that ended it.
        opened_at: monotonic seconds when the request was sent.
    """

    exchange: ResponseReceiver | None = None
    got_bytes = False
    opened_at = 0.0
    _accept = b""
    """What a WebSocket's client wants to see; this is an extended CONNECT."""
    _is_connect = False
    _is_tunnel = False
    _interim = 0
    _recorded = 0
    _method = b""

    def __init__(self, connection: "SharedConnection") -> None:
        super().__init__()
        self.reused = connection.served > 0
        self.record: list[bytes] | None = []
        self.trailers_sent: list[bytes] = []
        self._connection = connection
        self._engine = connection.engine

    # What the exchange calls, as of a `BackendConnection`.

    @property
    def local_address(self) -> str:
        return self._connection.local_address

    @property
    def timings(self) -> tuple[float, float, float]:
        return self._connection.timings

    def send_request(self, exchange: ResponseReceiver, head: bytes) -> None:
        connection = self._connection
        self.exchange = exchange
        self._is_connect = bool(exchange.upgrade)
        self._method = b"CONNECT" if self._is_connect else exchange.method
        outgoing = outgoing_head(head, connection.scheme, self._is_connect)
        self._accept = outgoing.accept
        ended = exchange.request_complete and not exchange.body_sent and not self._is_connect
        connection.opened(self)
        self._engine.open(self, outgoing.fields, outgoing.lines, ended)
        connection.wants_flush()

    def send(self, piece: bytes) -> None:
        """Write bytes of a tunnel."""
        if self.closed or self.local_ended or self.end_pending:
            return
        self._engine.send_body(self, piece, False)
        self._connection.wants_flush()

    def send_body(self, piece: bytes, chunked: bool) -> None:
        """Write body bytes; that they would be chunked in HTTP/1 means nothing here."""
        if self.record is not None:
            self._note(piece)
        self.send(piece)

    def send_end(self, trailers: list[bytes], chunked: bool) -> None:
        """The body is complete."""
        if self.closed or self.local_ended or self.end_pending:
            return
        self.trailers_sent = trailers
        self._engine.send_end(self, trailers)
        self._connection.wants_flush()

    def send_eof(self) -> None:
        """The client's side of a tunnel has ended."""
        self.send_end([], False)

    def pause_reading(self) -> None:
        """Take no more than the window still allows until `resume_reading`."""
        if self.exchange is not None:
            self._engine.withhold_body(self)

    def resume_reading(self) -> None:
        self._engine.take_body(self)
        self._connection.wants_flush()

    def discard(self) -> None:
        """Let go of the exchange; the backend is told to stop."""
        self.exchange = None
        self.record = None
        if self.id and not self.closed:
            self._connection.abandoned(self)
            self._engine.reset(self, CANCEL)
            self._connection.wants_flush()

    def close(self) -> None:
        """Let go of the exchange, after which nothing more is said by either side."""
        if self.remote_ended and (self.local_ended or self.end_pending):
            # What is written is still sent.
            self.exchange = None
        else:
            self.discard()

    def _note(self, piece: bytes) -> None:
        self._recorded += len(piece)
        if self._recorded > _RECORD_BYTES:
            self.record = None
        elif self.record is not None:
            self.record.append(piece)

    # What the engine calls.

    def head_received(self, fields: list[Field], ended: bool) -> None:
        self.got_bytes = True
        self.record = None
        exchange = self.exchange
        if exchange is None:
            return
        try:
            self._connection.check_size(sum(field[2] - OVERHEAD for field in fields), len(fields) - 1)
        except BackendFailure as failure:
            self._fail(failure)
            return
        except BadMessage as error:
            self._fail(BackendFailure(PROTOCOL, f"http2: {error.reason}"))
            return
        head = response_head(fields, self._method, ended, self.id)
        if head.status >= 200:
            self.head_complete = True
            self._final_head(exchange, head, ended)
            return
        self._interim += 1
        if self._interim > _MOST_INTERIM:
            raise StreamFault(self.id, PROTOCOL_ERROR, "too many 1xx informational responses")
        exchange.interim_response(head)

    def _final_head(self, exchange: ResponseReceiver, head: ResponseHead, ended: bool) -> None:
        if self._is_connect and head.status < 300:
            self._is_tunnel = True
            exchange.switched(switched_head(head, self._accept), b"")
            if ended and self.exchange is exchange:
                exchange.tunnel_backend_eof()
            return
        complete = ended or head.framing == NO_BODY
        if head.framing == LENGTH:
            self.expected = head.length
        elif complete and not ended:
            self.expected = 0
        if complete:
            self._release(exchange)
        exchange.response_head(head, b"", complete)

    def body_received(self, piece: bytes, ended: bool) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        if self._is_tunnel:
            if piece:
                exchange.tunnel_from_backend(piece)
            if ended and self.exchange is exchange:
                exchange.tunnel_backend_eof()
            return
        if ended:
            self._release(exchange)
        if piece:
            exchange.response_body(piece)
        if ended:
            exchange.response_end([])

    def trailers_received(self, fields: list[Field]) -> None:
        try:
            trailers = response_trailers(fields, self.id)
        except BadMessage as error:
            raise StreamFault(self.id, PROTOCOL_ERROR, error.reason) from None
        exchange = self.exchange
        if exchange is None:
            return
        if self._is_tunnel:
            exchange.tunnel_backend_eof()
            return
        self._release(exchange)
        exchange.response_end(trailers)

    def aborted(self, code: int) -> None:
        if self.exchange is not None:
            self._fail(self._connection.failure_of(self, code))

    def full(self) -> None:
        if self.exchange is not None:
            self.exchange.backend_full()

    def writable(self) -> None:
        if self.exchange is not None:
            self.exchange.backend_writable()

    # The end.

    def _release(self, exchange: ResponseReceiver) -> None:
        """The response is over."""
        if exchange.full_duplex and not exchange.request_complete:
            return
        self.exchange = None
        if not self.local_ended:
            # The backend has answered without reading all of the request, and may never read the rest.
            self._engine.reset(self, CANCEL)

    def _fail(self, failure: BackendFailure) -> None:
        exchange, self.exchange = self.exchange, None
        if not self.closed:
            self._engine.reset(self, CANCEL)
        if exchange is not None:
            exchange.backend_failed(failure)
