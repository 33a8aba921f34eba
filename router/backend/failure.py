"""What can go wrong between the router and an endpoint, and what follows from it.

Owns the one table that decides retry, marking, removal and status (GOROUTER.md §5.7, 6.4), and the translation of
exceptions into its rows; does not act on them.
"""

import errno
import os
import ssl
from dataclasses import dataclass

NEVER, IF_IDEMPOTENT, ALWAYS = range(3)
"""May the attempt be repeated? IF_IDEMPOTENT asks for a method without effects and no body sent."""

NOTHING, MARK, REMOVE = range(3)
"""What happens to the endpoint: nothing, a mark that makes round-robin avoid it, removal from the pool."""


@dataclass(frozen=True, slots=True)
class FailureClass:
    """One row: how an attempt failed and what follows."""

    name: str
    retry: int
    plain: int
    """Effect on an endpoint without TLS."""
    tls: int
    """Effect on a TLS endpoint: those never age out, so what cannot be connected to has to go at once."""
    status: int
    counter: str = ""


BAD_GATEWAYS = "bad_gateways"
INVALID_CERT = "backend_invalid_tls_cert"
HANDSHAKE_FAILED = "backend_tls_handshake_failed"

DIAL = FailureClass("dial", ALWAYS, MARK, REMOVE, 502, BAD_GATEWAYS)
NOT_TLS = FailureClass("not-tls", ALWAYS, NOTHING, REMOVE, 525, HANDSHAKE_FAILED)
HANDSHAKE_ALERT = FailureClass("handshake-alert", ALWAYS, NOTHING, REMOVE, 525, HANDSHAKE_FAILED)
HANDSHAKE_FAILED_OTHERWISE = FailureClass("handshake", ALWAYS, NOTHING, NOTHING, 502, BAD_GATEWAYS)
HANDSHAKE_TIMEOUT = FailureClass("handshake-timeout", ALWAYS, NOTHING, REMOVE, 502, BAD_GATEWAYS)
EXHAUSTED = FailureClass("own-resources-exhausted", NEVER, NOTHING, NOTHING, 502, BAD_GATEWAYS)
HANDSHAKE_RESET = FailureClass("handshake-reset", ALWAYS, MARK, MARK, 502, BAD_GATEWAYS)
HANDSHAKE_EOF = FailureClass("handshake-eof", ALWAYS, NOTHING, NOTHING, 502, BAD_GATEWAYS)
NAME_MISMATCH = FailureClass("name-mismatch", ALWAYS, NOTHING, REMOVE, 503, "backend_invalid_id")
UNTRUSTED = FailureClass("untrusted-certificate", ALWAYS, NOTHING, REMOVE, 526, INVALID_CERT)
CLIENT_CERT_REFUSED = FailureClass("client-certificate-refused", ALWAYS, NOTHING, REMOVE, 496)
RESET = FailureClass("reset", NEVER, MARK, MARK, 502, BAD_GATEWAYS)
EOF = FailureClass("eof", IF_IDEMPOTENT, NOTHING, NOTHING, 502, BAD_GATEWAYS)
TIMEOUT = FailureClass("timeout", NEVER, NOTHING, NOTHING, 502, BAD_GATEWAYS)
CONNECT_TIMEOUT = FailureClass("timeout-while-connecting", ALWAYS, MARK, REMOVE, 502, BAD_GATEWAYS)
PROTOCOL = FailureClass("protocol", NEVER, NOTHING, NOTHING, 502, BAD_GATEWAYS)
NOT_HTTP2 = FailureClass("not-http2", ALWAYS, MARK, MARK, 502, BAD_GATEWAYS)
REFUSED = FailureClass("refused-stream", ALWAYS, NOTHING, NOTHING, 502, BAD_GATEWAYS)
"""The backend says that it has not looked at the request (RFC 9113 §8.7): as if there had been no attempt."""
STREAM_RESET = FailureClass("stream-reset", NEVER, NOTHING, NOTHING, 502, BAD_GATEWAYS)
WRONG_SWITCH = FailureClass("wrong-protocol-switch", NEVER, NOTHING, NOTHING, 502)
NO_ENDPOINT = FailureClass("no-endpoint", NEVER, NOTHING, NOTHING, 502, BAD_GATEWAYS)
CANCELLED = FailureClass("cancelled", NEVER, NOTHING, NOTHING, 499)


