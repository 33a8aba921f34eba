"""The router's own answers in the terms of gRPC."""

import pytest

from router.proxy import grpc, reply
from router.wire.http1 import parse_request_head


@pytest.mark.parametrize(
    ("kind", "is_call"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("Application/GRPC; charset=x", True),
        ("application/grpc-web", False),
        ("application/json", False),
    ],
)
def test_calls_are_known_by_their_content_type(kind: str, is_call: bool) -> None:
    head = parse_request_head(f"POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}".encode())
    assert grpc.is_call(head) is is_call


def test_requests_without_a_content_type_are_no_calls() -> None:
    assert not grpc.is_call(parse_request_head(b"POST /a HTTP/1.1\r\nHost: a"))


@pytest.mark.parametrize(
    ("status", "code"), [(400, b"13"), (403, b"7"), (404, b"12"), (502, b"14"), (503, b"14"), (431, b"2")]
)
def test_status_is_what_grpc_makes_of_the_http_status(status: int, code: bytes) -> None:
    answer = grpc.as_trailers_only(reply.error(status, b"cause", b"Why."))
    assert answer.status == status
    assert b"Grpc-Status: " + code in answer.lines
    assert b"X-Cf-Routererror: cause" in answer.lines


def test_everything_is_in_the_head() -> None:
    answer = grpc.as_trailers_only(reply.unknown_route(b"a.test"))
    assert answer.body == b""
    assert b"Grpc-Message: 404 Not Found: Requested route ('a.test') does not exist." in answer.lines
    assert [line for line in answer.lines if line.lower().startswith(b"content-type")] == [
        b"Content-Type: application/grpc"
    ]


def test_message_is_percent_encoded() -> None:
    answer = grpc.as_trailers_only(reply.Reply(502, [], b"50%\nof \xc3\xa4\n"))
    assert b"Grpc-Message: 50%25%0Aof %C3%A4" in answer.lines


def test_answer_without_a_text_has_no_message() -> None:
    answer = grpc.as_trailers_only(reply.Reply(502, [], b""))
    assert not [line for line in answer.lines if line.startswith(b"Grpc-Message")]
