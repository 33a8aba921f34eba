"""Who is believed to be whom."""

from typing import Any

import pytest

from router.proxy.caller import IP, IP_AND_MTLS, MTLS, MTLS_IF_OFFERED, UnknownCaller, forget_claims, identify
from router.routing.access import InternalTable
from router.routing.internal_records import Identity, PutIdentity
from router.wire.http1 import RequestHead

FRONT = Identity("10.0.0.1", "front", instance="front-0")
OTHER = Identity("10.0.0.2", "other", instance="other-0")
NOW = 1_800_000_000.0


def table() -> InternalTable:
    made = InternalTable()
    made.apply(PutIdentity(FRONT))
    made.apply(PutIdentity(OTHER))
    return made


def certificate(
    instance: str = "front-0",
    units: tuple[str, ...] = ("organization:o", "space:s", "app:front"),
    addresses: tuple[str, ...] = ("10.0.0.1",),
    not_after: str = "Jan  1 00:00:00 2030 GMT",
) -> dict[str, Any]:
    return {
        "subject": ((("commonName", instance),), tuple(("organizationalUnitName", unit) for unit in units)),
        "subjectAltName": (("DNS", instance), *(("IP Address", address) for address in addresses)),
        "notAfter": not_after,
    }


def test_address_alone_identifies_where_no_certificate_is_asked_for() -> None:
    assert identify(table(), IP, "10.0.0.1", None, NOW) is FRONT
    assert identify(table(), MTLS_IF_OFFERED, "10.0.0.1", None, NOW) is FRONT


def test_certificate_is_ignored_in_address_mode() -> None:
    assert identify(table(), IP, "10.0.0.2", certificate(), NOW) is OTHER


def test_address_and_certificate_that_agree_identify() -> None:
    assert identify(table(), IP_AND_MTLS, "10.0.0.1", certificate(), NOW) is FRONT


def test_units_may_stand_in_names_of_their_own_in_any_order() -> None:
    shown = certificate()
    shown["subject"] = (
        (("organizationalUnitName", "app:front"),),
        (("commonName", "front-0"),),
        (("organizationalUnitName", "space:s"),),
    )
    assert identify(table(), IP_AND_MTLS, "10.0.0.1", shown, NOW) is FRONT


def test_certificate_identifies_behind_address_translation_in_mtls_mode() -> None:
    assert identify(table(), MTLS, "192.0.2.1", certificate(), NOW) is FRONT


@pytest.mark.parametrize(
    ("mode", "peer", "shown", "reason"),
    [
        (IP, "10.0.0.9", None, "unknown-source"),
        (MTLS_IF_OFFERED, "10.0.0.9", None, "unknown-source"),
        (IP_AND_MTLS, "10.0.0.1", None, "certificate-required"),
        (MTLS, "10.0.0.1", None, "certificate-required"),
        (MTLS_IF_OFFERED, "10.0.0.2", certificate(), "certificate-for-another-address"),
        (MTLS_IF_OFFERED, "10.0.0.9", certificate(), "unknown-source"),
        (IP_AND_MTLS, "10.0.0.1", certificate(addresses=()), "certificate-for-another-address"),
        (IP_AND_MTLS, "10.0.0.1", certificate(instance="front-1"), "certificate-of-another-instance"),
        (IP_AND_MTLS, "10.0.0.1", certificate(units=("app:other",)), "certificate-of-another-app"),
        (IP_AND_MTLS, "10.0.0.1", certificate(units=("space:s",)), "certificate-without-app"),
        (IP_AND_MTLS, "10.0.0.1", certificate(units=("app:front", "app:other")), "certificate-without-app"),
        (IP_AND_MTLS, "10.0.0.1", certificate(instance=""), "certificate-without-instance"),
        (MTLS, "10.0.0.1", certificate(instance="gone"), "instance-not-live"),
        (MTLS, "10.0.0.1", certificate(not_after="Jan  1 00:00:00 2020 GMT"), "certificate-expired"),
    ],
)
def test_doubtful_caller_is_nobody(mode: str, peer: str, shown: dict[str, Any] | None, reason: str) -> None:
    with pytest.raises(UnknownCaller, match=reason):
        identify(table(), mode, peer, shown, NOW)


def head(*lines: bytes, **special: bytes) -> RequestHead:
    made = RequestHead(b"GET", b"/", 1)
    made.lines = list(lines)
    made.special = {name.replace("_", "-").encode(): value for name, value in special.items()}
    return made


def test_what_a_container_says_was_forwarded_is_forgotten() -> None:
    lines = (b"Accept: */*", b"X-FORWARDED-Host: a")
    request = head(*lines, x_forwarded_for=b"1.2.3.4", x_forwarded_proto=b"https", host=b"b")
    shared = request.lines, request.special
    forget_claims(request, b"")
    assert request.lines == [b"Accept: */*"]
    assert request.special == {b"host": b"b"}
    assert shared[0] == list(lines), "the head before may share it"
    assert len(shared[1]) == 3


def test_verified_certificate_takes_the_place_of_a_claimed_one() -> None:
    request = head(b"x-forwarded-client-cert: forged", b"Via: x-forwarded-host")
    forget_claims(request, b"c2hvd24=")
    assert request.lines == [b"Via: x-forwarded-host", b"X-Forwarded-Client-Cert: c2hvd24="]
    forget_claims(request, b"c2hvd24=")
    assert request.lines == [b"Via: x-forwarded-host", b"X-Forwarded-Client-Cert: c2hvd24="]


def test_request_that_claims_nothing_is_left_as_it_is() -> None:
    request = head(b"Accept: */*", host=b"b")
    lines, special = request.lines, request.special
    forget_claims(request, b"")
    assert request.lines is lines
    assert request.special is special
