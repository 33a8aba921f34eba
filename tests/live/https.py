"""Settings of a router that serves TLS."""

from typing import Any

from router.certs import Pair
from tests.support.ports import free_port

SUITES = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"


def https_config(pairs: list[Pair], **more: Any) -> dict[str, Any]:
    """Return the keys that serve TLS with these certificates, the first by default."""
    return {
        "enable_ssl": True,
        "ssl_port": free_port(),
        "client_cert_validation": "none",
        "cipher_suites": SUITES,
        "min_tls_version": "TLSv1.2",
        "max_tls_version": "TLSv1.3",
        "tls_pem": [{"cert_chain": pair.certificate, "private_key": pair.private_key} for pair in pairs],
        **more,
    }
