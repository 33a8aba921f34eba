"""Contexts of the HTTP APIs, tried by handshakes in memory."""

import ssl
from pathlib import Path

import pytest

from router.certs import Pair, issue, make_ca
from router.control.internal.server_tls import server_context
from router.tls import TlsError
from tests.support.certificates import client_context, shake_hands

CA, OTHER_CA = make_ca("agents"), make_ca("others")
RSA, EC = issue(CA, ["localhost"], rsa_key=True), issue(CA, ["localhost"])
CLIENT = issue(CA, ["agent"], client=True, server=False)
STRANGER = issue(OTHER_CA, ["agent"], client=True, server=False)


def mutual(pair: Pair = RSA) -> ssl.SSLContext:
    return server_context("key", pair.certificate, pair.private_key, client_ca=CA.pair.certificate)


def agent(directory: Path, identity: Pair | None = CLIENT) -> ssl.SSLContext:
    return client_context(CA, identity=identity, directory=directory)


def test_client_with_a_certificate_of_the_ca_is_let_in(tmp_path: Path) -> None:
    assert shake_hands(mutual(), agent(tmp_path), "localhost")[1].version() == "TLSv1.3"


@pytest.mark.parametrize("identity", [None, STRANGER])
def test_other_clients_are_not_let_in(tmp_path: Path, identity: Pair | None) -> None:
    with pytest.raises(ssl.SSLError):
        shake_hands(mutual(), agent(tmp_path, identity), "localhost")


@pytest.mark.parametrize(
    ("pair", "suite"), [(RSA, "ECDHE-RSA-AES128-GCM-SHA256"), (EC, "ECDHE-ECDSA-AES128-GCM-SHA256")]
)
def test_tls_1_2_has_one_suite_for_each_kind_of_key(tmp_path: Path, pair: Pair, suite: str) -> None:
    client = agent(tmp_path)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    found = shake_hands(mutual(pair), client, "localhost")[1].cipher()
    assert found is not None
    assert found[0] == suite


def test_without_a_client_ca_anybody_is_let_in(tmp_path: Path) -> None:
    server = server_context("key", EC.certificate, EC.private_key)
    assert shake_hands(server, agent(tmp_path, None), "localhost")[1].version() == "TLSv1.3"


@pytest.mark.parametrize(
    ("chain", "key", "ca"),
    [
        ("nonsense", RSA.private_key, ""),
        (RSA.certificate, "nonsense", ""),
        (RSA.certificate, EC.private_key, ""),
        ("", "", ""),
        (RSA.certificate, RSA.private_key, "nonsense"),
    ],
)
def test_what_cannot_be_used_is_an_error_naming_its_key(chain: str, key: str, ca: str) -> None:
    with pytest.raises(TlsError, match=r"^internal\.x: \S"):
        server_context("internal.x", chain, key, client_ca=ca)
