"""Rules about client certificates, on handshakes between two OpenSSLs in memory."""

import ssl
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.config.schema import Config
from router.config.sections import ClientCertificateRule
from router.tls_client_rules import ClientRules, client_rules, subject_text
from tests.support.certificates import server_context, shake_hands
from tests.support.odd_certificates import Odd, dns, make

ROOT = make("O=Platform/CN=root", authority=True)
INNER = make("O=Platform/CN=inner", ROOT, authority=True)
OTHER = make("CN=other root", authority=True)
SERVER = make("CN=server", OTHER, names=dns("front.test"))


def rules(*entries: tuple[dict[str, Any], list[dict[str, Any]]]) -> ClientRules:
    raw = [{"issuer_in_chain": issuer, "valid_cert_subjects": subjects} for issuer, subjects in entries]
    return ClientRules(msgspec.convert(raw, list[ClientCertificateRule]), ROOT.pem + INNER.pem + OTHER.pem)


@pytest.fixture
def server(tmp_path: Path) -> ssl.SSLContext:
    context = server_context(SERVER.pair(), tmp_path)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=ROOT.pem + OTHER.pem)
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


def client(directory: Path, shown: Odd | None, *chain: Odd) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=OTHER.pem)
    if shown is not None:
        path = directory / "client.pem"
        path.write_text("".join(shown.pair(*chain)))
        context.load_cert_chain(path)
    return context


def shake(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Shake hands; return both sides, the server's first."""
    return shake_hands(server, client, "front.test", session)


PLATFORM_ROOT = {"organization": ["Platform"], "common_name": "root"}
PLATFORM_INNER = {"organization": ["Platform"], "common_name": "inner"}
GOOD = {"common_name": "good", "organizational_unit": ["a", "b"]}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("subject", "accepted"),
    [
        ("OU=a/OU=b/CN=good", True),
        ("OU=a+OU=b/CN=good", True),
        ("CN=good/OU=a/OU=b", True),
        ("EMAIL=x@y/OU=a/OU=b/CN=good", True),
        ("OU=b/OU=a/CN=good", False),
        ("OU=a/CN=good", False),
        ("OU=a/OU=b/OU=c/CN=good", False),
        ("OU=a/OU=b/CN=good/O=x", False),
        ("OU=a/OU=b/CN=Good", False),
        ("OU=a/OU=b/CN=good/CN=evil", False),
        ("CN=other good", True),
    ],
)
def test_subject_must_be_one_of_those_for_its_issuer(
    server: ssl.SSLContext, tmp_path: Path, version: ssl.TLSVersion, subject: str, accepted: bool
) -> None:
    server.maximum_version = version
    ours, _ = shake(server, client(tmp_path, make(subject, ROOT)))
    reason = rules((PLATFORM_ROOT, [GOOD, {"common_name": "other good"}])).check(ours)

    assert (reason is None) is accepted
    assert accepted or "which no rule allows" in str(reason)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("country", "C"),
        ("organization", "O"),
        ("organizational_unit", "OU"),
        ("locality", "L"),
        ("province", "ST"),
        ("street_address", "STREET"),
        ("postal_code", "POSTALCODE"),
    ],
)
def test_each_part_of_a_name_counts_in_subjects_and_issuers(
    server: ssl.SSLContext, tmp_path: Path, key: str, kind: str
) -> None:
    issuer = make(f"{kind}=AA/CN=parts", authority=True)
    server.load_verify_locations(cadata=issuer.pem)
    ours, _ = shake(server, client(tmp_path, make(f"{kind}=BB/CN=good", issuer)))

    def check(issuer_says: str, subject_says: str) -> str | None:
        subject = {"common_name": "good", key: [subject_says]}
        raw = [{"issuer_in_chain": {"common_name": "parts", key: [issuer_says]}, "valid_cert_subjects": [subject]}]
        return ClientRules(msgspec.convert(raw, list[ClientCertificateRule]), issuer.pem).check(ours)

    assert check("AA", "BB") is None
    assert check("AA", "CC")
    assert check("CC", "CC") is None, "the rule is for another issuer"