class BackendFailure(Exception):
    """An attempt failed.

    Attributes:
        kind: the row of the table.
        text: what happened, for ``X-Cf-RouterError: endpoint_failure (text)`` and the log.
    """

    def __init__(self, kind: FailureClass, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


_NAME_ERRORS = {62, 63, 64}
"""X509_V_ERR_HOSTNAME_MISMATCH, …_EMAIL_…, …_IP_ADDRESS_MISMATCH of OpenSSL's x509_vfy.h."""

_OUR_FAULT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
"""The router has run out of something: no endpoint is to blame for that."""

_REFUSED_ALERTS = (
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNKNOWN_CA",
    "ALERT_CERTIFICATE_REQUIRED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_NO_CERTIFICATE",
)
_NOT_TLS_REASONS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNEXPECTED_MESSAGE",
    "UNKNOWN_PROTOCOL",
    "RECORD_LAYER",
)


def of_dial(error: OSError, address: str) -> BackendFailure:
    """Classify what connecting raised."""
    if error.errno in _OUR_FAULT:
        return BackendFailure(EXHAUSTED, f"dial tcp {address}: {_os_text('socket', error)}")
    if isinstance(error, TimeoutError):
        return BackendFailure(DIAL, f"dial tcp {address}: i/o timeout")
    return BackendFailure(DIAL, f"dial tcp {address}: {_os_text('connect', error)}")


def of_tls(error: BaseException) -> BackendFailure:
    """Classify what a TLS handshake with a backend raised, or what a TLS connection died of."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NAME_ERRORS:
            return BackendFailure(NAME_MISMATCH, f"x509: {error.verify_message}")
        return BackendFailure(UNTRUSTED, f"x509: {error.verify_message}")
    if isinstance(error, TimeoutError):
        return BackendFailure(HANDSHAKE_TIMEOUT, "net/http: TLS handshake timeout")
    if isinstance(error, ssl.SSLError):
        # Errors raised by Python code have no such attribute.
        reason = getattr(error, "reason", None) or "unknown reason"
        if any(alert in reason for alert in _REFUSED_ALERTS):
            return BackendFailure(CLIENT_CERT_REFUSED, f"remote error: tls: {_alert_text(reason)}")
        if "ALERT" not in reason and any(sign in reason for sign in _NOT_TLS_REASONS):
            return BackendFailure(NOT_TLS, "tls: first record does not look like a TLS handshake")
        if "ALERT" not in reason:
            return BackendFailure(HANDSHAKE_FAILED_OTHERWISE, f"tls: {_alert_text(reason)}")
        kind = HANDSHAKE_ALERT if "ALERT_HANDSHAKE_FAILURE" in reason else HANDSHAKE_FAILED_OTHERWISE
        return BackendFailure(kind, f"remote error: tls: {_alert_text(reason)}")
    if isinstance(error, ConnectionResetError):
        return BackendFailure(HANDSHAKE_RESET, "tls: connection reset by peer")
    return BackendFailure(HANDSHAKE_EOF, "EOF")


def of_lost(error: Exception | None) -> BackendFailure:
    """Classify the loss of a connection that a response was awaited on."""
    if isinstance(error, ssl.SSLError):
        failure = of_tls(error)
        # TLS 1.3 servers judge the client's certificate after its handshake, before they read a request. Whatever
        # else goes wrong then may do so after the request was acted on.
        return failure if failure.kind is CLIENT_CERT_REFUSED else BackendFailure(PROTOCOL, failure.text)
    if isinstance(error, OSError):
        return BackendFailure(RESET, _os_text("read", error))
    return BackendFailure(EOF, "EOF")


def _alert_text(reason: str) -> str:
    return reason.rpartition("ALERT_")[2].replace("_", " ").lower()


def _os_text(call: str, error: OSError) -> str:
    """Say it as Go does, whose words are the C library's in lower case: that is what operators search logs for."""
    if error.errno is not None and error.errno in errno.errorcode:
        return f"{call}: {os.strerror(error.errno).lower()}"
    return str(error) or type(error).__name__
