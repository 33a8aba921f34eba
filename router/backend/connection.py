"""One HTTP/1.1 connection to an endpoint: writes requests, reads responses, one exchange at a time.

Owns framing of responses and the question whether the connection can be used again; does not choose endpoints,
dial, or rewrite anything. One law: what is read after a response's end belongs to nobody, so it ends the
connection and never reaches another client.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol

from router.backend.dial import Noting
from router.backend.failure import PROTOCOL, WRONG_SWITCH, BackendFailure, of_lost
from router.read_buffer import unread
from router.routing.pool import Endpoint
from router.wire.chunked import ChunkedDecoder, encode_chunk, encode_last_chunk
from router.wire.head_buffer import HeadBuffer
from router.wire.header_lines import RESPONSE_FIELDS, BadMessage
from router.wire.http1 import CHUNKED, LENGTH, NO_BODY, ResponseHead, parse_response_head

if TYPE_CHECKING:
    from router.backend.connections import Connections

_IDLE, _HEAD, _LENGTH, _CHUNKED, _UNTIL_CLOSE, _TUNNEL, _ANSWERED, _DEAD = range(8)
"""_ANSWERED: the response is over, and the rest of the request is still being written."""
_STATUS_PREFIX = b"HTTP/1."
_TRAILER_BYTES = 65536
NO_TRAILERS: list[bytes] = []
_REMEMBERED_BYTES = 8192
"""A head above this is parsed anew each time, so that idle connections stay small."""
_MOST_INTERIM = 32
"""More 1xx responses than this before a final one are an attack or a fault."""


class ResponseReceiver(Protocol):
    """What an exchange does with what a backend sends. Called in wire order; `backend_failed` ends it."""

    method: bytes
    request_complete: bool
    """All of the request has been handed to the connection."""
    body_sent: bool
    """Some of its body has been sent, on whatever connection."""
    full_duplex: bool
    """A request body goes on to its end, even if the response has come to its own before."""
    upgrade: bytes
    """The Upgrade token the request carried, lower-case; empty for ordinary requests."""

    def interim_response(self, head: ResponseHead) -> None: ...
    def response_head(self, head: ResponseHead, body: bytes, complete: bool) -> None: ...
    def response_body(self, piece: bytes) -> None: ...
    def response_end(self, trailers: list[bytes]) -> None: ...
    def switched(self, head: ResponseHead, first: bytes) -> None: ...
    def tunnel_from_backend(self, piece: bytes) -> None: ...
    def tunnel_backend_eof(self) -> None: ...
    def backend_failed(self, failure: BackendFailure) -> None: ...
    def backend_full(self) -> None: ...
    def backend_writable(self) -> None: ...


class BackendConnection(Noting):
    """A connection; lives from a successful dial until either side closes it.

    Attributes:
        endpoint: whose instance this is; changes when a re-registration takes the idle connections over.
        exchange: the exchange being served, None while idle.
        reused: it has served an exchange before the present one.
        got_bytes: something of the present response has arrived.
        for_one: it is not kept for a second exchange.
        record: what was sent of the body, where that can be told; here it cannot.
        trailers_sent: those after the recorded body.
        idle_since: monotonic seconds, valid while idle or closing.
        timings: seconds that looking up the name, connecting and the TLS handshake took; below 0 where there was
            nothing of the kind.
    """

    for_one = False
    record: list[bytes] | None = None
    trailers_sent: list[bytes] = NO_TRAILERS

    def __init__(self, owner: "Connections", endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.exchange: ResponseReceiver | None = None
        self.reused = False
        self.got_bytes = False
        self.idle_since = 0.0
        self._owner = owner
        self._mode = _IDLE
        self._partial: HeadBuffer | None = None
        self._remaining = 0
        self._keep = False
        self._interim = 0
        self._decoder: ChunkedDecoder | None = None
        self._full = False
        """The backend does not take what is written as fast as it comes."""
        self._last_raw = b""
        self._last_method = b""
        self._last_head: ResponseHead | None = None

    # What the exchange calls.

    def send_request(self, exchange: ResponseReceiver, head: bytes) -> None:
        """Begin an exchange by writing its head."""
        self.exchange = exchange
        self.got_bytes = False
        self._mode = _HEAD
        self._interim = 0
        self._transport.write(head)

    def send(self, piece: bytes) -> None:
        """Write bytes of a tunnel."""
        self._transport.write(piece)

    def send_body(self, piece: bytes, chunked: bool) -> None:
        """Write body bytes."""
        self.send(encode_chunk(piece) if chunked else piece)

    def send_end(self, trailers: list[bytes], chunked: bool) -> None:
        """The body is complete."""
        if chunked:
            self.send(encode_last_chunk(trailers))

    def is_usable(self) -> bool:
        return self._mode == _IDLE and not self._transport.is_closing()

    def pause_reading(self) -> None:
        """Read no more until `resume_reading`. After the response's end this has no effect: the connection may be
        idle by then, and whoever paused it would not be there to resume it."""
        if self.exchange is not None:
            super().pause_reading()

    def discard(self) -> None:
        """Let go of the exchange, if any, and close at once."""
        self.exchange = None
        self._mode = _DEAD
        self._transport.abort()

    def close(self) -> None:
        """Let go of the exchange, and close when what was written has been sent; `Connections.sweep` sees to it
        that this comes to an end."""
        self.exchange = None
        self._mode = _DEAD
        self.idle_since = self._owner.now()
        self._transport.close()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def pause_writing(self) -> None:
        self._full = True
        if self.exchange is not None:
            self.exchange.backend_full()

    def resume_writing(self) -> None:
        self._full = False
        if self.exchange is not None:
            self.exchange.backend_writable()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the backend; called directly where TLS lies between."""
        exchange = self.exchange
        if exchange is None:
            self.discard()
            return
        mode = self._mode
        self.got_bytes = True
        try:
            if mode == _HEAD:
                self._head_bytes(exchange, data)
            elif mode == _LENGTH:
                self._length_bytes(exchange, data)
            elif mode == _CHUNKED:
                self._chunked_bytes(exchange, data)
            elif mode == _UNTIL_CLOSE:
                exchange.response_body(data)
            elif mode == _TUNNEL:
                exchange.tunnel_from_backend(data)
            else:
                raise BadMessage(502, "bytes after the response")
        except BackendFailure as failure:
            self._fail(failure)
        except BadMessage as error:
            self._fail(BackendFailure(PROTOCOL, f"net/http: HTTP/1.x transport connection broken: {error.reason}"))

    def eof_received(self) -> bool:
        exchange = self.exchange
        if exchange is not None and self._mode == _TUNNEL:
            exchange.tunnel_backend_eof()
            return self.exchange is not None
        if exchange is not None and self._mode == _UNTIL_CLOSE:
            self._release(exchange, clean=False)
            exchange.response_end([])
        # Who has answered and sends no more may still be reading.
        return self._mode == _ANSWERED

    def connection_lost(self, exc: Exception | None) -> None:
        if self._mode == _UNTIL_CLOSE and exc is None and self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            exchange.response_end([])
        elif self.exchange is not None:
            self._read_rest(self.exchange, exc)
            if self.exchange is not None:
                self._fail(of_lost(exc))
        self._mode = _DEAD
        self._owner.lost(self)

    def _read_rest(self, exchange: ResponseReceiver, exc: Exception | None) -> None:
        """Read what came before the reset that a write has met.

        A backend that refuses an upload answers and closes, which resets the connection under whoever still
        writes. The answer is in the socket all the same, and says more than a 502 would.
        """
        if exc is None or exchange.request_complete or self._paused:
            return
        # A TLS stream has done the same below, and what lies in its socket is no HTTP.
        rest = b"" if self._transport.get_extra_info("ssl_object") is not None else unread(self._transport)
        if rest:
            self.data_received(rest)

    # Reading a response.

    def _head_bytes(self, exchange: ResponseReceiver, data: bytes) -> None:
        while True:
            end = -1 if self._partial is not None else data.find(b"\r\n\r\n")
            if end >= 0:
                raw, data = data[:end], data[end + 4 :]
            else:
                gathered = self._gather(data)
                if gathered is None:
                    return
                raw, data = gathered
            head = self._parse(raw, exchange.method)
            if head.status >= 200:
                self._final_head(exchange, head, data)
                return
            if head.status == 101:
                self._switch(exchange, head, data)
                return
            self._interim += 1
            if self._interim > _MOST_INTERIM:
                raise BadMessage(502, "too many 1xx informational responses")
            exchange.interim_response(head)
            if self.exchange is None or not data:
                return

    def _parse(self, raw: bytes, method: bytes) -> ResponseHead:
        """Parse a head, unless it is word for word the one before it, as those of one app within a second are."""
        if raw == self._last_raw and method == self._last_method and self._last_head is not None:
            return self._last_head
        self._owner.check_response_head(raw)
        head = parse_response_head(raw, method)
        if len(raw) <= _REMEMBERED_BYTES:
            self._last_raw, self._last_method, self._last_head = raw, method, head
        return head

    def _gather(self, data: bytes) -> tuple[bytes, bytes] | None:
        partial = self._partial
        if partial is None:
            partial = self._partial = HeadBuffer()
        gathered = partial.add(data)
        if gathered is not None:
            self._partial = None
            return gathered
        start = partial.peek(len(_STATUS_PREFIX))
        if start != _STATUS_PREFIX[: len(start)]:
            raise BadMessage(502, "malformed HTTP response")
        self._owner.check_response_size(len(partial))
        return None

    def _final_head(self, exchange: ResponseReceiver, head: ResponseHead, rest: bytes) -> None:
        framing = head.framing
        self._keep = head.keep_alive
        if framing == LENGTH:
            remaining = head.length - len(rest)
            if remaining > 0:
                self._remaining = remaining
                self._mode = _LENGTH
                exchange.response_head(head, rest, False)
                return
            body = rest if remaining == 0 else rest[: head.length]
            self._release(exchange, clean=remaining == 0)
            exchange.response_head(head, body, True)
        elif framing == NO_BODY:
            self._release(exchange, clean=not rest)
            exchange.response_head(head, b"", True)
        elif framing == CHUNKED:
            self._mode = _CHUNKED
            self._decoder = ChunkedDecoder(RESPONSE_FIELDS, _TRAILER_BYTES)
            self._first_chunks(exchange, head, rest)
        else:
            self._mode = _UNTIL_CLOSE
            exchange.response_head(head, rest, False)

    def _first_chunks(self, exchange: ResponseReceiver, head: ResponseHead, rest: bytes) -> None:
        exchange.response_head(head, b"", False)
        if rest and self.exchange is exchange:
            self._chunked_bytes(exchange, rest)

    def _length_bytes(self, exchange: ResponseReceiver, data: bytes) -> None:
        remaining = self._remaining - len(data)
        if remaining > 0:
            self._remaining = remaining
            exchange.response_body(data)
            return
        if remaining < 0:
            data = data[:remaining]
        self._release(exchange, clean=remaining == 0)
        exchange.response_body(data)
        exchange.response_end([])

    def _chunked_bytes(self, exchange: ResponseReceiver, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        piece = decoder.feed(data)
        if not decoder.done:
            if piece:
                exchange.response_body(piece)
            return
        self._decoder = None
        self._release(exchange, clean=not decoder.leftover)
        if piece:
            exchange.response_body(piece)
        exchange.response_end(decoder.trailers)

    def _switch(self, exchange: ResponseReceiver, head: ResponseHead, rest: bytes) -> None:
        token = head.special.get(b"upgrade", b"").lower()
        if not exchange.upgrade:
            raise BadMessage(502, "101 response nobody asked for")
        if token != exchange.upgrade:
            self._fail(BackendFailure(WRONG_SWITCH, "backend tried to switch protocol"))
            return
        self._mode = _TUNNEL
        exchange.switched(head, rest)

    def _release(self, exchange: ResponseReceiver, clean: bool) -> None:
        """The response is over: keep the connection for the next exchange, or close it."""
        self.exchange = None
        self._mode = _IDLE
        if self._paused:
            self.resume_reading()
        if exchange.full_duplex and not exchange.request_complete:
            self.exchange = exchange
            self._mode = _ANSWERED
        elif self._full or not exchange.request_complete:
            # The backend has answered without reading all of the request, and may never read the rest.
            self.discard()
        elif not (clean and self._keep and self._owner.keep(self)):
            self.close()

    def _fail(self, failure: BackendFailure) -> None:
        exchange, self.exchange = self.exchange, None
        self._mode = _DEAD
        if not self._transport.is_closing():
            self._transport.abort()
        if exchange is not None:
            exchange.backend_failed(failure)
