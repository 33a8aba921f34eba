"""Cipher suite names: the ones Gorouter accepts, and what this machine's OpenSSL can do with them."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

OPENSSL_BY_IANA = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA": "ECDHE-RSA-DES-CBC3-SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA": "DES-CBC3-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA": "ECDHE-ECDSA-RC4-SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA": "ECDHE-RSA-RC4-SHA",
    "TLS_RSA_WITH_RC4_128_SHA": "RC4-SHA",
    # Go's older names of the two ChaCha suites.
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""In the order in which Go's servers prefer them, whatever the order of a list: forward secrecy first, then
authenticated encryption, and last what is broken."""

TLS13_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Accepted and dropped: TLS 1.3 always offers all of its suites."""

OPENSSL_NAMES = sorted(set(OPENSSL_BY_IANA.values()))
_PREFERENCE = list(dict.fromkeys(OPENSSL_BY_IANA.values()))


@dataclass(slots=True)
class Suites:
    """A list of names, sorted out."""

    usable: list[str] = field(default_factory=list)
    """OpenSSL names, each once, the best first."""
    unknown: list[str] = field(default_factory=list)
    """Not the name of a suite."""
    unavailable: list[str] = field(default_factory=list)
    """Suites that this OpenSSL no longer has, such as RC4."""


def resolve(names: Sequence[str]) -> Suites:
    """Sort out cipher suite names, OpenSSL's and IANA's alike."""
    suites = Suites()
    for name in dict.fromkeys(names):
        suite = OPENSSL_BY_IANA.get(name, name)
        if name in TLS13_SUITES or suite in suites.usable:
            continue
        if suite not in OPENSSL_NAMES:
            suites.unknown.append(name)
        elif _available(suite):
            suites.usable.append(suite)
        else:
            suites.unavailable.append(name)
    suites.usable.sort(key=_PREFERENCE.index)
    return suites


def _available(suite: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(suite)
    except ssl.SSLError:
        return False
    return True
