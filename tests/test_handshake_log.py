"""Which failed handshakes operators hear of, and how often."""

import json
import ssl
from typing import Any

import pytest

from router.handshake_log import HandshakeLog
from router.log import DEBUG, INFO, Logger
from router.tls_stream import CertificateRefused


def told(level: int, errors: list[BaseException]) -> list[dict[str, Any]]:
    lines: list[bytes] = []
    log = HandshakeLog(Logger(level=level, sink=lines.append), clock=lambda: 0.0)
    for error in errors:
        log.failed(("10.0.0.1", 5), "app.test", error)
    return [json.loads(line) for line in lines]


def without_certificate() -> ssl.SSLError:
    return ssl.SSLError(1, "[SSL: PEER_DID_NOT_RETURN_A_CERTIFICATE] peer did not return a certificate")


@pytest.mark.parametrize(
    "error",
    [ssl.SSLCertVerificationError("self-signed"), CertificateRefused("no rule allows it"), without_certificate()],
)
def test_refused_certificate_is_told_with_whose_it_was(error: ssl.SSLError) -> None:
    (line,) = told(INFO, [error])
    assert line["message"] == "client-certificate-refused"
    assert line["data"] == {
        "client": "10.0.0.1:5",
        "server_name": "app.test",
        "error": str(error),
        "suppressed": 0,
    }


@pytest.mark.parametrize("error", [ssl.SSLError("no shared cipher"), ConnectionResetError("reset")])
def test_other_failures_are_for_debugging(error: Exception) -> None:
    assert told(INFO, [error]) == []
    (line,) = told(DEBUG, [error])
    assert line["message"] == "tls-handshake-failed"


def test_who_shows_bad_certificates_without_end_does_not_fill_the_log() -> None:
    assert len(told(INFO, [CertificateRefused("again")] * 1000)) == 20


@pytest.mark.parametrize(
    ("client", "address"),
    [(("2001:db8::1", 5), "[2001:db8::1]:5"), (("::ffff:10.0.0.1", 5), "10.0.0.1:5"), (None, "")],
)
def test_client_is_told_as_in_the_access_log(client: tuple[str, int] | None, address: str) -> None:
    lines: list[bytes] = []
    HandshakeLog(Logger(level=DEBUG, sink=lines.append)).failed(client, "", ConnectionResetError())
    assert json.loads(lines[0])["data"]["client"] == address
