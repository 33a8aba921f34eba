"""The TLS listener: which context answers a client, and what its certificate proved (GOROUTER.md §9.5).

Owns the choice between the open front and the domains that demand certificates of their own CAs; does not own the
certificates shown (`tls`) nor what a request may ask for on such a connection (`proxy.mtls`).

OpenSSL takes from the first context it sees of a connection whether a client has to prove itself, and where
sessions are kept; a change of context when the server name is known comes too late for both. So where there are
such domains, the hello is read before anything answers it, and what answers is a context that knows nothing of the
others.
"""

import ssl
from collections.abc import Callable

from router.config.schema import Config
from router.config.sections import Domain
from router.tls import ByName, TlsError, forbid_tickets, frontend_context, frontend_contexts, server_base, trust
from router.tls_client_rules import client_rules


class FrontTls:
    """What connections of the TLS listener are made of.

    Raises:
        TlsError: a certificate, key or CA cannot be used.

    Attributes:
        context: for clients of hosts outside all domains, and for all if there are no domains.
        protocols: names of ALPN, one of which a client that offers any has to offer; none, as in Gorouter, where
            HTTP/2 is off.
        check: returns why a client is refused after its handshake; None if nothing is checked.
    """

    def __init__(self, config: Config) -> None:
        self.context = frontend_context(config)
        self.protocols = frozenset((b"h2", b"http/1.1")) if config.enable_http2 else frozenset[bytes]()
        rules = client_rules(config)
        self.check: Callable[[ssl.SSLObject], str | None] | None = rules.check if rules is not None else None
        self._domains: ByName[ssl.SSLContext] = ByName()
        self._names: dict[ssl.SSLContext, str] = {}
        for index, domain in enumerate(config.domains):
            contexts = _domain_contexts(config, domain, f"domains[{index}].ca_certs")
            self._domains.put(domain.name, contexts[0])
            self._names.update(dict.fromkeys(contexts, domain.name))
        self._reader = _HelloReader(config)

    def choice(self) -> "ContextChoice | None":
        """Return what chooses the context of one connection, None if there is no choice."""
        return ContextChoice(self._reader, self._context_for) if self._names else None

    def domain_of(self, ssl_object: ssl.SSLObject) -> str:
        """Return the name, as configured, of the domain whose CA verified this client; empty if none did."""
        return self._names.get(ssl_object.context, "")

    def _context_for(self, server_name: str) -> ssl.SSLContext:
        return self._domains.find(server_name) or self.context


def _domain_contexts(config: Config, domain: Domain, key: str) -> list[ssl.SSLContext]:
    if not domain.ca_certs.strip():
        raise TlsError(f"{key}: no certificate")

    def demand(context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        trust(context, domain.ca_certs, key)
        forbid_tickets(context)

    return frontend_contexts(config, demand)


class _HelloReader:
    """Reads a client's first message with OpenSSL itself, so that there is one opinion on what it says."""

    def __init__(self, config: Config) -> None:
        self._context = server_base(config)
        self._context.sni_callback = self._found
        self._server_name = ""

    def begin(self, incoming: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return what reads one hello; what it would answer goes nowhere."""
        return self._context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)

    def read(self, hello: ssl.SSLObject) -> str | None:
        """Return the server name, empty if there is none, or None as long as the hello is incomplete."""
        self._server_name = ""
        try:
            hello.do_handshake()
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError:
            # Stopped by `_found`; or not a hello at all, which the real handshake finds out too.
            pass
        return self._server_name

    def _found(self, _: ssl.SSLObject, server_name: str | None, __: ssl.SSLContext) -> int:
        self._server_name = server_name or ""
        return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR


class ContextChoice:
    """Chooses the context of one connection by the server name its client asks for.

    Attributes:
        server_name: as the client sent it, once the context is known; empty if it sent none.
    """

    def __init__(self, reader: _HelloReader, context_for: Callable[[str], ssl.SSLContext]) -> None:
        self.server_name = ""
        self._reader = reader
        self._context_for = context_for
        self._incoming = ssl.MemoryBIO()
        self._hello = reader.begin(self._incoming)

    def feed(self, data: bytes | memoryview) -> ssl.SSLContext | None:
        """Take bytes from the client; return the context once its hello is complete."""
        self._incoming.write(data)
        name = self._reader.read(self._hello)
        if name is None:
            return None
        self.server_name = name
        return self._context_for(name)
