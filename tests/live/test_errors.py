"""Every answer that the router makes itself, byte for byte: platforms and scripts parse them."""

import re
from collections.abc import Iterator

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.ports import free_port
from tests.support.rawclient import RawClient, Response
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend, plain, silent
from tests.support.waiting import wait_until

BAD_GATEWAY = b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"


@pytest.fixture
def client(live: Live) -> Iterator[RawClient]:
    with live.client() as connected:
        yield connected


@pytest.fixture(scope="module")
def with_empty_pools(start_live: StartLive) -> Live:
    config = {"empty_pool_response_code_503": True, "empty_pool_timeout": "1h", "backends": {"max_conns": 1}}
    return start_live(config)


def check_written(response: Response, status: str, error: str, message: str, cache: str | None) -> None:
    """Check an answer of the error writer."""
    body = f"{status}: {message}\n"
    assert f"{response.status} {response.reason}" == status
    assert response.body == body.encode()
    assert response.header("X-Cf-Routererror") == error
    assert response.header("Cache-Control") == cache
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert response.header("Content-Length") == str(len(body))
    assert response.header("X-Vcap-Request-Id") is None, "error pages lack it"


def check_endpoint_failure(response: Response) -> None:
    assert (response.status, response.body) == (502, BAD_GATEWAY)
    assert re.fullmatch(r"endpoint_failure \(.+\)", response.header("X-Cf-Routererror") or "")
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert response.framing == "length"


@pytest.mark.parametrize("host", ["nobody.test", "nobody.test:8080", "NoBody.Test"])
def test_unknown_route_names_the_host_as_sent(host: str, live: Live, client: RawClient) -> None:
    message = f"Requested route ('{host}') does not exist."
    for _ in range(2):
        response = client.get("/x?y", host=host)
        check_written(response, "404 Not Found", "unknown_route", message, "no-cache, no-store")


def test_unknown_route_to_head_has_no_body(live: Live, client: RawClient) -> None:
    client.send(b"HEAD / HTTP/1.1\r\nHost: nobody.test\r\n\r\n")
    response = client.read_response("HEAD")
    assert (response.status, response.header("X-Cf-Routererror")) == (404, "unknown_route")
    assert client.get(host="nobody.test").status == 404


def test_date_is_added_to_router_made_answers(live: Live, client: RawClient) -> None:
    date = client.get(host="nobody.test").header("Date") or ""
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date)


def test_http_1_0_without_host_is_empty_host(live: Live, client: RawClient) -> None:
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    response = client.read_response()
    check_written(response, "400 Bad Request", "empty_host", "Request had empty Host header", "public,max-age=2")
    assert client.is_closed_by_peer()


@pytest.mark.parametrize("value", ["", "127.0.0.1"])
def test_empty_host_or_the_clients_own_address_is_empty_host(value: str, live: Live, client: RawClient) -> None:
    response = client.get(host=value)
    check_written(response, "400 Bad Request", "empty_host", "Request had empty Host header", "public,max-age=2")


def test_pool_without_endpoints_is_503(with_empty_pools: Live, backend: RecordingBackend) -> None:
    host = with_empty_pools.route(backend)
    with with_empty_pools.client() as client:
        assert client.get(host=host).status == 200
        with_empty_pools.routes.unregister(host, backend=backend)
        message = f"Requested route ('{host}') has no available endpoints."
        response = client.get(host=host)
        check_written(response, "503 Service Unavailable", "no_endpoints", message, "public,max-age=2")


def test_all_endpoints_at_their_limit_is_503(with_empty_pools: Live, make_backend: MakeBackend) -> None:
    backend = make_backend(silent)
    host = with_empty_pools.route(backend)
    with with_empty_pools.client() as occupant, with_empty_pools.client() as client:
        occupant.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        wait_until(lambda: backend.requests, "the endpoint is occupied")
        message = f"Requested route ('{host}') has reached the connection limit."
        response = client.get(host=host)
        check_written(response, "503 Service Unavailable", "Connection Limit Reached", message, None)


def test_refused_connection_is_502(live: Live, client: RawClient) -> None:
    host = live.host()
    live.routes.register(host, backend=free_port())
    check_endpoint_failure(client.get(host=host))
    check_endpoint_failure(client.get(host=host))


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_connection_lost_before_the_response_is_502(
    how: str, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def lose(conversation: Conversation) -> None:
        conversation.read_request()
        if how == "reset":
            conversation.reset()

    host = live.route(make_backend(lose))
    check_endpoint_failure(client.get(host=host))
    client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi".encode())
    check_endpoint_failure(client.read_response())


def test_backend_error_statuses_are_not_the_routers(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def error(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            conversation.answer(b"mine", status="502 Mine", headers="X-Cf-Routererror: from-app\r\n")

    backend = make_backend(error)
    host = live.route(backend)
    response = client.get(host=host)
    assert (response.status, response.body) == (502, b"mine")
    assert response.header("X-Cf-Routererror") == "from-app"
    assert response.header("X-Vcap-Request-Id")
    assert len(backend.requests) == 1, "any HTTP answer is a success"


def test_more_headers_than_the_limit_are_431(live: Live, client: RawClient, backend: RecordingBackend) -> None:
    host = live.route(backend)
    response = client.get(host=host, headers="".join(f"X-{n}: {'a' * 1000}\r\n" for n in range(1040)))
    assert response.status == 431
    assert client.is_closed_by_peer()
    assert backend.requests == []


def test_health_by_user_agent_answers_on_any_host(live: Live, client: RawClient) -> None:
    for _ in range(2):
        response = client.get("/any", host="nobody.test", headers="User-Agent: HTTP-Monitor/1.1\r\n")
        assert (response.status, response.body) == (200, b"ok\n")
        assert response.header("Cache-Control") == "private, max-age=0"
        assert response.header("Expires") == "0"


def test_options_asterisk_is_answered_by_the_router(live: Live, client: RawClient) -> None:
    for _ in range(2):
        client.send(b"OPTIONS * HTTP/1.1\r\nHost: nobody.test\r\n\r\n")
        response = client.read_response()
        assert (response.status, response.header("Content-Length"), response.body) == (200, "0", b"")


def test_semicolons_in_a_uri_change_nothing(live: Live, client: RawClient) -> None:
    backend = RecordingBackend(plain)
    with backend:
        host = live.route(backend)
        assert client.get("/a;b?c;d", host=host).status == 200
        assert backend.requests[0].target == "/a;b?c;d"
    assert "deprecated-semicolon-params" in live.router.wait_access_line(host)


def test_route_with_a_route_service_is_not_served_around_it(
    live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend, route_service_url="https://service.test/look")
    response = client.get(host=host)
    check_written(
        response, "502 Bad Gateway", "route_service_unsupported", "Support for route services is disabled.", None
    )
    assert not backend.requests


def test_route_with_a_policy_is_refused_to_callers_without_identity(
    live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend, options={"route_policy_scope": "org", "route_policy_sources": "cf:any"})
    response = client.get(host=host)
    assert (response.status, response.body) == (403, b"")
    assert not backend.requests
