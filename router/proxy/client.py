"""The contract between a frontend and the proxy: what an exchange may ask of its client's side.

HTTP/1 connections and HTTP/2 streams both implement it, so nothing above ``frontend/`` can tell them apart.
"""

from typing import Protocol

from router.proxy.presented import Presented

UNKNOWN_LENGTH = -1
"""The body's end is not known beforehand: chunked, or until the connection closes."""
NO_LENGTH = -2
"""The response has no body and no Content-Length field, as 204 and 304 may."""


class Client(Protocol):
    """One request's client side. Everything is written in the order of the calls; nothing blocks."""

    peer: bytes
    """``ip:port`` of the client."""
    peer_ip: bytes
    secure: bool
    """The request came over TLS."""
    protocol: bytes
    """As the access log shows it, e.g. ``HTTP/1.1``."""

    listener_port: int
    """The port the client dialled."""

    def presented(self) -> Presented:
        """Return what the client proved of itself in its TLS handshake."""

    def send_interim(self, status: int, lines: list[bytes]) -> None:
        """Send a 1xx response other than 101."""

    def send_response(self, status: int, lines: list[bytes], length: int, body: bytes, complete: bool) -> None:
        """Send a final response head and the first of its body.

        Args:
            lines: header lines without framing fields and Connection.
            length: Content-Length, `UNKNOWN_LENGTH` or `NO_LENGTH`.
            complete: ``body`` is all there is; otherwise `send_body` and `send_end` follow.
        """

    def send_body(self, piece: bytes) -> None: ...
    def send_end(self, trailers: list[bytes]) -> None: ...

    def send_switch(self, lines: list[bytes]) -> None:
        """Send a 101 response; from here on `send_tunnel` and `exchange.tunnel_from_client` carry bytes."""

    def send_tunnel(self, piece: bytes) -> None: ...
    def send_tunnel_eof(self) -> None: ...

    def accept_body(self) -> None:
        """The exchange can take the request body from now on."""

    def hold_body(self) -> None:
        """The exchange has lost its endpoint: no more body until `accept_body` is called again."""

    def cut(self) -> None:
        """End a response that has begun but cannot be completed, so that the client sees it is truncated."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def close_after_response(self) -> None:
        """Do not keep the connection for further requests."""

    def exchange_finished(self) -> None:
        """The exchange is over and has been logged; the next one may begin."""
