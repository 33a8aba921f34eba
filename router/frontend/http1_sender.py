"""The sending half of an HTTP/1 client connection: responses, and how the connection goes on or ends with them.

Owns framing towards the client and keep-alive; what is read is the other half's (`frontend.http1`). One law: a
response that was not completed never looks complete.
"""

import socket
import struct
from abc import abstractmethod

from router.frontend.connection import Accepted, FrontendConnection, FrontendOptions, Served
from router.frontend.writing import interim_head, response_head
from router.proxy.client import UNKNOWN_LENGTH
from router.proxy.forward import Proxy
from router.wire.chunked import encode_chunk, encode_last_chunk
from router.wire.http1 import RequestHead

HEAD, BODY, AWAIT, TUNNEL, LINGER, CLOSED = range(6)
"""Reading a head; reading a body; request complete, response not; raw bytes; response done but bytes may still
come that nobody wants; closed."""


class ResponseSender(FrontendConnection):
    """What a client connection of HTTP/1 writes; arguments as of `FrontendConnection`.

    Attributes:
        protocol: of the request at hand, as the access log shows it.
    """

    def __init__(
        self, proxy: Proxy, options: FrontendOptions, connections: set[Served], accepted: Accepted
    ) -> None:
        super().__init__(proxy, options, connections, accepted)
        # For the connection.
        self._phase = HEAD
        self._keep_alive = True
        self._draining = False
        # For the request at hand.
        self.protocol = b"HTTP/1.1"
        self._head: RequestHead | None = None
        self._chunked_out = False
        self._until_close = False

    # What the exchange calls (proxy.client.Client).

    def send_interim(self, status: int, lines: list[bytes]) -> None:
        self._transport.write(interim_head(status, lines))

    def send_response(self, status: int, lines: list[bytes], length: int, body: bytes, complete: bool) -> None:
        head = self._head
        assert head is not None
        minor = head.minor
        if self._phase == BODY and self._keep_alive:
            self._keep_alive = self._can_pass_body()
        if length == UNKNOWN_LENGTH and not complete:
            if minor:
                self._chunked_out = True
            else:
                self._keep_alive = False
                self._until_close = True
        if self._draining:
            self._keep_alive = False
        out = response_head(status, lines, length, minor, self._keep_alive, self._chunked_out)
        if body:
            out += encode_chunk(body) if self._chunked_out else body
        self._transport.write(out)

    @abstractmethod
    def _can_pass_body(self) -> bool:
        """Whether the request's body, of which more is to come, will be out of the way of a next request."""

    def send_body(self, piece: bytes) -> None:
        self._transport.write(encode_chunk(piece) if self._chunked_out else piece)

    def send_end(self, trailers: list[bytes]) -> None:
        if self._chunked_out:
            self._transport.write(encode_last_chunk(trailers))

    def send_tunnel(self, piece: bytes) -> None:
        self._transport.write(piece)

    def send_tunnel_eof(self) -> None:
        self.send_eof()

    def close_after_response(self) -> None:
        self._keep_alive = False

    def cut(self) -> None:
        self._keep_alive = False
        if self._until_close:
            # The end of the connection is the end of this body: only a reset tells that it was not reached.
            self._phase = CLOSED
            self._reset()
        else:
            self._close()

    # The end.

    def _linger(self) -> None:
        """Close when the client has had the time to read the response; what it still sends is read by nobody."""
        if not self._transport.is_closing():
            self._phase = LINGER
            self._close_when_read()

    def _close(self) -> None:
        self._phase = CLOSED
        self._close_when_sent()

    def abort(self) -> None:
        """Cut the connection, unless it is closing by itself and has sent what was written."""
        if self._phase != CLOSED or self._transport.get_write_buffer_size():
            self._transport.abort()

    def _reset(self) -> None:
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
