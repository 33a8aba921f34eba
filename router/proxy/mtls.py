"""Domains with mutual TLS: hosts whose clients prove who they are with a certificate of the domain's own CA.

Owns which host belongs to which domain, what is forwarded of a certificate, and the caller's identity (GOROUTER.md
§9.5); does not own the handshake, which demanded the certificate, nor route policies (`routing.route_policy`).

One law: a host answers only on connections that were authenticated for its domain. A proxy without such domains
keeps None in place of a `Domains`, and pays nothing.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from router.routing.route_policy import Caller

RAW, ENVOY = "raw", "envoy"
"""Forms of X-Forwarded-Client-Cert: base64 of the DER form, or its hash and subject."""

_REMEMBERED = 1024
"""Header values kept, one a certificate and form."""


@dataclass(frozen=True, slots=True)
class Domain:
    """An entry of ``domains``."""

    name: str
    """As configured, and as the handshake reports it: a host name, or ``*.`` and a name for one more label."""
    client_cert: str
    """``forwarded_client_cert`` for these hosts: a mode of `proxy.rewrite`."""
    xfcc_format: str = RAW


class Domains:
    """All domains of a router.

    Args:
        entries: of entries with the same name the first holds, as in the handshake.
        subject_text: makes of a certificate in DER form the text of its subject, in which quotes and backslashes
            are escaped as in RFC 4514; may raise `ValueError`.
    """

    def __init__(self, entries: Iterable[Domain], subject_text: Callable[[bytes], str]) -> None:
        self._exact: dict[bytes, Domain] = {}
        self._wildcards: dict[bytes, Domain] = {}
        self._subject_text = subject_text
        for entry in entries:
            name = entry.name.lower().rstrip(".").encode()
            if name.startswith(b"*."):
                self._wildcards.setdefault(name[2:], entry)
            else:
                self._exact.setdefault(name, entry)
        self._value = lru_cache(maxsize=_REMEMBERED)(self._make_value)

    def match(self, host: bytes) -> Domain | None:
        """Return the domain of a Host value: the exact name, else a wildcard with one label in its place."""
        name = host.partition(b":")[0].lower().rstrip(b".")
        domain = self._exact.get(name)
        if domain is None and self._wildcards:
            label, _, parent = name.partition(b".")
            if label:
                domain = self._wildcards.get(parent)
        return domain

    def forwarded_value(self, domain: Domain, der: bytes) -> bytes:
        """Return the value of X-Forwarded-Client-Cert for a client's certificate, in the form the domain has.

        Raw: base64 (standard alphabet, padded, one line). Envoy: ``Hash=`` SHA-256 in hexadecimal of the DER form,
        ``;Subject=`` the subject in quotes; a subject that cannot be written down is left out.
        """
        return self._value(domain.xfcc_format, der)

    def _make_value(self, form: str, der: bytes) -> bytes:
        if form != ENVOY:
            return base64.b64encode(der)
        digest = b"Hash=" + hashlib.sha256(der).hexdigest().encode()
        try:
            subject = self._subject_text(der)
        except ValueError:
            return digest
        return digest + b';Subject="' + _header_text(subject) + b'"'


def _header_text(subject: str) -> bytes:
    """Keep a subject from ending the line it is written on; it ends no quotes, because its own are escaped."""
    return "".join(" " if ord(each) < 0x20 or ord(each) == 0x7F else each for each in subject).encode()


def misdirected(domain: Domain | None, authenticated_for: str) -> bool:
    """Tell whether a request must be refused with 421.

    That is so when its host is in a domain that this connection was not authenticated for, and also when the
    connection was authenticated for a domain and the host is not in it.

    Args:
        domain: of the request's host.
        authenticated_for: name of the domain whose CA verified the client in the handshake, empty if none.
    """
    return (domain.name if domain is not None else "") != authenticated_for


def caller_of(certificate: Mapping[str, Any] | None) -> Caller | None:
    """Return who a client is by the organizational units of its certificate, None if nobody.

    An instance identity names its app once; space and organization at most once each. The units may stand in one
    relative distinguished name or in several, in any order.

    Args:
        certificate: as `ssl.SSLObject.getpeercert` returns it, verified; None if the client presented none.
    """
    found: dict[str, str] = {}
    for relative_name in (certificate or {}).get("subject", ()):
        for field, value in relative_name:
            kind, separator, guid = value.partition(":")
            if field != "organizationalUnitName" or not separator or kind not in _UNITS:
                continue
            if found.setdefault(kind, guid) != guid:
                # A certificate of two apps is nobody's: either would be a guess.
                return None
    if not found.get("app"):
        return None
    return Caller(found["app"], found.get("space", ""), found.get("organization", ""))


_UNITS = frozenset({"app", "space", "organization"})
