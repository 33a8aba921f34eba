import base64
import hashlib
from typing import Any

import pytest

from router.proxy.mtls import ENVOY, RAW, Domain, Domains, caller_of, misdirected
from router.routing.route_policy import Caller

EXACT = Domain("secure.test", "sanitize_set")
WILD = Domain("*.apps.test", "forward", ENVOY)
INNER = Domain("exact.apps.test", "sanitize_set")
DER = b"\x30\x03\x02\x01\x05"


@pytest.fixture
def domains() -> Domains:
    return Domains([EXACT, WILD, INNER], lambda der: f"CN={len(der)}")


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        (b"secure.test", EXACT),
        (b"Secure.TEST", EXACT),
        (b"secure.test:8443", EXACT),
        (b"secure.test.", EXACT),
        (b"secure.test.:443", EXACT),
        (b"a.secure.test", None),
        (b"a.apps.test", WILD),
        (b"A.Apps.Test:1", WILD),
        (b"exact.apps.test", INNER),
        (b"apps.test", None),
        (b".apps.test", None),
        (b"a.b.apps.test", None),
        (b"b.exact.apps.test", None),
        (b"*.apps.test", WILD),
        (b"test", None),
        (b"", None),
        (b"[::1]:443", None),
        (b"10.0.0.1", None),
    ],
)
def test_host_belongs_to_the_most_specific_domain(domains: Domains, host: bytes, domain: Domain | None) -> None:
    assert domains.match(host) is domain


@pytest.mark.parametrize(
    ("host", "authenticated_for", "refused"),
    [
        (b"secure.test:443", "secure.test", False),
        (b"secure.test", "", True),
        (b"secure.test", "*.apps.test", True),
        (b"a.apps.test", "*.apps.test", False),
        (b"b.apps.test", "*.apps.test", False),
        (b"exact.apps.test", "*.apps.test", True),
        (b"open.test", "", False),
        (b"open.test", "secure.test", True),
        (b"a.b.apps.test", "*.apps.test", True),
    ],
)
def test_host_answers_only_on_connections_authenticated_for_its_domain(
    domains: Domains, host: bytes, authenticated_for: str, refused: bool
) -> None:
    assert misdirected(domains.match(host), authenticated_for) is refused


def test_first_of_two_entries_with_the_same_name_holds() -> None:
    second = Domain("Secure.test.", "forward")
    assert Domains([EXACT, second], str).match(b"secure.test") is EXACT


def test_raw_form_is_base64_on_one_line(domains: Domains) -> None:
    der = bytes(range(256)) * 8
    value = domains.forwarded_value(EXACT, der)

    assert (EXACT.xfcc_format, base64.b64decode(value, validate=True)) == (RAW, der)


def test_envoy_form_has_hash_and_subject(domains: Domains) -> None:
    digest = hashlib.sha256(DER).hexdigest().encode()
    assert domains.forwarded_value(WILD, DER) == b"Hash=" + digest + b';Subject="CN=5"'


def test_certificate_is_written_down_once() -> None:
    asked: list[bytes] = []

    def subject(der: bytes) -> str:
        asked.append(der)
        return "CN=x"

    domains = Domains([WILD], subject)
    for _ in range(3):
        domains.forwarded_value(WILD, bytes(DER))
    assert asked == [DER]


def test_subject_stays_on_its_line() -> None:
    domains = Domains([WILD], lambda _: "CN=a\r\nX-Evil: 1\x7f,O=\xe9")
    value = domains.forwarded_value(WILD, DER)

    assert value.endswith(b';Subject="CN=a  X-Evil: 1 ,O=\xc3\xa9"')


def test_subject_that_cannot_be_read_is_left_out() -> None:
    def unreadable(_: bytes) -> str:
        raise ValueError("not a certificate")

    value = Domains([WILD], unreadable).forwarded_value(WILD, DER)
    assert value == b"Hash=" + hashlib.sha256(DER).hexdigest().encode()


def certificate(*units: str, joined: bool = False) -> dict[str, Any]:
    pairs = [("organizationalUnitName", unit) for unit in units]
    common = (("commonName", "app:not-a-unit"),)
    return {"subject": (tuple(pairs), common) if joined else (*((pair,) for pair in pairs), common)}


@pytest.mark.parametrize("joined", [False, True])
def test_identity_is_read_from_the_organizational_units(joined: bool) -> None:
    units = ("organization:o", "space:s", "app:a", "something else")
    assert caller_of(certificate(*units, joined=joined)) == Caller("a", "s", "o")


def test_app_alone_is_an_identity() -> None:
    assert caller_of(certificate("app:a")) == Caller("a", "", "")


def test_unit_that_is_named_twice_alike_counts_once() -> None:
    assert caller_of(certificate("app:a", "app:a")) == Caller("a")


@pytest.mark.parametrize(
    "nobody",
    [
        None,
        {},
        certificate(),
        certificate("space:s", "organization:o"),
        certificate("app:"),
        certificate("app"),
        certificate("App:a"),
        certificate("app:a", "app:b"),
        certificate("app:a", "space:s", "space:t"),
    ],
)
def test_certificate_without_one_app_is_nobodys(nobody: dict[str, Any] | None) -> None:
    assert caller_of(nobody) is None
