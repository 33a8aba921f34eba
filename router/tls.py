"""TLS contexts: what the router shows to clients and what it demands of backends (GOROUTER.md §9.1, 9.6).

Owns the translation of configuration into `ssl.SSLContext`; does not own connections. Values are PEM text, as the
configuration holds them; keys never touch a disk on their way into OpenSSL.
"""

import contextlib
import os
import ssl
from collections.abc import Iterator

from router.config.schema import Config

VERSIONS = {
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


class TlsError(Exception):
    """A certificate, key or cipher list cannot be used; the message names the key of the configuration."""


def frontend_context(config: Config) -> ssl.SSLContext:
    """Build the context of the TLS listener; certificates are chosen by the client's server name.

    A name that several certificates have gets the first of each kind of key, from which OpenSSL takes one the
    client can verify. A client whose name no certificate has, or without one, chooses from all in that way.

    Raises `TlsError`.
    """
    if not config.tls_pem:
        raise TlsError("tls_pem: no certificate")
    certificates = [_Certificate(index, pair.cert_chain) for index, pair in enumerate(config.tls_pem)]
    contexts: dict[tuple[int, ...], ssl.SSLContext] = {}

    def context_of(candidates: list[_Certificate]) -> ssl.SSLContext:
        chosen = _first_of_each_kind(candidates)
        if chosen not in contexts:
            contexts[chosen] = _server_context(config, chosen)
        return contexts[chosen]

    by_name: dict[str, list[_Certificate]] = {}
    for certificate in certificates:
        for name in certificate.names:
            by_name.setdefault(name, []).append(certificate)
    default = context_of(certificates)
    named = {name: context_of(candidates) for name, candidates in by_name.items()}

    def choose(ssl_object: ssl.SSLObject, server_name: str | None, _: ssl.SSLContext) -> None:
        name = (server_name or "").lower().rstrip(".")
        context = named.get(name) or named.get("*." + name.partition(".")[2])
        if context is not None:
            ssl_object.context = context

    if len(contexts) > 1:
        default.sni_callback = choose
    return default


class _Certificate:
    """The first certificate of an entry of ``tls_pem``: its DNS names, lower-case, and its kind of key."""

    def __init__(self, index: int, chain: str) -> None:
        from cryptography import x509

        self.index = index
        try:
            certificate = x509.load_pem_x509_certificate(chain.encode())
            self.kind = type(certificate.public_key()).__name__
        except ValueError as error:
            raise TlsError(f"tls_pem[{index}]: {error}") from error
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
        try:
            context.load_verify_locations(cadata=proxy.identity_ca_certs)
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"internal.proxy.identity_ca_certs: {error}") from error
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def backend_context(config: Config) -> ssl.SSLContext:
    """Build the context of connections to TLS endpoints: always verified, by subject alternative name alone.

    Raises `TlsError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.hostname_checks_common_name = False
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    _set_ciphers(context, config)
    for index, pem in enumerate(config.ca_certs):
        try:
            context.load_verify_locations(cadata=pem)
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"ca_certs[{index}]: {error}") from error
    backends = config.backends
    if backends.cert_chain and backends.private_key:
        _load_pair(context, backends.cert_chain, backends.private_key, "backends")
    return context


def _server_context(config: Config, pairs: tuple[int, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lowest = VERSIONS.get(config.min_tls_version, ssl.TLSVersion.TLSv1_2)
    context.minimum_version = lowest
    context.maximum_version = VERSIONS.get(config.max_tls_version, ssl.TLSVersion.TLSv1_2)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # Over HTTP/1 there is nothing to negotiate, but a client that offers only other protocols should be told.
    context.set_alpn_protocols(["http/1.1"])
    _ask_for_certificates(context, config)
    _set_ciphers(context, config, legacy=lowest < ssl.TLSVersion.TLSv1_2)
    for index in pairs:
        pair = config.tls_pem[index]
        _load_pair(context, pair.cert_chain, pair.private_key, f"tls_pem[{index}]")
    return context


def _ask_for_certificates(context: ssl.SSLContext, config: Config) -> None:
    """Ask clients for certificates, and say which CAs are believed (GOROUTER.md §9.2)."""
    mode = config.client_cert_validation
    if mode not in ("request", "require"):
        return
    context.verify_mode = ssl.CERT_REQUIRED if mode == "require" else ssl.CERT_OPTIONAL
    if not config.only_trust_client_ca_certs:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    if config.client_ca_certs:
        try:
            context.load_verify_locations(cadata=config.client_ca_certs)
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"client_ca_certs: {error}") from error


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
