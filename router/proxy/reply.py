"""Responses the router itself originates (GOROUTER.md §5.6, 5.7): statuses, router-error values, texts.

Byte-exact, because clients and log parsers know them. Owns what is said, not when.
"""

from dataclasses import dataclass, replace
from http import HTTPStatus

from router.backend.failure import WRONG_SWITCH, BackendFailure

NO_STORE = b"Cache-Control: no-cache, no-store"
SHORT_CACHE = b"Cache-Control: public,max-age=2"
_TEXT = b"Content-Type: text/plain; charset=utf-8"
_HTML = b"Content-Type: text/html; charset=utf-8"
_NOSNIFF = b"X-Content-Type-Options: nosniff"

REASONS: dict[int, bytes] = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    # Where Python's phrases differ from the ones Go has, or are missing there.
    413: b"Request Entity Too Large",
    414: b"Request URI Too Long",
    416: b"Requested Range Not Satisfiable",
    418: b"I'm a teapot",
    422: b"Unprocessable Entity",
    499: b"status code 499",
    525: b"status code 525",
    526: b"status code 526",
}
_BACKEND_TEXTS = {
    502: b"502 Bad Gateway: Registered endpoint failed to handle the request.\n",
    503: b"503 Service Unavailable\n",
    525: b"525 SSL Handshake Failed\n",
    526: b"526 Invalid SSL Certificate\n",
    496: b"496 SSL Certificate Required\n",
    499: b"499 Request Cancelled\n",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response.

    Attributes:
        router_error: value of X-Cf-RouterError, for the access log; empty if there is none.
        close: the client connection ends with this response.
        message: what went wrong, for an HTML error page; empty if this response never becomes one.
    """

    status: int
    lines: list[bytes]
    body: bytes
    router_error: bytes = b""
    close: bool = False
    message: bytes = b""


def reason(status: int) -> bytes:
    """Return the reason phrase of a status, as Go writes it."""
    return REASONS.get(status) or b"status code %d" % status


def error(status: int, router_error: bytes, message: bytes, cache: bytes | None = None) -> Reply:
    """Build ``CODE REASON: MESSAGE`` as Gorouter's error writer does."""
    lines = [_TEXT, _NOSNIFF]
    if router_error:
        lines.insert(0, b"X-Cf-Routererror: " + router_error)
    if cache is not None:
        lines.insert(0, cache)
    body = b"%d %b: %b\n" % (status, reason(status), message)
    return Reply(status, lines, body, router_error, message=message)


def as_page(plain: Reply, page: bytes) -> Reply:
    """Return the same answer as an HTML page (GOROUTER.md §5.6)."""
    lines = [_HTML if line == _TEXT else line for line in plain.lines]
    return replace(plain, lines=lines, body=page)


def unknown_route(host: bytes) -> Reply:
    return error(404, b"unknown_route", b"Requested route ('%b') does not exist." % host, NO_STORE)


def no_endpoints(host: bytes) -> Reply:
    return error(503, b"no_endpoints", b"Requested route ('%b') has no available endpoints." % host, SHORT_CACHE)


def connection_limit(host: bytes) -> Reply:
    return error(
        503, b"Connection Limit Reached", b"Requested route ('%b') has reached the connection limit." % host
    )


def route_services_disabled() -> Reply:
    return error(502, b"route_service_unsupported", b"Support for route services is disabled.")


def no_caller_identity() -> Reply:
    """Build the answer to a caller without an identity on a route that wants one (GOROUTER.md §9.5)."""
    return Reply(403, [], b"")


def caller_refused() -> Reply:
    """Build the answer to a caller that the route's policy does not name. It says nothing about the policy."""
    return error(403, b"", b"Access denied by route policy", NO_STORE)


def misdirected() -> Reply:
    """Build the answer to a Host that the client's certificate was not asked for (RFC 9110 §15.5.20)."""
    return Reply(421, [], b"")


def empty_host() -> Reply:
    return error(400, b"empty_host", b"Request had empty Host header", SHORT_CACHE)


def malformed_app_instance() -> Reply:
    return error(400, b"invalid_cf_app_instance_header", b"Invalid X-CF-App-Instance Header", NO_STORE)


def malformed_process_instance() -> Reply:
    return error(400, b"invalid_cf_process_instance_header", b"Invalid X-CF-Process-Instance Header", NO_STORE)


def unknown_app_instance(index: str, guid: str, host: bytes) -> Reply:
    text = f"Requested instance ('{index}') with guid ('{guid}') does not exist for route ('".encode()
    return error(400, b"unknown_route", text + host + b"')", NO_STORE)


def unknown_process_instance(index: str, guid: str, host: bytes) -> Reply:
    which = f" ('{index}')" if index else ""
    text = f"Requested instance{which} with process guid ('{guid}') does not exist for route ('".encode()
    return error(400, b"unknown_route", text + host + b"')", NO_STORE)


def request_too_large() -> Reply:
    name = b"max-request-size-exceeded"
    return Reply(431, [b"X-Cf-Routererror: " + name], b"", name, close=True)


def policy_denied(host: bytes, close: bool) -> Reply:
    """Build the answer to a container that may not reach a name, or to a name that is none.

    Args:
        close: the caller is unknown; nothing more is read from it.
    """
    denied = error(403, b"policy_denied", b"Requested route ('%b') is not allowed." % host, NO_STORE)
    return replace(denied, close=close)


def policies_not_ready() -> Reply:
    """Build the answer while it is not known who may reach what."""
    return error(503, b"policies_not_ready", b"Network policies are not known yet.", NO_STORE)


def backend_failure(failure: BackendFailure) -> Reply:
    """Build the plain one-liner that follows when no attempt succeeded."""
    if failure.kind is WRONG_SWITCH:
        return Reply(502, [], b"")
    text = failure.text.encode("latin-1", "replace").replace(b"\r", b" ").replace(b"\n", b" ")
    router_error = b"endpoint_failure (%b)" % text
    status = failure.kind.status
    lines = [b"X-Cf-Routererror: " + router_error, _TEXT, _NOSNIFF]
    return Reply(status, lines, _BACKEND_TEXTS[status], router_error)


def health(healthy: bool) -> Reply:
    """Build the answer to a load balancer's health check by user agent (GOROUTER.md §5.10)."""
    lines = [b"Cache-Control: private, max-age=0", b"Expires: 0"]
    if healthy:
        return Reply(200, lines, b"ok\n")
    return Reply(503, lines, b"")


def unknown_failure() -> Reply:
    """Build the answer to a request during which the router itself failed (GOROUTER.md §1.7)."""
    return Reply(502, [b"X-Cf-Routererror: unknown_failure"], b"", b"unknown_failure", close=True)


_SPOKEN_REASONS = frozenset(
    {
        "missing required Host header",
        "too many Host headers",
        "malformed Host header",
        "unsupported protocol version",
    }
)


def bad_request(status: int, cause: str) -> Reply:
    """Build the answer to a message that is not HTTP as we accept it.

    Only the causes that Gorouter tells its clients are told; the others say the status alone, and 417 has no body.
    """
    if status == 417:
        return Reply(status, [], b"", close=True)
    if status == 501:
        return refusal(status, cause.encode())
    text = b"%d %b" % (status, reason(status))
    if cause in _SPOKEN_REASONS:
        text += b": " + cause.encode()
    return refusal(status, text)


def refusal(status: int, text: bytes) -> Reply:
    """Build the answer to what never became a request (GOROUTER.md §5.1)."""
    return Reply(status, [_TEXT], text, close=True)