def test_issuer_counts_anywhere_in_the_chain(server: ssl.SSLContext, tmp_path: Path) -> None:
    ours, _ = shake(server, client(tmp_path, make("CN=good", INNER), INNER))

    for issuer in (PLATFORM_ROOT, PLATFORM_INNER):
        assert rules((issuer, [{"common_name": "good"}])).check(ours) is None
        assert rules((issuer, [{"common_name": "other"}])).check(ours)
        assert rules((issuer, [])).check(ours)


@pytest.mark.parametrize("sent", [(), (INNER,)], ids=["without intermediate", "with intermediate"])
def test_issuer_above_a_trusted_intermediate_counts_too(
    server: ssl.SSLContext, tmp_path: Path, sent: tuple[Odd, ...]
) -> None:
    """The chain ends at the intermediate CA, which is trusted itself."""
    server.load_verify_locations(cadata=INNER.pem)
    server.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    ours, _ = shake(server, client(tmp_path, make("CN=good", INNER), *sent))

    assert rules((PLATFORM_ROOT, [{"common_name": "good"}])).check(ours) is None
    assert rules((PLATFORM_ROOT, [{"common_name": "other"}])).check(ours)


def test_every_rule_whose_issuer_is_in_the_chain_must_agree(server: ssl.SSLContext, tmp_path: Path) -> None:
    ours, _ = shake(server, client(tmp_path, make("CN=good", INNER), INNER))
    good, other = [{"common_name": "good"}], [{"common_name": "other"}]

    assert rules((PLATFORM_ROOT, good), (PLATFORM_INNER, good)).check(ours) is None
    assert rules((PLATFORM_ROOT, good), (PLATFORM_INNER, other)).check(ours)


def test_rules_for_other_issuers_do_not_matter(server: ssl.SSLContext, tmp_path: Path) -> None:
    ours, _ = shake(server, client(tmp_path, make("CN=anyone", OTHER)))
    assert rules((PLATFORM_ROOT, [GOOD])).check(ours) is None


def test_leaf_is_not_its_own_issuer(server: ssl.SSLContext, tmp_path: Path) -> None:
    ours, _ = shake(server, client(tmp_path, make("O=Platform/CN=root", OTHER)))
    assert rules((PLATFORM_ROOT, [])).check(ours) is None


def test_client_without_certificate_passes(server: ssl.SSLContext, tmp_path: Path) -> None:
    ours, _ = shake(server, client(tmp_path, None))
    assert rules((PLATFORM_ROOT, [])).check(ours) is None


@pytest.mark.parametrize("accepted", [True, False])
def test_session_is_resumed_only_if_it_was_accepted(
    server: ssl.SSLContext, tmp_path: Path, accepted: bool
) -> None:
    """A session that is resumed has no chain to judge, and OpenSSL resumes what was refused too."""
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    context = client(tmp_path, make("CN=good", ROOT))
    judge = rules((PLATFORM_ROOT, [{"common_name": "good" if accepted else "other"}]))
    first, theirs = shake(server, context)
    assert (judge.check(first) is None) is accepted

    again, _ = shake(server, context, theirs.session)
    assert again.session_reused
    assert (judge.check(again) is None) is accepted


def test_rules_apply_only_when_they_are_switched_on() -> None:
    entry = msgspec.convert({"issuer_in_chain": PLATFORM_ROOT}, ClientCertificateRule)
    assert client_rules(Config(verify_client_certificate_metadata=[entry])) is None
    assert client_rules(Config(enable_verify_client_certificate_metadata=True)) is None
    both = Config(enable_verify_client_certificate_metadata=True, verify_client_certificate_metadata=[entry])
    assert client_rules(both) is not None


def test_subject_is_written_as_go_does() -> None:
    assert subject_text(make("O=Acme, Inc/OU=app:1/CN=x").der) == r"CN=x,OU=app:1,O=Acme\, Inc"
    with pytest.raises(ValueError, match="asn1"):
        subject_text(b"not DER")
