import os

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from router.certs import issue, make_ca
from router.control.client_tls import ClientTlsError, client_context

AUTHORITY = make_ca()
CA = AUTHORITY.pair.certificate
OTHER_KEY = issue(AUTHORITY, ["other"]).private_key
PAIR = issue(AUTHORITY, ["router"], client=True, server=False)
ENCRYPTED = (
    load_pem_private_key(PAIR.private_key.encode(), None)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    .decode()
)


def test_context_checks_names_and_leaves_no_descriptor_open() -> None:
    before = os.listdir("/proc/self/fd")
    context = client_context(CA, *PAIR)

    assert context.check_hostname
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("", *PAIR), "^ca_certs: "),
        (("rubbish", *PAIR), "^ca_certs: "),
        ((CA, "rubbish", PAIR.private_key), "^cert_chain and private_key: "),
        ((CA, PAIR.certificate, OTHER_KEY), "^cert_chain and private_key: .*mismatch"),
        ((CA, PAIR.certificate, ENCRYPTED), "encrypted"),
    ],
)
def test_what_cannot_be_used_is_an_error_that_names_the_setting(texts: tuple[str, str, str], message: str) -> None:
    with pytest.raises(ClientTlsError, match=message):
        client_context(*texts)
