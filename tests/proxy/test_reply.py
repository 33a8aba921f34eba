"""The router's own responses, byte by byte as Gorouter's."""

import pytest

import router.backend.failure as failures
from router.backend.failure import BackendFailure, FailureClass
from router.proxy import reply
from router.proxy.reply import Reply

TEXT = [b"Content-Type: text/plain; charset=utf-8", b"X-Content-Type-Options: nosniff"]


@pytest.mark.parametrize(
    ("made", "status", "router_error", "body", "cache"),
    [
        (
            reply.unknown_route(b"a.test:80"),
            404,
            b"unknown_route",
            b"404 Not Found: Requested route ('a.test:80') does not exist.\n",
            b"Cache-Control: no-cache, no-store",
        ),
        (
            reply.no_endpoints(b"a.test"),
            503,
            b"no_endpoints",
            b"503 Service Unavailable: Requested route ('a.test') has no available endpoints.\n",
            b"Cache-Control: public,max-age=2",
        ),
        (
            reply.connection_limit(b"a.test"),
            503,
            b"Connection Limit Reached",
            b"503 Service Unavailable: Requested route ('a.test') has reached the connection limit.\n",
            None,
        ),
        (
            reply.empty_host(),
            400,
            b"empty_host",
            b"400 Bad Request: Request had empty Host header\n",
            b"Cache-Control: public,max-age=2",
        ),
    ],
    ids=lambda value: value.router_error.decode() if isinstance(value, Reply) else "",
)
def test_error_reply(made: Reply, status: int, router_error: bytes, body: bytes, cache: bytes | None) -> None:
    assert (made.status, made.router_error, made.body, made.close) == (status, router_error, body, False)
    assert made.lines == [*([cache] if cache else []), b"X-Cf-Routererror: " + router_error, *TEXT]


def test_too_large_request_gets_an_empty_reply_and_is_the_last() -> None:
    made = reply.request_too_large()

    assert (made.status, made.body, made.close) == (431, b"", True)
    assert made.lines == [b"X-Cf-Routererror: max-request-size-exceeded"]


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        (failures.DIAL, 502, b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"),
        (failures.NAME_MISMATCH, 503, b"503 Service Unavailable\n"),
        (failures.NOT_TLS, 525, b"525 SSL Handshake Failed\n"),
        (failures.UNTRUSTED, 526, b"526 Invalid SSL Certificate\n"),
        (failures.CLIENT_CERT_REFUSED, 496, b"496 SSL Certificate Required\n"),
        (failures.CANCELLED, 499, b"499 Request Cancelled\n"),
    ],
)
def test_failure_of_an_endpoint_is_told_in_one_line(kind: FailureClass, status: int, body: bytes) -> None:
    made = reply.backend_failure(BackendFailure(kind, "what happened"))

    assert (made.status, made.body) == (status, body)
    assert made.lines == [b"X-Cf-Routererror: endpoint_failure (what happened)", *TEXT]
    assert made.router_error == b"endpoint_failure (what happened)"


def test_every_failure_class_has_a_reply() -> None:
    for kind in vars(failures).values():
        if isinstance(kind, FailureClass):
            assert reply.backend_failure(BackendFailure(kind, "")).status == kind.status


def test_wrong_protocol_switch_is_answered_without_a_word() -> None:
    assert reply.backend_failure(BackendFailure(failures.WRONG_SWITCH, "x")) == Reply(502, [], b"")


def test_text_of_a_failure_cannot_add_header_lines() -> None:
    made = reply.backend_failure(BackendFailure(failures.DIAL, "a\r\nSet-Cookie: b\u20ac"))

    assert made.lines[0] == b"X-Cf-Routererror: endpoint_failure (a  Set-Cookie: b?)"


def test_health_check_is_answered_by_health() -> None:
    lines = [b"Cache-Control: private, max-age=0", b"Expires: 0"]

    assert reply.health(True) == Reply(200, lines, b"ok\n")
    assert reply.health(False) == Reply(503, lines, b"")


def test_failure_of_the_router_itself_ends_the_connection() -> None:
    made = reply.unknown_failure()

    assert (made.status, made.body, made.close) == (502, b"", True)
    assert made.lines == [b"X-Cf-Routererror: unknown_failure"]


@pytest.mark.parametrize(
    ("status", "cause", "body"),
    [
        (400, "missing required Host header", b"400 Bad Request: missing required Host header"),
        (400, "malformed header line", b"400 Bad Request"),
        (400, "invalid URL escape", b"400 Bad Request"),
        (505, "unsupported protocol version", b"505 HTTP Version Not Supported: unsupported protocol version"),
        (501, "Unsupported transfer encoding", b"Unsupported transfer encoding"),
        (431, "Request Header Fields Too Large", b"431 Request Header Fields Too Large"),
        (408, "request head not complete in time", b"408 Request Timeout"),
    ],
)
def test_bad_request_is_told_no_more_than_gorouter_tells(status: int, cause: str, body: bytes) -> None:
    made = reply.bad_request(status, cause)

    assert (made.status, made.body, made.close, made.router_error) == (status, body, True, b"")
    assert made.lines == TEXT[:1]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, b"OK"),
        (413, b"Request Entity Too Large"),
        (414, b"Request URI Too Long"),
        (418, b"I'm a teapot"),
        (422, b"Unprocessable Entity"),
        (499, b"status code 499"),
        (526, b"status code 526"),
        (999, b"status code 999"),
    ],
)
def test_reason_phrases_are_those_of_go(status: int, reason: bytes) -> None:
    assert reply.reason(status) == reason
