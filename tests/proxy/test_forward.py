"""Steps and attempts, as seen in the counters, the marks and the log of a running data plane."""

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from router.certs import issue, make_ca
from router.routing.records import PoolOptions, SetPoolOptions
from tests.proxy.conftest import StartPlane
from tests.support.certificates import server_context
from tests.support.plane import RunningPlane
from tests.support.ports import free_port
from tests.support.rawclient import Response
from tests.support.recorder import Conversation, RecordingBackend, answering, named, plain, silent
from tests.support.waiting import wait_until

HOST = "app.test"
POST = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello"


def ask(plane: RunningPlane, request: bytes = b"", **headers: str) -> Response:
    """Send one request on a connection of its own."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    with plane.client() as client:
        if request:
            client.send(request)
            return client.read_response()
        return client.get(host=HOST, headers=lines)


def failures(plane: RunningPlane) -> list[dict[str, Any]]:
    return [line["data"] for line in plane.log if line["message"] == "backend-endpoint-failed"]


def hang_up(conversation: Conversation) -> None:
    """Read a request and close without an answer."""
    conversation.read_request()


# Steps before an endpoint is chosen.


def test_health_check_is_answered_by_user_agent(start_plane: StartPlane) -> None:
    plane = start_plane(healthcheck_user_agent="Probe/1")

    assert ask(plane, User_Agent="Probe/1").status == 503
    plane.plane.proxy.healthy = True
    assert ask(plane, User_Agent="Probe/1").body == b"ok\n"
    assert ask(plane, User_Agent="Probe/2").status == 404


@pytest.mark.parametrize(("answers_503", "status"), [(True, 503), (False, 404)])
def test_route_without_endpoints(start_plane: StartPlane, answers_503: bool, status: int) -> None:
    plane = start_plane(empty_pool_response_code_503=answers_503)
    plane.route(HOST)

    assert ask(plane).status == status
    assert plane.plane.counters.rejected_requests == (0 if answers_503 else 1)


def test_limit_of_headers_comes_after_the_route_and_names_an_endpoint(
    start_plane: StartPlane, tmp_path: Path
) -> None:
    file = tmp_path / "access.log"
    plane = start_plane(max_request_headers=2, max_request_header_bytes=300, access_log={"file": str(file)})
    port = free_port()
    plane.route("other.test", port)
    assert ask(plane, A="1", B="2", C="3").status == 404

    plane.route(HOST, port)
    assert ask(plane, A="1", B="2", C="3").status == 431
    assert ask(plane, A="a" * 300).status == 431
    assert ask(plane, A="1", B="2").status == 502
    wait_until(lambda: file.read_text().count("\n") == 4, "access log")
    lines = file.read_text().splitlines()
    assert [f'"127.0.0.1:{port}"' in line for line in lines] == [False, True, True, True]


def test_exact_size_limit_is_refused_and_one_byte_less_is_not(start_plane: StartPlane) -> None:
    plane = start_plane(max_request_header_bytes=100)
    with RecordingBackend() as backend:
        plane.route(HOST, backend)
        head = b"GET / HTTP/1.1\r\nHost: app.test\r\nX: "
        for size, status in ((99, 200), (100, 431)):
            filled = head + b"a" * (size - 2 - len(head))
            assert ask(plane, filled + b"\r\n\r\n").status == status


def test_overloaded_pool_is_503_and_counted(start_plane: StartPlane) -> None:
    plane = start_plane(backends={"max_conns": 1})
    with RecordingBackend(silent) as backend, plane.client() as waiting:
        [endpoint] = plane.route(HOST, backend)
        waiting.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        wait_until(lambda: backend.requests, "request at the backend")
        assert endpoint.in_flight == 1

        response = ask(plane)
        assert (response.status, response.header("X-Cf-RouterError")) == (503, "Connection Limit Reached")
        assert plane.plane.counters.backend_exhausted_conns == 1
        waiting.close()
        wait_until(lambda: endpoint.in_flight == 0, "client's going is noticed")


# Attempts.


def test_refused_endpoint_is_marked_and_another_asked(plane: RunningPlane) -> None:
    with RecordingBackend() as backend:
        endpoints = plane.route(HOST, free_port(), backend)
        for _ in range(4):
            assert ask(plane, POST).body == b"ok"

    dead, alive = endpoints
    assert dead.failed_at > 0.0
    assert alive.failed_at == 0.0
    assert (dead.in_flight, alive.in_flight) == (0, 0)
    assert plane.plane.counters.retries == 1
    assert [each["failure"] for each in failures(plane)] == ["dial"]
    assert plane.failed == []


@pytest.mark.parametrize(("endpoints", "attempts"), [(1, 1), (2, 2), (5, 3)])
def test_no_endpoint_is_tried_twice_and_no_more_than_allowed(
    plane: RunningPlane, endpoints: int, attempts: int
) -> None:
    plane.route(HOST, *(free_port() for _ in range(endpoints)))
    response = ask(plane)

    assert (response.status, response.header("X-Cf-RouterError")) == (
        502,
        f"endpoint_failure ({failures(plane)[-1]['error']})",
    )
    asked = [each["backend"] for each in failures(plane)]
    assert len(asked) == len(set(asked)) == attempts
    assert [each["attempt"] for each in failures(plane)] == list(range(1, attempts + 1))
    assert plane.plane.counters.total_requests == attempts
    assert plane.plane.counters.bad_gateways == 1


@pytest.mark.parametrize(
    ("request_", "attempts"),
    [
        (b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", 3),
        (b"POST / HTTP/1.1\r\nHost: app.test\r\nIdempotency-Key: 1\r\n\r\n", 3),
        (b"POST / HTTP/1.1\r\nHost: app.test\r\nIdempotency-Key: \r\n\r\n", 1),
        (b"DELETE / HTTP/1.1\r\nHost: app.test\r\n\r\n", 1),
        (b"GET / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello", 1),
        (POST, 1),
    ],
)
def test_hang_up_without_an_answer_is_repeated_only_if_safe(
    plane: RunningPlane, request_: bytes, attempts: int
) -> None:
    with RecordingBackend(hang_up) as one, RecordingBackend(hang_up) as two, RecordingBackend(hang_up) as three:
        endpoints = plane.route(HOST, one, two, three)
        assert ask(plane, request_).header("X-Cf-RouterError") == "endpoint_failure (EOF)"

        assert sum(len(each.requests) for each in (one, two, three)) == attempts
        assert [endpoint.failed_at for endpoint in endpoints] == [0.0, 0.0, 0.0]


def test_reused_connection_found_dead_is_redialled_without_an_attempt(plane: RunningPlane) -> None:
    def once(conversation: Conversation) -> None:
        """Answer one request, and close as the next one arrives."""
        conversation.read_request()
        conversation.answer()
        conversation.read_request()

    with RecordingBackend(once) as backend:
        [endpoint] = plane.route(HOST, backend)
        assert ask(plane).status == 200
        assert ask(plane).status == 200

        assert len(backend.conversations) == 2
        assert (plane.plane.counters.total_requests, plane.plane.counters.retries) == (2, 0)
        assert failures(plane) == []
        assert endpoint.in_flight == 0
        # A request that may not be sent twice is not.
        assert ask(plane, POST).status == 502
        assert len(backend.conversations) == 2
        assert failures(plane)[0]["conn-reused"]


def test_redial_that_fails_is_an_attempt_that_failed(plane: RunningPlane) -> None:
    def last(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.answer()
        conversation.read_request()

    with RecordingBackend(last, port=free_port()) as backend, RecordingBackend(named("second")) as second:
        plane.route(HOST, backend)
        assert ask(plane).status == 200
        backend.stop_listening()
        plane.route(HOST, second)

        assert {ask(plane).body for _ in range(2)} == {b"second"}
        assert [each["failure"] for each in failures(plane)] == ["dial"]


def test_endpoint_timeout_is_502_after_one_attempt(start_plane: StartPlane) -> None:
    plane = start_plane(endpoint_timeout=0.1, backends={"max_attempts": 3})
    with RecordingBackend(silent) as one, RecordingBackend(silent) as two:
        endpoints = plane.route(HOST, one, two)
        with plane.client() as client:
            with plane.without_deadlines():
                client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
                wait_until(lambda: one.requests or two.requests, "request at a backend")
            response = client.read_response()

        assert response.header("X-Cf-RouterError") == "endpoint_failure (context deadline exceeded)"
        assert len(one.requests) + len(two.requests) == 1
        assert [endpoint.failed_at for endpoint in endpoints] == [0.0, 0.0]
        assert [endpoint.in_flight for endpoint in endpoints] == [0, 0]


def test_endpoint_timeout_while_connecting_goes_on_elsewhere(start_plane: StartPlane) -> None:
    plane = start_plane(endpoint_timeout=60.0, endpoint_dial_timeout=60.0, backends={"max_attempts": 3})
    with socket.create_server(("127.0.0.1", 0), backlog=0) as tarpit, RecordingBackend() as backend:
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(tarpit.getsockname())
        (stuck,) = plane.route(HOST, tarpit.getsockname()[1])
        pool = plane.plane.mirror.table.pool(HOST)
        assert pool is not None
        pool.cursor = 0
        plane.route(HOST, backend)
        with plane.client() as client:
            client.send(POST)
            wait_until(lambda: any(each.dialling for each in list(plane.plane.proxy.active)), "the dial has begun")
            for exchange in list(plane.plane.proxy.active):
                exchange.deadline = 0.001

            assert client.read_response().body == b"ok"
        assert ask(plane, POST).body == b"ok"
        assert stuck.failed_at > 0.0
        assert failures(plane)[0]["failure"] == "timeout-while-connecting"
        for each in waiting:
            each.close()


def test_body_is_kept_for_the_endpoint_that_takes_it(plane: RunningPlane) -> None:
    with RecordingBackend() as backend, plane.client() as client:
        plane.route(HOST, free_port(), free_port(), backend)
        for _ in range(3):
            client.send(POST.replace(b"5\r\n", b"5\r\nX: 1\r\n"))
            assert client.read_response().status == 200
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send_bytewise(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert client.read_response().status == 200

        assert [request.body for request in backend.requests] == [b"hello"] * 4
        assert backend.requests[-1].trailers == [("X-Sum", "1")]


def test_algorithm_of_a_route_is_used(plane: RunningPlane) -> None:
    with RecordingBackend(named("one")) as one, RecordingBackend(named("two")) as two:
        first, _ = plane.route(HOST, one, two)
        plane.apply(SetPoolOptions(HOST, PoolOptions(algorithm="least-connection")))
        first.in_flight = 5

        assert {ask(plane).body for _ in range(4)} == {b"two"}


def test_wrong_switch_is_an_empty_502(plane: RunningPlane) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with RecordingBackend(answering(switch)) as backend:
        plane.route(HOST, backend)
        response = ask(plane, Connection="Upgrade", Upgrade="websocket")

    assert (response.status, response.body, response.header("X-Cf-RouterError")) == (502, b"", None)
    assert plane.plane.counters.websocket_failures == 1


# TLS endpoints.


def test_tls_endpoint_that_cannot_be_connected_to_is_removed_and_reported(start_plane: StartPlane) -> None:
    plane = start_plane(empty_pool_response_code_503=True, backends={"max_attempts": 3})
    dead = plane.route(HOST, free_port(), free_port(), tls=True, san="x")

    assert ask(plane).status == 502
    assert sorted(plane.failed) == [(HOST, endpoint.endpoint_id) for endpoint in dead]
    assert plane.messages().count("prune-failed-endpoint") == 2
    # The pool stays, empty, until control drops it.
    assert ask(plane).header("X-Cf-RouterError") == "no_endpoints"


@pytest.mark.parametrize(
    ("san", "trusted", "status", "counter"),
    [
        ("right", True, 200, ""),
        ("wrong", True, 503, "backend_invalid_id"),
        (".impossible", True, 503, "backend_invalid_id"),
        ("right", False, 526, "backend_invalid_tls_cert"),
    ],
)
def test_certificates_of_endpoints_are_verified(
    start_plane: StartPlane, tmp_path: Path, san: str, trusted: bool, status: int, counter: str
) -> None:
    authority = make_ca()
    plane = start_plane(ca_certs=[authority.pair.certificate] if trusted else [])
    with RecordingBackend(plain, tls=server_context(issue(authority, ["right"]), tmp_path)) as backend:
        plane.route(HOST, backend, tls=True, san=san)

        assert ask(plane, POST).status == status
    if counter:
        assert plane.plane.counts()[counter] == 1


def test_endpoint_that_speaks_no_tls_is_525(plane: RunningPlane) -> None:
    def plain_text(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        conversation.wait_for_end()

    with RecordingBackend(plain_text) as backend:
        plane.route(HOST, backend, tls=True, san="x")

        assert ask(plane).status == 525
    assert plane.plane.counters.backend_tls_handshake_failed == 1


@pytest.mark.parametrize(("request_", "status"), [(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", 200), (POST, 496)])
def test_refused_client_certificate_is_tried_elsewhere_unless_body_is_lost(
    start_plane: StartPlane, tmp_path: Path, request_: bytes, status: int
) -> None:
    authority = make_ca()
    plane = start_plane(ca_certs=[authority.pair.certificate], backends={"max_attempts": 2})
    contexts = [server_context(issue(authority, ["name"]), tmp_path) for _ in range(2)]
    contexts[0].minimum_version = ssl.TLSVersion.TLSv1_3
    contexts[0].verify_mode = ssl.CERT_REQUIRED
    with RecordingBackend(tls=contexts[0]) as picky, RecordingBackend(tls=contexts[1]) as other:
        plane.route(HOST, picky, tls=True, san="name")
        pool = plane.plane.mirror.table.pool(HOST)
        assert pool is not None
        pool.cursor = 0
        plane.route(HOST, other, tls=True, san="name")

        assert ask(plane, request_).status == status
        assert [request.body for request in other.requests] == ([b""] if status == 200 else [])


# Counting.


def test_responses_count_only_if_an_endpoint_was_chosen(plane: RunningPlane) -> None:
    with (
        RecordingBackend(answering(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n")) as odd,
        RecordingBackend() as fine,
    ):
        plane.route("odd.test", odd)
        plane.route(HOST, fine)
        ask(plane)
        ask(plane, b"GET / HTTP/1.1\r\nHost: odd.test\r\n\r\n")
        ask(plane, b"GET / HTTP/1.1\r\nHost: unknown.test\r\n\r\n")
    wait_until(plane.is_idle, "exchanges are over")

    counts = plane.plane.counts()
    assert (counts["responses_2xx"], counts["responses_xxx"], counts["responses_4xx"]) == (1, 1, 0)
    assert (counts["requests"], counts["rejected_requests"]) == (3, 1)


def test_semicolon_in_a_target_is_marked_in_the_logs(start_plane: StartPlane, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    plane = start_plane(access_log={"file": str(file)})
    with RecordingBackend() as backend:
        plane.route(HOST, backend)
        assert ask(plane, b"GET /?a=1;b=2 HTTP/1.1\r\nHost: app.test\r\n\r\n").status == 200
        wait_until(lambda: b"deprecated-semicolon-params" in file.read_bytes(), "access log")

    assert "deprecated-semicolon-params" in plane.messages()
