"""Who stands above whom among CAs."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from router.tls_ancestors import ancestors
from tests.support.odd_certificates import Odd, make

ROOT = make("CN=root", authority=True)
NAMESAKE = make("CN=root", authority=True)
MIDDLE = make("CN=middle", ROOT, authority=True)
LOW = make("CN=low", MIDDLE, authority=True)
OTHER = make("CN=other", authority=True)


def signed_again(certificate: Odd, issuer: Odd) -> Odd:
    """Return another certificate of the same authority, with the same key, by another issuer."""
    old = certificate.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return Odd(builder.sign(issuer.private_key, hashes.SHA256()), certificate.private_key)


def test_every_signer_up_to_the_root_is_an_ancestor() -> None:
    found = ancestors(LOW.pem + OTHER.pem + ROOT.pem + MIDDLE.pem)
    assert found[LOW.der] == {"CN=middle", "CN=root"}
    assert found[MIDDLE.der] == {"CN=root"}
    assert found[ROOT.der] == found[OTHER.der] == frozenset()


def test_name_alone_makes_no_ancestor() -> None:
    assert ancestors(MIDDLE.pem + NAMESAKE.pem)[MIDDLE.der] == frozenset()


def test_authority_that_two_have_signed_has_the_ancestors_of_both_certificates() -> None:
    again = signed_again(MIDDLE, OTHER)
    found = ancestors(MIDDLE.pem + again.pem + ROOT.pem + OTHER.pem)
    assert found[MIDDLE.der] == found[again.der] == {"CN=root", "CN=other"}


def test_authorities_that_signed_each_other_end_the_search() -> None:
    first, second = make("CN=first", authority=True), make("CN=second", authority=True)
    crossed = signed_again(first, second), signed_again(second, first)
    found = ancestors("".join(each.pem for each in (first, second, *crossed)))
    assert found[first.der] == found[second.der] == {"CN=first", "CN=second"}


@pytest.mark.parametrize("text", ["", "\n"])
def test_no_authorities_have_no_ancestors(text: str) -> None:
    assert ancestors(text) == {}
