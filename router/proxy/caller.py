"""Who a container is that sends a request: by its address, its instance-identity certificate, or both.

Owns the rules for believing a caller; does not own what it may do (`routing.access`). One law: headers say nothing
here; only the address of the connection and a verified certificate count.

An instance-identity certificate has the instance GUID as common name, exactly one organizational unit
``app:GUID``, and the container's address among its alternative names. The units may stand in one relative
distinguished name or in several, in any order.
"""

import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from router.routing.access import InternalTable
from router.routing.internal_records import Identity
from router.wire.http1 import RequestHead

_FORWARDED = b"x-forwarded-"

IP, MTLS, IP_AND_MTLS, MTLS_IF_OFFERED = "ip", "mtls", "ip+mtls", "ip+mtls-if-offered"

Certificate = Mapping[str, Any]
"""As `ssl.SSLObject.getpeercert` returns it; only certificates that were verified arrive here."""


class UnknownCaller(Exception):
    """The caller is nobody we know, or not who it says; the text is a reason for the audit log."""


def identify(
    table: InternalTable, mode: str, peer_ip: str, certificate: Certificate | None, now: float
) -> Identity:
    """Return the workload that a connection comes from.

    Args:
        mode: one of `IP`, `MTLS`, `IP_AND_MTLS`, `MTLS_IF_OFFERED`.
        peer_ip: the other end of the connection.
        certificate: what the client presented, None if nothing.
        now: seconds since the epoch.

    Raises `UnknownCaller`.
    """
    if mode == IP:
        return _by_address(table, peer_ip)
    if certificate is None:
        if mode != MTLS_IF_OFFERED:
            raise UnknownCaller("certificate-required")
        return _by_address(table, peer_ip)
    instance, app = _subject(certificate, now)
    if mode == MTLS:
        identity = table.instance(instance)
        if identity is None:
            raise UnknownCaller("instance-not-live")
    else:
        identity = _by_address(table, peer_ip)
        if identity.ip not in _addresses(certificate):
            raise UnknownCaller("certificate-for-another-address")
    if identity.instance != instance:
        raise UnknownCaller("certificate-of-another-instance")
    if identity.app != app:
        raise UnknownCaller("certificate-of-another-app")
    return identity


def _by_address(table: InternalTable, peer_ip: str) -> Identity:
    identity = table.identities.get(peer_ip)
    if identity is None:
        raise UnknownCaller("unknown-source")
    return identity


def _subject(certificate: Certificate, now: float) -> tuple[str, str]:
    """Return instance and app GUID of a certificate."""
    names = [pair for relative_name in certificate.get("subject", ()) for pair in relative_name]
    instances = [value for field, value in names if field == "commonName"]
    apps = [
        value.removeprefix("app:")
        for field, value in names
        if field == "organizationalUnitName" and value.startswith("app:")
    ]
    if len(instances) != 1 or not instances[0]:
        raise UnknownCaller("certificate-without-instance")
    if len(apps) != 1 or not apps[0]:
        raise UnknownCaller("certificate-without-app")
    # Verified at the handshake, but a connection can outlive its certificate.
    if _seconds(certificate["notAfter"]) < now:
        raise UnknownCaller("certificate-expired")
    return instances[0], apps[0]


@lru_cache(maxsize=1024)
def _seconds(time_text: str) -> int:
    return ssl.cert_time_to_seconds(time_text)


def _addresses(certificate: Certificate) -> set[str]:
    return {value for kind, value in certificate.get("subjectAltName", ()) if kind == "IP Address"}


def forget_claims(head: RequestHead, certificate: bytes) -> None:
    """Take out every ``X-Forwarded-`` field of a container's request: apps take them for the router's word.

    Args:
        certificate: base64 of the DER certificate that was shown and verified, which the endpoint is told of;
            empty if there was none.
    """
    # New values, not changed ones: the head before on the connection may share the old ones.
    for line in head.lines:
        if _is_claim(line):
            head.lines = [other for other in head.lines if not _is_claim(other)]
            break
    special = head.special
    if b"x-forwarded-for" in special or b"x-forwarded-proto" in special:
        head.special = {name: value for name, value in special.items() if not name.startswith(_FORWARDED)}
    if certificate:
        head.lines = [*head.lines, b"X-Forwarded-Client-Cert: " + certificate]


def _is_claim(line: bytes) -> bool:
    # The first byte tells most lines apart, without a copy of any.
    return line[0] | 0x20 == _FORWARDED[0] and line[: len(_FORWARDED)].lower() == _FORWARDED
