"""TLS of the health listener: the front's versions and suites, a certificate of its own.

Owns when there is such a listener and its context; does not own the listener (`admin`).
"""

import ssl

from msgspec import structs

from router.config.schema import Config
from router.config.sections import KeyPair, Status, StatusTls
from router.tls import TlsError, frontend_context


def has_tls_health(status: Status) -> bool:
    """Tell whether the health listener over TLS is wanted: any of its settings switches it on."""
    return status.tls != StatusTls()


def health_context(config: Config) -> ssl.SSLContext:
    """Return the context of the health listener. Raises `TlsError` naming ``status.tls``."""
    tls = config.status.tls
    pair = KeyPair(cert_chain=tls.certificate, private_key=tls.key)
    # Load balancers that ask for health have no certificate, whatever is demanded of clients.
    own = structs.replace(config, tls_pem=[pair], client_cert_validation="none")
    try:
        return frontend_context(own)
    except TlsError as error:
        raise TlsError(f"status.tls: {error}") from error
