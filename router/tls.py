"""TLS contexts: what the router shows to clients and what it demands of backends (GOROUTER.md §9.1, 9.6).

Owns the translation of configuration into `ssl.SSLContext`; does not own connections, nor which hosts demand
client certificates (`tls_front`). Values are PEM text, as the configuration holds them; keys never touch a disk on
their way into OpenSSL.

As for Go, every certificate that is trusted ends a chain, an intermediate or a server's own as well as a root.
"""

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from router.config.schema import Config
from router.config.sections import KeyPair

VERSIONS = {
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


T = TypeVar("T")


class TlsError(Exception):
    """A certificate, key or cipher list cannot be used; the message names the key of the configuration."""


class ByName(Generic[T]):
    """Values by host name, ignoring case: a name itself comes before the ``*.`` with which one label is any."""

    def __init__(self) -> None:
        self._values: dict[str, T] = {}

    def put(self, name: str, value: T) -> None:
        """Enter a value; the first for a name stays."""
        self._values.setdefault(_plain(name), value)

    def find(self, name: str) -> T | None:
        plain = _plain(name)
        exact = self._values.get(plain)
        return exact if exact is not None else self._values.get("*." + plain.partition(".")[2])


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def frontend_context(config: Config) -> ssl.SSLContext:
    """Build the context of the TLS listener; client certificates are asked for as ``client_cert_validation`` says.

    Raises `TlsError`.
    """
    return frontend_contexts(config, lambda context: _ask_for_certificates(context, config))[0]


def frontend_contexts(config: Config, ask: Callable[[ssl.SSLContext], None]) -> list[ssl.SSLContext]:
    """Build contexts for the certificates; the first chooses among them by the client's server name.

    A name that several certificates have gets the first of each kind of key, from which OpenSSL takes one the
    client can verify, up to TLS 1.2 the first such one. A client whose name no certificate has, or without one,
    chooses from all in that way.

    Args:
        ask: says in each context which certificates clients have to show. OpenSSL takes from the first context
            whether they have to, and from the chosen one whose are believed.

    Raises `TlsError`.
    """
    if not config.tls_pem:
        raise TlsError("tls_pem: no certificate")
    certificates = [_Certificate(index, pair.cert_chain) for index, pair in enumerate(config.tls_pem)]
    contexts: dict[tuple[int, ...], ssl.SSLContext] = {}

    def context_of(candidates: list[_Certificate]) -> ssl.SSLContext:
        chosen = _first_of_each_kind(candidates)
        if chosen not in contexts:
            contexts[chosen] = _server_context(config, chosen, ask)
            if len(chosen) > 1:
                _prefer(contexts[chosen], candidates[0].auth)
        return contexts[chosen]

    by_name: dict[str, list[_Certificate]] = {}
    for certificate in certificates:
        for name in certificate.names:
            by_name.setdefault(name, []).append(certificate)
    default = context_of(certificates)
    named: ByName[ssl.SSLContext] = ByName()
    for name, candidates in by_name.items():
        named.put(name, context_of(candidates))

    def choose(ssl_object: ssl.SSLObject, server_name: str | None, _: ssl.SSLContext) -> None:
        context = named.find(server_name or "")
        if context is not None:
            ssl_object.context = context

    if len(contexts) > 1:
        default.sni_callback = choose
    return list(contexts.values())


class _Certificate:
    """The first certificate of an entry of ``tls_pem``.

    Attributes:
        names: DNS names, lower-case.
        kind: of its key.
        auth: what OpenSSL calls the suites that such a key serves.
    """

    def __init__(self, index: int, chain: str) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

        self.index = index
        try:
            certificate = x509.load_pem_x509_certificate(chain.encode())
            key = certificate.public_key()
        except ValueError as error:
            raise TlsError(f"tls_pem[{index}]: {error}") from error
        self.kind = type(key).__name__
        self.auth = "auth-rsa" if isinstance(key, RSAPublicKey) else "auth-ecdsa"
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            self.names = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
        except x509.ExtensionNotFound:
            self.names = set()


def _first_of_each_kind(candidates: list[_Certificate]) -> tuple[int, ...]:
    first: dict[str, int] = {}
    for certificate in candidates:
        first.setdefault(certificate.kind, certificate.index)
    return tuple(first.values())


def _prefer(context: ssl.SSLContext, auth: str) -> None:
    """Put the suites for one kind of key first. Up to TLS 1.2 it is the suite that decides on the certificate."""
    suites = [suite for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"]
    suites.sort(key=lambda suite: suite["auth"] != auth)
    if suites:
        context.set_ciphers(":".join(suite["name"] for suite in suites))


def internal_context(config: Config) -> ssl.SSLContext:
    """Build the context of the internal HTTPS listeners: containers may show an instance-identity certificate,
    which is verified against the one CA that issues them.

    Raises `TlsError`.
    """
    proxy = config.internal.proxy
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    _load_pair(context, proxy.cert_chain, proxy.private_key, "internal.proxy")
    if proxy.identity_ca_certs:
        trust(context, proxy.identity_ca_certs, "internal.proxy.identity_ca_certs")
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def backend_context(config: Config) -> ssl.SSLContext:
    """Build the context of connections to TLS endpoints: always verified, by subject alternative name alone.

    Raises `TlsError`.
    """
    return backend_contexts(config)[0]


def backend_contexts(config: Config, http2: bool = False) -> list[ssl.SSLContext]:
    """Build the contexts to try, in their order, until an endpoint's certificate is verified.

    Args:
        http2: offer HTTP/2 besides HTTP/1.1; otherwise nothing is offered, as by Gorouter.

    OpenSSL looks for the issuer of a certificate by name, and by key identifier if both have one. Among several
    that fit it takes the first, and if that one's key did not sign, the certificate is refused. So where CAs in
    ``ca_certs`` share a subject, the first context knows all, and each further one knows another of them alone.
    The next one is worth trying after `tls_stream.is_issuer_ambiguous`.

    Raises `TlsError`.
    """
    choices = _without_namesakes(config.ca_certs)
    contexts = [_backend_context(config, authorities) for authorities in (config.ca_certs, *choices)]
    if http2:
        for context in contexts:
            context.set_alpn_protocols(["h2", "http/1.1"])
    return contexts


def service_context(config: Config) -> ssl.SSLContext:
    """Build the context of connections to route services: the versions of the front, the CAs of backends.

    Raises `TlsError`.
    """
    return service_contexts(config)[0]


def service_contexts(config: Config) -> list[ssl.SSLContext]:
    """Build the contexts to try, as `backend_contexts` does. Raises `TlsError`."""
    choices = [] if config.skip_ssl_validation else _without_namesakes(config.ca_certs)
    return [_service_context(config, authorities) for authorities in (config.ca_certs, *choices)]


def _service_context(config: Config, authorities: list[str]) -> ssl.SSLContext:
    context = _client_context(config, authorities)
    legacy = _set_versions(context, config)
    _set_ciphers(context, config, legacy)
    if config.skip_ssl_validation:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    _load_client_pair(
        context, config.route_services.cert_chain, config.route_services.private_key, "route_services"
    )
    return context


def _backend_context(config: Config, authorities: list[str]) -> ssl.SSLContext:
    context = _client_context(config, authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    _set_ciphers(context, config)
    _load_client_pair(context, config.backends.cert_chain, config.backends.private_key, "backends")
    return context


def _client_context(config: Config, authorities: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    for index, pem in enumerate(authorities):
        trust(context, pem, f"ca_certs[{index}]")
    return context


def _load_client_pair(context: ssl.SSLContext, chain: str, key: str, where: str) -> None:
    if chain.strip() and key.strip():
        _load_pair(context, chain, key, where)


def _without_namesakes(authorities: list[str]) -> list[list[str]]:
    """Return lists of CAs (PEM) in which no two share a subject, and every CA is in one; none if all differ.

    What is first in ``authorities`` comes last, because the context that knows all has tried that already.
    """
    if not authorities:
        return []
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    by_subject: dict[bytes, dict[bytes, str]] = {}
    try:
        for certificate in x509.load_pem_x509_certificates("\n".join(authorities).encode()):
            same = by_subject.setdefault(certificate.subject.public_bytes(), {})
            pem = certificate.public_bytes(Encoding.PEM).decode()
            same.setdefault(certificate.public_bytes(Encoding.DER), pem)
    except ValueError:
        # Which of them is damaged, and how, comes to light where they are loaded one by one.
        return []
    choices = max((len(same) for same in by_subject.values()), default=1)
    if choices == 1:
        return []
    families = [list(same.values()) for same in by_subject.values()]
    return [[family[turn % len(family)] for family in families] for turn in reversed(range(choices))]


def server_base(config: Config) -> ssl.SSLContext:
    """Build a context with the versions and suites of the front, and no certificates yet.

    Raises `TlsError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    legacy = _set_versions(context, config)
    # Those who offer nothing of this get no answer, and HTTP/1.1: Python cannot make OpenSSL refuse them, so who
    # wants that (`FrontTls.protocols`) looks at the hello first.
    context.set_alpn_protocols(["h2", "http/1.1"] if config.enable_http2 else ["http/1.1"])
    _set_ciphers(context, config, legacy)
    return context


def _server_context(
    config: Config, pairs: tuple[int, ...], ask: Callable[[ssl.SSLContext], None]
) -> ssl.SSLContext:
    context = server_base(config)
    ask(context)
    for index in pairs:
        pair: KeyPair = config.tls_pem[index]
        _load_pair(context, pair.cert_chain, pair.private_key, f"tls_pem[{index}]")
    return context


def _set_versions(context: ssl.SSLContext, config: Config) -> bool:
    """Set the range of versions of the front; tell whether some in it are older than TLS 1.2."""
    lowest = VERSIONS.get(config.min_tls_version, ssl.TLSVersion.TLSv1_2)
    context.minimum_version = lowest
    context.maximum_version = VERSIONS.get(config.max_tls_version, ssl.TLSVersion.TLSv1_2)
    return lowest < ssl.TLSVersion.TLSv1_2


def _ask_for_certificates(context: ssl.SSLContext, config: Config) -> None:
    """Ask clients for certificates, and say which CAs are believed (GOROUTER.md §9.2)."""
    mode = config.client_cert_validation
    if mode not in ("request", "require"):
        return
    context.verify_mode = ssl.CERT_REQUIRED if mode == "require" else ssl.CERT_OPTIONAL
    if not config.only_trust_client_ca_certs:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    if config.client_ca_certs.strip():
        trust(context, config.client_ca_certs, "client_ca_certs")
    if config.enable_verify_client_certificate_metadata:
        forbid_tickets(context)


def trust(context: ssl.SSLContext, pem: str, where: str) -> None:
    """Let every certificate of a PEM text end a chain. Raises `TlsError` naming the key ``where``."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"{where}: {error}") from error


def forbid_tickets(context: ssl.SSLContext) -> None:
    """Have clients prove anew who they are: a ticket would carry their identity through another handshake."""
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0


def _set_ciphers(context: ssl.SSLContext, config: Config, legacy: bool = False) -> None:
    names = list(config.cipher_suites)
    if not names and not legacy:
        return
    text = ":".join(names or ["DEFAULT"])
    if legacy:
        # OpenSSL 3 has the signature algorithms of TLS 1.0 and 1.1 at security level 0 only.
        text += ":@SECLEVEL=0"
    try:
        context.set_ciphers(text)
    except ssl.SSLError as error:
        raise TlsError(f"cipher_suites: none of {':'.join(names)} is known to {ssl.OPENSSL_VERSION}") from error


def _load_pair(context: ssl.SSLContext, chain: str, key: str, where: str) -> None:
    try:
        with _as_file(chain) as chain_path, _as_file(key) as key_path:
            context.load_cert_chain(chain_path, key_path, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise TlsError(f"{where}: {error}") from error


def _no_password() -> str:
    raise ValueError("the private key is encrypted")


@contextlib.contextmanager
def _as_file(pem: str) -> Iterator[str]:
    """Give OpenSSL, which only reads files, a file in memory."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
