import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from router.certs import Authority, Pair, issue
from router.config import pem


def key_text(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, shape: str, password: bytes = b"") -> str:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = getattr(serialization.PrivateFormat, shape)
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


def test_a_chain_is_read_whole(authority: Authority, pair: Pair) -> None:
    assert len(pem.certificates(f"{pair.certificate}\n{authority.pair.certificate}")) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no certificate found"),
        ("rubbish", "no certificate found"),
        ("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n", "a certificate is damaged"),
        ("-----BEGIN CERTIFICATE-----\n", "a certificate is damaged"),
        ("\u2028ü", "no certificate found"),
    ],
)
def test_a_text_without_certificates_is_refused(text: str, reason: str) -> None:
    for reader in (pem.certificates, pem.check_authorities):
        with pytest.raises(pem.PemError, match=reason):
            reader(text)


def test_an_authority_is_taken(authority: Authority) -> None:
    assert pem.check_authorities(authority.pair.certificate)[0].subject == authority.certificate.subject


@pytest.mark.parametrize("rsa_key", [False, True])
def test_a_matching_key_pair_is_good_in_every_key_format(authority: Authority, rsa_key: bool) -> None:
    pair = issue(authority, ["a.example.com"], rsa_key=rsa_key)
    key = serialization.load_pem_private_key(pair.private_key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    for shape in ("PKCS8", "TraditionalOpenSSL"):
        pem.check_key_pair(pair.certificate + authority.pair.certificate, key_text(key, shape))


def test_a_foreign_key_is_refused(pair: Pair, other_pair: Pair) -> None:
    with pytest.raises(pem.PemError, match="private key does not match public key"):
        pem.check_key_pair(pair.certificate, other_pair.private_key)


def test_an_encrypted_key_is_refused_without_asking_for_its_password(pair: Pair) -> None:
    key = serialization.load_pem_private_key(pair.private_key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    for shape in ("PKCS8", "TraditionalOpenSSL"):
        with pytest.raises(pem.PemError, match="the private key is encrypted"):
            pem.check_key_pair(pair.certificate, key_text(key, shape, b"secret"))


@pytest.mark.parametrize("key", ["", "rubbish", "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n"])
def test_a_text_without_a_key_is_refused(pair: Pair, key: str) -> None:
    with pytest.raises(pem.PemError, match="no usable private key found"):
        pem.check_key_pair(pair.certificate, key)


def test_alternative_names_are_seen(authority: Authority, pair: Pair) -> None:
    assert pem.has_subject_alternative_name(pair.certificate)
    assert not pem.has_subject_alternative_name(authority.pair.certificate)


def test_lent_files_hold_both_texts_and_vanish() -> None:
    before = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()
    with pem.key_pair_files("chain", "key") as (chain, key):
        assert (Path(chain).read_text(), Path(key).read_text()) == ("chain", "key")
    after = set(os.listdir("/proc/self/fd")) if before else set()
    assert len(after) == len(before)


def test_lent_files_work_where_memory_files_do_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with pem.key_pair_files("chain", "key") as (chain, key):
        assert (Path(chain).read_text(), Path(key).read_text()) == ("chain", "key")
        assert Path(key).stat().st_mode & 0o077 == 0
    assert not Path(key).exists()
