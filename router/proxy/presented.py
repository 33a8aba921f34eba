"""What a client has proved of itself in its TLS handshake: found out once a connection, not for each request."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from router.proxy.mtls import caller_of
from router.routing.route_policy import Caller

Identify = Callable[[Any], tuple[str, str]]
"""Returns, of a TLS stream, the domain with mutual TLS that the client was authenticated for, and the server name
it asked for; either may be empty."""


class Presented:
    """Of one connection; made when its first request asks.

    Args:
        stream: the connection's TLS stream; None without TLS.
        identify: None if there are no domains with mutual TLS.

    Attributes:
        certificate: the client's, verified, in the form of `ssl.SSLObject.getpeercert`; None without.
        der: the same in DER form; empty without.
        base64: and as base64, without line ends.
        domain: with mutual TLS, whose CAs verified the client; empty if it is none.
        server_name: asked for in the handshake; empty without, and where there are no such domains.
        caller: the app instance that the certificate names; None if it names none.
    """

    __slots__ = ("base64", "caller", "certificate", "der", "domain", "server_name")

    def __init__(self, stream: Any, identify: Identify | None = None) -> None:
        self.certificate: Mapping[str, Any] | None = None
        self.der = b""
        self.domain = ""
        self.server_name = ""
        if stream is not None:
            ssl_object = stream.get_extra_info("ssl_object")
            self.certificate = ssl_object.getpeercert() or None
            self.der = ssl_object.getpeercert(binary_form=True) or b""
            if identify is not None:
                self.domain, self.server_name = identify(stream)
        self.base64 = base64.b64encode(self.der)
        self.caller: Caller | None = caller_of(self.certificate)


ANONYMOUS = Presented(None)
"""What a client without TLS has proved."""
