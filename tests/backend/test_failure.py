import errno
import socket
import ssl

import pytest

import router.backend.failure as failures
from router.backend.failure import FailureClass, of_dial, of_lost, of_tls


def ssl_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def certificate_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
            "dial tcp a:80: connect: connection refused",
        ),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "dial tcp a:80: connect: no route to host"),
        (TimeoutError(), "dial tcp a:80: i/o timeout"),
        (socket.gaierror(-2, "Name or service not known"), "dial tcp a:80: [Errno -2] Name or service not known"),
        (OSError("several errors"), "dial tcp a:80: several errors"),
        (OSError(), "dial tcp a:80: OSError"),
    ],
)
def test_connecting_that_fails_may_always_be_repeated(error: OSError, text: str) -> None:
    failure = of_dial(error, "a:80")

    assert (failure.kind, failure.text) == (failures.DIAL, text)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (certificate_error(62, "Hostname mismatch"), failures.NAME_MISMATCH),
        (certificate_error(64, "IP address mismatch"), failures.NAME_MISMATCH),
        (certificate_error(10, "certificate has expired"), failures.UNTRUSTED),
        (certificate_error(20, "unable to get local issuer certificate"), failures.UNTRUSTED),
        (TimeoutError(), failures.HANDSHAKE_TIMEOUT),
        (ssl_error("SSLV3_ALERT_BAD_CERTIFICATE"), failures.CLIENT_CERT_REFUSED),
        (ssl_error("TLSV1_ALERT_UNKNOWN_CA"), failures.CLIENT_CERT_REFUSED),
        (ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), failures.CLIENT_CERT_REFUSED),
        (ssl_error("WRONG_VERSION_NUMBER"), failures.NOT_TLS),
        (ssl_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), failures.HANDSHAKE_ALERT),
        (ssl_error("TLSV1_ALERT_PROTOCOL_VERSION"), failures.HANDSHAKE_FAILED_OTHERWISE),
        (ssl_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), failures.HANDSHAKE_FAILED_OTHERWISE),
        (ssl_error("UNSUPPORTED_PROTOCOL"), failures.HANDSHAKE_FAILED_OTHERWISE),
        (ssl.SSLError("no reason"), failures.HANDSHAKE_FAILED_OTHERWISE),
        (ConnectionResetError(), failures.HANDSHAKE_RESET),
        (ConnectionAbortedError("closed during the TLS handshake"), failures.HANDSHAKE_EOF),
    ],
)
def test_handshakes_fail_by_class(error: BaseException, kind: FailureClass) -> None:
    assert of_tls(error).kind is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, failures.EOF),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), failures.RESET),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), failures.RESET),
        (OSError(errno.ETIMEDOUT, "Connection timed out"), failures.RESET),
        (ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), failures.CLIENT_CERT_REFUSED),
        (RuntimeError(), failures.EOF),
    ],
)
def test_lost_connections_fail_by_class(error: Exception | None, kind: FailureClass) -> None:
    assert of_lost(error).kind is kind


@pytest.mark.parametrize(
    "reason", ["DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "TLSV1_ALERT_INTERNAL_ERROR", "WRONG_VERSION_NUMBER"]
)
def test_tls_that_breaks_after_its_handshake_is_never_a_reason_to_repeat(reason: str) -> None:
    failure = of_lost(ssl_error(reason))

    assert (failure.kind.retry, failure.kind.status) == (failures.NEVER, 502)


def test_only_failures_before_a_request_could_be_read_are_always_repeated() -> None:
    always = {
        each.name
        for each in vars(failures).values()
        if isinstance(each, FailureClass) and each.retry == failures.ALWAYS
    }

    assert always == {
        "client-certificate-refused",
        "dial",
        "handshake",
        "handshake-alert",
        "handshake-eof",
        "handshake-reset",
        "handshake-timeout",
        "name-mismatch",
        "not-http2",
        "not-tls",
        "refused-stream",
        "timeout-while-connecting",
        "untrusted-certificate",
    }


def test_tls_endpoints_are_removed_for_what_would_only_mark_plain_ones() -> None:
    for kind in (failures.DIAL, failures.CONNECT_TIMEOUT):
        assert (kind.plain, kind.tls) == (failures.MARK, failures.REMOVE)


def test_text_says_what_alert_the_peer_sent() -> None:
    assert of_tls(ssl_error("TLSV1_ALERT_UNKNOWN_CA")).text == "remote error: tls: unknown ca"
    assert of_tls(ssl_error("TLSV1_ALERT_PROTOCOL_VERSION")).text == "remote error: tls: protocol version"
    assert of_tls(ssl_error("UNSUPPORTED_PROTOCOL")).text == "tls: unsupported protocol"
