"""How to reach NATS by a Gorouter configuration's ``nats`` section: server URLs and a TLS context."""

import ssl
from urllib.parse import quote

from router.config.pem import key_pair_files
from router.config.sections import Nats


def servers(section: Nats) -> list[str]:
    """Return the URLs of the section's hosts, with its user and password in them."""
    scheme = "tls" if section.tls_enabled else "nats"
    login = f"{quote(section.user, safe='')}:{quote(section.pass_, safe='')}@" if section.user else ""
    return [f"{scheme}://{login}{_bracketed(host.hostname)}:{host.port}" for host in section.hosts]


def tls_context(section: Nats) -> ssl.SSLContext | None:
    """Return a context that shows the section's certificate and verifies the server's name, or None without TLS.

    Raises:
        ssl.SSLError, ValueError: a certificate or key is malformed.
    """
    if not section.tls_enabled:
        return None
    context = ssl.create_default_context(cadata=section.ca_certs or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if section.cert_chain:
        with key_pair_files(section.cert_chain, section.private_key) as (chain, key):
            context.load_cert_chain(chain, key)
    return context


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
