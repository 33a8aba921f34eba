"""The bridge between two exchanges of one worker: what passes it, both ways, and how either side ends.

A route whose endpoint is named ``bridge`` leads, inside the worker, to the host ``inner-`` + its own: so the
bridge is tried alone, without a route service's signatures.
"""

import asyncio
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from router.backend.connection import BackendConnection, ResponseReceiver
from router.backend.connections import Carrier, Connections
from router.backend.failure import BackendFailure
from router.dataplane import DataPlane
from router.proxy.hairpin import MOST_HOPS, HairpinConnection
from router.routing.pool import Endpoint, Pool
from tests.proxy.conftest import StartPlane
from tests.support.plane import RunningPlane
from tests.support.ports import free_port
from tests.support.rawclient import RawClient, Truncated
from tests.support.recorder import CONTINUE, Conversation, RecordingBackend, Script
from tests.support.waiting import PATIENCE_S, wait_until

HOST = "app.test"
INNER = "inner-app.test"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
UPGRADE = f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()


class Renaming(HairpinConnection):
    """Asks for another host, as a service's URL does."""

    def send_request(self, exchange: ResponseReceiver, head: bytes) -> None:
        super().send_request(exchange, head.replace(b"\r\nHost: ", b"\r\nHost: inner-", 1))


class Choosing(Connections):
    """Bridges for endpoints named ``bridge``, connections for all others."""

    def __init__(self, plane: DataPlane, made: type[HairpinConnection]) -> None:
        self.real: Connections = plane.connections
        super().__init__(self.real._options, self.real.now)
        self.made = made

    def checkout(self, endpoint: Endpoint, safe_to_repeat: bool, upgrade: bytes = b"") -> Carrier | None:
        if endpoint.record.host == "bridge":
            return self.made(self, endpoint, 443)
        return self.real.checkout(endpoint, safe_to_repeat, upgrade)

    def dial(
        self,
        endpoint: Endpoint,
        done: Callable[[Carrier], None],
        failed: Callable[[BackendFailure], None],
        upgrade: bytes = b"",
    ) -> asyncio.Task[None]:
        return self.real.dial(endpoint, done, failed, upgrade)


def bridge(plane: RunningPlane, made: type[HairpinConnection] = Renaming) -> RunningPlane:
    plane.plane.proxy.connections = Choosing(plane.plane, made)
    plane.route(HOST, 1, host="bridge")
    return plane


@pytest.fixture
def bridged(plane: RunningPlane) -> RunningPlane:
    return bridge(plane)


@pytest.fixture
def client(bridged: RunningPlane) -> Iterator[RawClient]:
    with bridged.client() as connected:
        yield connected


@pytest.fixture
def backend() -> Iterator[RecordingBackend]:
    with RecordingBackend() as running:
        yield running


def serve(plane: RunningPlane, backend: RecordingBackend, script: Script) -> None:
    backend.script = script
    plane.route(INNER, backend)


def echo(conversation: Conversation) -> None:
    while True:
        request = conversation.read_request()
        lines = "".join(f"{name}: {value}\r\n" for name, value in request.trailers)
        head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        chunk = f"{len(request.body):x}\r\n".encode() + request.body + b"\r\n" if request.body else b""
        conversation.send(head.encode() + chunk + f"0\r\n{lines}\r\n".encode())


# What passes.


