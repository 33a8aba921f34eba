"""What operators read about attempts that failed, of a data plane on real sockets."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.proxy.conftest import StartPlane
from tests.support.plane import RunningPlane
from tests.support.ports import free_port
from tests.support.recorder import Conversation, RecordingBackend
from tests.support.waiting import wait_until

HOST = "app.test"


def data(plane: RunningPlane, message: str) -> list[dict[str, Any]]:
    return [line["data"] for line in plane.log if line["message"] == message]


def ask(plane: RunningPlane) -> int:
    with plane.client() as client:
        return client.get(host=HOST).status


def keep_waiting(conversation: Conversation) -> None:
    """Read a request and answer nothing until the client has gone."""
    conversation.read_request()
    conversation.socket.recv(1)


def hang_up(conversation: Conversation) -> None:
    conversation.read_request()


def test_failed_attempt_is_told_with_its_endpoint_and_its_connection(start_plane: StartPlane) -> None:
    plane = start_plane()
    with RecordingBackend(hang_up) as backend:
        plane.route(HOST, backend)
        assert ask(plane) == 502

    [line] = data(plane, "backend-endpoint-failed")
    assert line["error"] == "EOF"
    assert (line["attempt"], line["num-endpoints"], line["retriable"]) == (1, 1, True)
    assert (line["got-connection"], line["wrote-headers"], line["conn-reused"]) == (True, True, False)
    assert line["dial-time"] > 0
    assert (line["dns-lookup-time"], line["tls-handshake-time"]) == (0, 0)
    assert line["local-address"].startswith("127.0.0.1:")
    assert line["route-endpoint"]["Addr"] == line["backend"]
    assert set(line["route-endpoint"]) == {"ApplicationId", "Addr", "Tags", "RouteServiceUrl", "AZ"}
    assert data(plane, "backend-request-timeout") == []


def hang_up_in_the_middle(conversation: Conversation) -> None:
    conversation.read_request()
    conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")


@pytest.mark.parametrize(
    ("backend", "method"), [(hang_up, "POST"), (hang_up_in_the_middle, "GET")], ids=["not idempotent", "begun"]
)
def test_what_cannot_be_sent_again_is_not_called_retriable(
    start_plane: StartPlane, backend: Callable[[Conversation], None], method: str
) -> None:
    plane = start_plane(backends={"max_attempts": 3})
    with RecordingBackend(backend) as recorder, plane.client() as client:
        plane.route(HOST, recorder)
        client.send(f"{method} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        wait_until(lambda: data(plane, "backend-endpoint-failed"), "the failure is told")

    [line] = data(plane, "backend-endpoint-failed")
    assert (line["error"], line["retriable"]) == ("EOF", False)


def test_attempt_without_a_connection_has_no_times_and_no_local_address(start_plane: StartPlane) -> None:
    plane = start_plane()
    plane.route(HOST, free_port())
    assert ask(plane) == 502

    [line] = data(plane, "backend-endpoint-failed")
    assert (line["got-connection"], line["wrote-headers"], line["local-address"]) == (False, False, "")
    assert (line["dns-lookup-time"], line["dial-time"], line["tls-handshake-time"]) == (0, 0, 0)


def test_request_that_took_too_long_is_told_by_a_line_of_its_own(start_plane: StartPlane) -> None:
    plane = start_plane(endpoint_timeout=0.1)
    with RecordingBackend(keep_waiting) as backend, plane.client() as client:
        plane.route(HOST, backend)
        with plane.without_deadlines():
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            wait_until(lambda: backend.requests, "the request is with the backend")
        assert client.read_response().status == 502

    [failed] = data(plane, "backend-endpoint-failed")
    [line] = data(plane, "backend-request-timeout")
    assert (line["error"], line["host"]) == ("context deadline exceeded", HOST)
    assert line["vcap_request_id"] == failed["vcap_request_id"]


def test_request_for_which_no_endpoint_is_left_is_told(start_plane: StartPlane) -> None:
    plane = start_plane(backends={"max_attempts": 3})
    plane.route(HOST, free_port(), tls=True)
    assert ask(plane) == 502

    [line] = data(plane, "select-endpoint-failed")
    assert (line["error"], line["host"]) == ("No endpoints available", HOST)


def test_last_attempt_on_the_only_endpoint_is_no_failed_selection(start_plane: StartPlane) -> None:
    plane = start_plane(backends={"max_attempts": 3})
    plane.route(HOST, free_port())
    assert ask(plane) == 502

    assert len(data(plane, "backend-endpoint-failed")) == 1
    assert data(plane, "select-endpoint-failed") == []


def test_full_route_is_told_at_a_limited_rate(start_plane: StartPlane) -> None:
    plane = start_plane(backends={"max_conns": 1})
    [endpoint] = plane.route(HOST, free_port())
    endpoint.in_flight = 1
    assert {ask(plane) for _ in range(100)} == {503}

    lines = data(plane, "connection-limit-reached")
    assert 20 <= len(lines) < 100
    assert (lines[0]["host"], lines[0]["suppressed"]) == (HOST, 0)
