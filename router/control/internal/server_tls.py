"""TLS of the HTTP APIs of internal routing: a certificate of their own, and client certificates if asked for.

Owns the contexts; does not own the listeners. One law: with a CA given, a client without a certificate from it
does not get past the handshake.
"""

import ssl

from router.config.schema import Config
from router.config.sections import KeyPair
from router.tls import TlsError, frontend_context

MUTUAL_SUITES = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"
"""For TLS 1.2; Cloud Foundry's components offer and accept the first alone, whose kind of key they all have."""


def server_context(key: str, cert_chain: str, private_key: str, *, client_ca: str = "") -> ssl.SSLContext:
    """Return a context for TLS 1.2 and 1.3.

    Args:
        key: of the configuration, for errors.
        cert_chain, private_key: PEM text.
        client_ca: PEM text; clients must show a certificate of one of these CAs.

    Raises:
        TlsError: naming the key; something cannot be used.
    """
    pair = KeyPair(cert_chain=cert_chain, private_key=private_key)
    try:
        context = frontend_context(Config(tls_pem=[pair], min_tls_version="TLSv1.2", max_tls_version="TLSv1.3"))
    except TlsError as error:
        reason = str(error).partition(": ")[2]
        raise TlsError(f"{key}: {reason}") from error
    if client_ca:
        context.set_ciphers(MUTUAL_SUITES)
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(cadata=client_ca)
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"{key}: CA of the clients: {error}") from error
    return context