def test_request_arrives_as_over_one_more_hop_with_tls(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    bridged.route(INNER, backend)
    assert client.get("/a?b=c", host=HOST, headers="X-Own: 1\r\n").body == b"ok"
    (request,) = backend.requests
    assert (request.target, request.header("Host"), request.header("X-Own")) == ("/a?b=c", INNER, "1")
    assert request.header("X-Forwarded-For") == "127.0.0.1, 127.0.0.1"
    assert request.header("X-Forwarded-Proto") == "http"


def test_hop_counts_as_tls_where_clients_are_not_believed(
    start_plane: StartPlane, backend: RecordingBackend
) -> None:
    plane = bridge(start_plane(sanitize_forwarded_proto=True))
    plane.route(INNER, backend)
    with plane.client() as client:
        client.get(host=HOST)
    assert backend.requests[0].header("X-Forwarded-Proto") == "https"


def test_connection_of_the_client_and_that_of_the_endpoint_are_kept(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    bridged.route(INNER, backend)
    for _ in range(50):
        assert client.get(host=HOST).body == b"ok"
    assert len(backend.conversations) == 1
    wait_until(bridged.is_idle, "all exchanges are over")


@pytest.mark.parametrize("size", [1, 1000, 3_000_000])
def test_body_with_a_length_goes_both_ways(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend, size: int
) -> None:
    serve(bridged, backend, echo)
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    sender = threading.Thread(
        target=client.send,
        args=(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n".encode() + body,),
    )
    sender.start()
    assert client.read_response("POST").body == body
    sender.join()


def test_chunked_body_and_trailers_go_both_ways(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    serve(bridged, backend, echo)
    head = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    client.send(head.encode() + b"5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n")
    response = client.read_response("POST")
    assert (response.body, response.trailers) == (b"hello world", [("X-Sum", "11")])
    assert backend.requests[0].trailers == [("X-Sum", "11")]
    assert client.get(host=HOST).status == 200


def test_pipelined_requests_are_answered_in_order(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    def own_path(conversation: Conversation) -> None:
        while True:
            conversation.answer(conversation.read_request().target.encode())

    serve(bridged, backend, own_path)
    client.send(b"".join(f"GET /{n} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() for n in range(20)))
    assert [client.read_response().body for _ in range(20)] == [b"/%d" % n for n in range(20)]


def test_head_and_empty_statuses_have_no_body(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        conversation.read_request()
        conversation.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        conversation.read_request()
        conversation.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n")

    serve(bridged, backend, script)
    client.send(f"HEAD / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    assert client.read_response("HEAD").header("Content-Length") == "5"
    assert client.get(host=HOST).status == 204
    assert client.get(host=HOST).header("Content-Length") == "7"


def test_interim_responses_pass(bridged: RunningPlane, client: RawClient, backend: RecordingBackend) -> None:
    def script(conversation: Conversation) -> None:
        request = conversation.read_head()
        conversation.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + CONTINUE)
        conversation.read_body(request)
        conversation.answer()

    serve(bridged, backend, script)
    head = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    client.send(head.encode())
    hints = client.read_response(skip_interim=False)
    assert (hints.status, hints.header("Link")) == (103, "</a.css>")
    assert client.read_response(skip_interim=False).status == 100
    client.send(b"body")
    assert client.read_response("POST").body == b"ok"


def test_body_until_the_close_ends_with_it(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(b"HTTP/1.1 200 OK\r\n\r\nall there is")

    serve(bridged, backend, script)
    response = client.get(host=HOST)
    assert (response.body, response.framing) == (b"all there is", "chunked")


def test_response_fields_that_end_here_do_not_pass(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.answer(headers="X-CF-Proxy-Signature: s\r\nX-Vcap-Request-Id: own\r\nSet-Cookie: a=b\r\n")

    serve(bridged, backend, script)
    response = client.get(host=HOST)
    assert response.values("X-CF-Proxy-Signature") == []
    assert response.header("X-Vcap-Request-Id") == "own"
    assert response.header("Set-Cookie") == "a=b"
    assert len(response.values("Date")) == 1


def test_routers_own_answers_pass(bridged: RunningPlane, client: RawClient) -> None:
    response = client.get(host=HOST)
    assert response.status == 404
    assert response.body == b"404 Not Found: Requested route ('inner-app.test') does not exist.\n"
    assert response.header("X-Cf-Routererror") == "unknown_route"


def test_unreachable_endpoint_behind_the_bridge_is_a_502(bridged: RunningPlane, client: RawClient) -> None:
    bridged.route(INNER, free_port())
    response = client.get(host=HOST)
    assert response.status == 502
    assert "endpoint_failure" in (response.header("X-Cf-Routererror") or "")


def test_early_answer_to_an_upload_passes(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    def early(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.answer(b"enough", status="413 Payload Too Large")
        conversation.wait_for_end()

    serve(bridged, backend, early)
    client.send(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5000000\r\n\r\n".encode() + bytes(1000))
    assert client.read_response("POST").body == b"enough"
    wait_until(bridged.is_idle, "both exchanges are over")


# Back-pressure.


def test_client_that_does_not_read_stops_the_endpoint(bridged: RunningPlane, backend: RecordingBackend) -> None:
    written = 0

    def flood(conversation: Conversation) -> None:
        nonlocal written
        conversation.read_request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
        for _ in range(1024):
            conversation.send(bytes(65536))
            written += 65536

    serve(bridged, backend, flood)
    with bridged.client(receive_buffer=4096) as slow:
        slow.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        wait_until(lambda: _inner_is_paused(bridged), "the endpoint's connection is paused")
        assert written < 40_000_000
        assert len(slow.read_response().body) == 67_108_864


def test_endpoint_that_does_not_read_stops_the_client(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    go_on = threading.Event()

    def lazy(conversation: Conversation) -> None:
        request = conversation.read_head()
        go_on.wait(PATIENCE_S)
        conversation.read_body(request)
        conversation.answer(b"%d" % len(request.body))

    serve(bridged, backend, lazy)
    size = 64 * 1024 * 1024
    head = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n".encode()
    sender = threading.Thread(target=client.send, args=(head + bytes(size),))
    sender.start()
    wait_until(lambda: bridged.only_client()._paused, "the client's connection is paused")
    go_on.set()
    assert client.read_response("POST").body == b"%d" % size
    sender.join()


def _inner_is_paused(plane: RunningPlane) -> bool:
    connections = [each.connection for each in list(plane.plane.proxy.active)]
    return any(isinstance(each, BackendConnection) and each._paused for each in connections)


# Ends.


def test_client_that_goes_away_ends_both_exchanges(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    serve(bridged, backend, lambda conversation: conversation.wait_for_end())
    client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    wait_until(lambda: len(bridged.plane.proxy.active) == 2, "both exchanges are in progress")
    client.close()
    wait_until(bridged.is_idle, "both exchanges are over")
    wait_until(lambda: backend.open_conversations() == 0, "the endpoint's connection is closed")


def test_client_that_goes_away_before_the_request_began_leaves_nothing(
    bridged: RunningPlane, backend: RecordingBackend
) -> None:
    bridged.route(INNER, backend)
    for _ in range(30):
        with bridged.client() as client:
            client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            client.reset()
    wait_until(lambda: not bridged.clients and bridged.is_idle(), "all exchanges are over")


def test_response_cut_behind_the_bridge_is_cut_before_it(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    def half(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    serve(bridged, backend, half)
    with pytest.raises(Truncated):
        client.get(host=HOST)
    wait_until(bridged.is_idle, "both exchanges are over")


def test_endpoint_time_out_behind_the_bridge_is_a_502(start_plane: StartPlane, backend: RecordingBackend) -> None:
    plane = bridge(start_plane(endpoint_timeout=0.1))
    serve(plane, backend, lambda conversation: conversation.wait_for_end())
    with plane.client() as client:
        assert client.get(host=HOST).status == 502
    wait_until(plane.is_idle, "both exchanges are over")


def test_end_of_the_worker_ends_both_exchanges(start_plane: StartPlane, backend: RecordingBackend) -> None:
    plane = bridge(start_plane())
    serve(plane, backend, lambda conversation: conversation.wait_for_end())
    with plane.client() as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        wait_until(lambda: len(plane.plane.proxy.active) == 2, "both exchanges are in progress")
        plane.call(plane.plane.close)
        wait_until(plane.is_idle, "both exchanges are over")
        assert client.read_until_end() == b""


def test_panic_behind_the_bridge_is_a_502(
    bridged: RunningPlane, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def lookup(self, host: bytes, path: bytes) -> Pool | None:
            if host.startswith(b"inner-"):
                raise RuntimeError("broken")
            return table.lookup(host, path)

    table = bridged.plane.mirror.table
    monkeypatch.setattr(bridged.plane.mirror, "table", Broken())
    response = client.get(host=HOST)
    assert (response.status, response.header("X-Cf-Routererror")) == (502, "unknown_failure")


def test_circle_of_services_is_a_502_that_says_so(start_plane: StartPlane) -> None:
    plane = bridge(start_plane(), HairpinConnection)
    with plane.client() as client:
        response = client.get(host=HOST)
        assert response.status == 502
        assert response.header("X-Cf-Routererror") == "endpoint_failure (more than 8 route services in a row)"
        wait_until(lambda: plane.plane.counters.requests == MOST_HOPS + 1, "all exchanges are counted")
    failures = [line for line in plane.log if line["message"] == "backend-endpoint-failed"]
    assert [line["data"]["failure"] for line in failures] == ["hairpin-loop"]


def test_body_sent_into_a_circle_is_refused_too(start_plane: StartPlane) -> None:
    plane = bridge(start_plane(), HairpinConnection)
    with plane.client() as client:
        client.send(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 300000\r\n\r\n".encode() + bytes(300000))
        assert client.read_response("POST").status == 502
    wait_until(plane.is_idle, "all exchanges are over")


# Tunnels.


def test_tunnel_carries_bytes_both_ways(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    def tunnel(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(SWITCH + b"first")
        while received := conversation.socket.recv(65536):
            conversation.socket.sendall(received)

    serve(bridged, backend, tunnel)
    client.send(UPGRADE + b"early")
    response = client.read_response()
    assert (response.status, response.header("Upgrade")) == (101, "websocket")
    assert client.read_exactly(10) == b"firstearly"
    payload = struct.pack(">Q", 77) * 20_000
    sender = threading.Thread(target=client.send, args=(payload,))
    sender.start()
    assert client.read_exactly(len(payload)) == payload
    sender.join()
    client.end_sending()
    assert client.read_until_end() == b""
    wait_until(bridged.is_idle, "both exchanges are over")


def test_last_bytes_of_a_tunnel_arrive_after_the_client_has_ended_its_side(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    def tunnel(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(SWITCH)
        conversation.wait_for_end()
        conversation.send(b"last words")

    serve(bridged, backend, tunnel)
    client.send(UPGRADE)
    assert client.read_response().status == 101
    client.send(b"one")
    client.end_sending()
    assert client.read_until_end() == b"last words"
    wait_until(bridged.is_idle, "both exchanges are over")


def test_tunnel_ends_with_the_endpoint(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    def tunnel(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(SWITCH)
        conversation.reset()

    serve(bridged, backend, tunnel)
    client.send(UPGRADE)
    assert client.read_response().status == 101
    assert client.read_until_end() == b""
    wait_until(bridged.is_idle, "both exchanges are over")


def test_refused_upgrade_is_an_ordinary_response(
    bridged: RunningPlane, client: RawClient, backend: RecordingBackend
) -> None:
    bridged.route(INNER, backend)
    client.send(UPGRADE)
    assert client.read_response().body == b"ok"
    assert client.get(host=HOST).body == b"ok"
