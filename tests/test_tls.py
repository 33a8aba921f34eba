import ssl
from pathlib import Path
from typing import Any

import pytest

from router.certs import Authority, Pair, issue, make_ca
from router.config.schema import Config
from router.config.sections import Backends, KeyPair
from router.tls import TlsError, backend_context, frontend_context
from tests.support.certificates import client_context, shake_hands


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


def config(*pairs: Pair, **keys: Any) -> Config:
    pem = [KeyPair(cert_chain=pair.certificate, private_key=pair.private_key) for pair in pairs]
    return Config(tls_pem=pem, **({"max_tls_version": "TLSv1.3"} | keys))


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """Shake hands in memory; return the client's side. Raises `ssl.SSLError`."""
    return shake_hands(server, client, name)[1]


def names_shown(server: ssl.SSLContext, authority: Authority, name: str | None, ciphers: str = "") -> set[str]:
    client = client_context(authority)
    client.check_hostname = False
    if ciphers:
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers(ciphers)
    shown = handshake(server, client, name).getpeercert()
    assert shown is not None
    return {str(each[1]) for each in shown["subjectAltName"] if each[0] == "DNS"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.test", {"a.test"}),
        ("A.Test", {"a.test"}),
        ("b.wild.test", {"*.wild.test"}),
        ("exact.wild.test", {"exact.wild.test"}),
        ("c.b.wild.test", {"first.test"}),
        ("wild.test", {"first.test"}),
        ("unknown.test", {"first.test"}),
        (None, {"first.test"}),
    ],
)
def test_certificate_is_chosen_by_the_clients_server_name(
    authority: Authority, name: str | None, shown: set[str]
) -> None:
    pairs = [issue(authority, [each]) for each in ("first.test", "a.test", "*.wild.test", "exact.wild.test")]

    assert names_shown(frontend_context(config(*pairs)), authority, name) == shown


def test_first_certificate_that_the_client_can_verify_is_shown(authority: Authority) -> None:
    pairs = issue(authority, ["ecdsa.test"]), issue(authority, ["rsa.test"], rsa_key=True)
    server = frontend_context(config(*pairs))

    assert names_shown(server, authority, None, "ECDHE-RSA-AES128-GCM-SHA256") == {"rsa.test"}
    assert names_shown(server, authority, None, "ECDHE-ECDSA-AES128-GCM-SHA256") == {"ecdsa.test"}


@pytest.mark.parametrize("first", ["ecdsa", "rsa"])
def test_first_certificate_is_shown_whatever_suite_is_listed_first(authority: Authority, first: str) -> None:
    kinds = sorted(("ecdsa", "rsa"), key=lambda kind: kind != first)
    pairs = [issue(authority, [f"{kind}.test"], rsa_key=kind == "rsa") for kind in kinds]
    both = ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"]
    for suites in (both, both[::-1]):
        server = frontend_context(config(*pairs, cipher_suites=suites))

        assert names_shown(server, authority, None, ":".join(both)) == {f"{first}.test"}


def test_name_on_certificates_of_two_kinds_suits_both_kinds_of_client(authority: Authority) -> None:
    pairs = [issue(authority, ["other.test"])]
    pairs += [issue(authority, ["both.test", kind], rsa_key=kind == "rsa") for kind in ("ecdsa", "rsa")]
    server = frontend_context(config(*pairs))

    assert "rsa" in names_shown(server, authority, "both.test", "ECDHE-RSA-AES128-GCM-SHA256")
    assert "ecdsa" in names_shown(server, authority, "both.test", "ECDHE-ECDSA-AES128-GCM-SHA256")


@pytest.mark.parametrize(
    ("lowest", "highest", "client", "version"),
    [
        ("", "", ssl.TLSVersion.TLSv1_3, "TLSv1.2"),
        ("TLSv1.2", "TLSv1.3", ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ("TLSv1.3", "TLSv1.3", ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
    ],
)
def test_highest_common_version_is_spoken(
    authority: Authority, lowest: str, highest: str, client: ssl.TLSVersion, version: str
) -> None:
    server = frontend_context(config(issue(authority, ["a"]), min_tls_version=lowest, max_tls_version=highest))

    assert handshake(server, client_context(authority), "a").version() == version


def test_client_that_knows_only_older_versions_is_refused(authority: Authority) -> None:
    server = frontend_context(config(issue(authority, ["a"]), min_tls_version="TLSv1.3"))
    client = client_context(authority)
    client.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises(ssl.SSLError):
        handshake(server, client, "a")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_0_works_when_it_is_asked_for(authority: Authority) -> None:
    server = frontend_context(config(issue(authority, ["a"], rsa_key=True), min_tls_version="TLSv1.0"))
    client = client_context(authority)
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1
    client.set_ciphers("DEFAULT:@SECLEVEL=0")

    assert handshake(server, client, "a").version() == "TLSv1"


@pytest.mark.parametrize(("enabled", "chosen"), [(True, "h2"), (False, "http/1.1")])
def test_http_2_is_negotiated_unless_it_is_switched_off(authority: Authority, enabled: bool, chosen: str) -> None:
    client = client_context(authority)
    client.set_alpn_protocols(["http/1.1", "h2"])
    server = frontend_context(config(issue(authority, ["a"]), enable_http2=enabled))

    assert handshake(server, client, "a").selected_alpn_protocol() == chosen


def test_suites_are_those_configured(authority: Authority) -> None:
    pair = issue(authority, ["a"], rsa_key=True)
    pem = [KeyPair(cert_chain=pair.certificate, private_key=pair.private_key)]
    server = frontend_context(Config(tls_pem=pem, cipher_suites=["ECDHE-RSA-AES256-GCM-SHA384"]))

    cipher = handshake(server, client_context(authority), "a").cipher()
    assert cipher is not None
    assert cipher[0] == "ECDHE-RSA-AES256-GCM-SHA384"


def test_what_cannot_be_used_is_named(authority: Authority) -> None:
    good, other = issue(authority, ["a"]), issue(authority, ["b"])
    mixed = Pair(other.certificate, good.private_key)
    pem = KeyPair(cert_chain=good.certificate, private_key=good.private_key)
    for wrong, name in (
        (Config(), "tls_pem: no certificate"),
        (config(good, mixed), r"tls_pem\[1\]: "),
        (config(good, Pair("no PEM", good.private_key)), r"tls_pem\[1\]: "),
        (config(good, Pair(other.certificate, "no PEM")), r"tls_pem\[1\]: "),
        (Config(tls_pem=[pem], cipher_suites=["UNKNOWN"]), "cipher_suites: none of UNKNOWN"),
    ):
        with pytest.raises(TlsError, match=name):
            frontend_context(wrong)


def test_unusable_settings_for_endpoints_are_named(authority: Authority) -> None:
    good, other = issue(authority, ["a"]), issue(authority, ["b"])
    backends = Backends(cert_chain=good.certificate, private_key=other.private_key)

    with pytest.raises(TlsError, match=r"ca_certs\[1\]: "):
        backend_context(Config(ca_certs=[authority.pair.certificate, "no PEM"]))
    with pytest.raises(TlsError, match="backends: "):
        backend_context(Config(backends=backends))


def test_encrypted_key_is_refused_without_asking_for_a_password(authority: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    pair = issue(authority, ["a"])
    key = serialization.load_pem_private_key(pair.private_key.encode(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pw")
    ).decode()

    with pytest.raises(TlsError, match=r"tls_pem\[0\]"):
        frontend_context(config(Pair(pair.certificate, encrypted)))
