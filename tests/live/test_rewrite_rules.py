"""``http_rewrite``: on every response that a handler makes, and on no others."""

from collections.abc import Iterator

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.rawclient import RawClient
from tests.support.recorder import MakeBackend, answering

HSTS = "max-age=31536000; includeSubDomains"
RULES = {
    "add_headers_if_not_present": [
        {"name": "Strict-Transport-Security", "value": HSTS},
        {"name": "X-Two", "value": "1"},
        {"name": "x-two", "value": "2"},
    ],
    "remove_headers": [{"name": "x-POWERED-by"}, {"name": "X-Vcap-Request-Id"}],
}


@pytest.fixture(scope="module")
def rewriting(start_live: StartLive) -> Live:
    return start_live({"http_rewrite": {"responses": RULES}, "healthcheck_user_agent": "Probe"})


@pytest.fixture
def client(rewriting: Live) -> Iterator[RawClient]:
    with rewriting.client() as connected:
        yield connected


def test_response_of_a_backend_is_rewritten(rewriting: Live, client: RawClient, make_backend: MakeBackend) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Powered-By: a\r\nx-powered-by: b\r\nServer: s\r\n\r\nok"
    response = client.get(host=rewriting.route(make_backend(answering(answer))))
    assert response.body == b"ok"
    assert response.header("Strict-Transport-Security") == HSTS
    assert response.values("X-Two") == ["1", "2"]
    assert response.values("X-Powered-By") == response.values("X-Vcap-Request-Id") == []
    assert response.header("Server") == "s"


def test_header_the_backend_sets_is_kept(rewriting: Live, client: RawClient, make_backend: MakeBackend) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nstrict-transport-security: max-age=0\r\nX-TWO: own\r\n\r\n"
    response = client.get(host=rewriting.route(make_backend(answering(answer))))
    assert response.header("Strict-Transport-Security") == "max-age=0"
    assert response.values("X-Two") == ["own"]


def test_answers_of_the_router_are_rewritten(client: RawClient) -> None:
    unknown = client.get(host="nobody.test")
    assert (unknown.status, unknown.header("Strict-Transport-Security")) == (404, HSTS)
    healthy = client.get(host="x.test", headers="User-Agent: Probe\r\n")
    assert (healthy.status, healthy.body, healthy.header("Strict-Transport-Security")) == (200, b"ok\n", HSTS)


def test_answer_to_what_is_no_request_is_not(client: RawClient) -> None:
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    response = client.read_response()
    assert (response.status, response.header("Strict-Transport-Security")) == (400, None)


def test_switch_of_protocols_is_not(rewriting: Live, client: RawClient, make_backend: MakeBackend) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    host = rewriting.route(make_backend(answering(switch)))
    client.send(
        f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    response = client.read_response(skip_interim=False)
    assert (response.status, response.header("Strict-Transport-Security")) == (101, None)


def test_framing_stays_the_routers_own(rewriting: Live, client: RawClient, make_backend: MakeBackend) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    host = rewriting.route(make_backend(answering(chunked)))
    for _ in range(2):
        response = client.get(host=host)
        assert (response.body, response.framing) == (b"ok", "chunked")
        assert response.header("Strict-Transport-Security") == HSTS
