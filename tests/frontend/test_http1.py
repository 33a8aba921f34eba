"""Client connections in a running data plane, where it takes a look inside to test them."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from router.frontend import http1
from tests.support.plane import RunningPlane, config
from tests.support.rawclient import RawClient, Truncated
from tests.support.recorder import Conversation, RecordingBackend, plain
from tests.support.waiting import PATIENCE_S, wait_until

HOST = "app.test"
GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
LOST = b"GET / HTTP/1.1\r\nHost: unknown.test\r\n\r\n"


@pytest.fixture
def plane() -> Iterator[RunningPlane]:
    with RunningPlane(config(frontend_idle_timeout=30.0)) as running:
        yield running


@pytest.fixture
def client(plane: RunningPlane) -> Iterator[RawClient]:
    with plane.client() as connected:
        yield connected


@pytest.fixture
def backend(plane: RunningPlane) -> Iterator[RecordingBackend]:
    with RecordingBackend() as running:
        plane.route(HOST, running)
        yield running


class Wire(asyncio.Transport):
    """A transport that knows its peer, and nothing else."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


def statuses(client: RawClient, count: int) -> list[int]:
    return [client.read_response().status for _ in range(count)]


# Requests one after another.


def test_router_made_and_proxied_answers_keep_their_order(client: RawClient, backend: RecordingBackend) -> None:
    client.send((GET + LOST) * 20)

    assert statuses(client, 40) == [200, 404] * 20


def test_body_of_options_asterisk_is_no_request(plane: RunningPlane, client: RawClient) -> None:
    hidden = LOST
    head = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    client.send(head + hidden)
    client.send(head + hidden + LOST)

    assert statuses(client, 3) == [200, 200, 404]
    wait_until(plane.is_idle, "exchanges are over")
    assert plane.plane.counters.requests == 1


def test_chunked_body_of_options_asterisk_ends_the_connection(client: RawClient) -> None:
    client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + LOST)

    assert client.read_response().header("connection") == "close"
    assert client.is_closed_by_peer()


def test_requests_of_a_client_that_does_not_read_wait(plane: RunningPlane) -> None:
    count = 20_000
    with plane.client(receive_buffer=4096) as client:
        connection = plane.only_client()
        client.socket.settimeout(0.01)
        unsent = memoryview(LOST * count)
        while not connection._full or not connection._paused:
            try:
                unsent = unsent[client.socket.send(unsent[:65536]) :]
            except TimeoutError:
                continue
        assert plane.plane.counters.requests < count
        assert connection._transport.get_write_buffer_size() < 300_000
        assert len(connection._buffer) < 200_000

        client.socket.settimeout(PATIENCE_S)
        answered = 0
        while unsent:
            unsent = unsent[client.socket.send(unsent[:40_000]) :]
            answered += 1
            assert client.read_response().status == 404
        assert set(statuses(client, count - answered)) == {404}


def test_long_head_behind_a_slow_request_is_read_on(plane: RunningPlane, client: RawClient) -> None:
    def slow(conversation: Conversation) -> None:
        conversation.read_request()
        wait_until(lambda: plane.only_client()._paused, "the client is held back")
        conversation.answer()
        plain(conversation)

    with RecordingBackend(slow) as backend:
        plane.route(HOST, backend)
        client.send(GET + GET[:-2] + b"X: " + b"a" * 400_000 + b"\r\n\r\n")

        assert statuses(client, 2) == [200, 200]
        assert len(backend.requests[1].raw_head) > 400_000


# Bodies.


def test_upload_that_begins_before_the_dial_is_held_back_too(plane: RunningPlane) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_head()
        wait_until(lambda: plane.only_client()._paused, "the client is held back")
        conversation.read(40_000_000)
        conversation.answer()
        plain(conversation)

    with RecordingBackend(script) as backend, plane.client() as client:
        plane.route(HOST, backend)
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 40000000\r\n\r\n" + b"x" * 40_000_000)

        assert client.read_response().status == 200
        client.send(GET)
        assert client.read_response().status == 200


@pytest.mark.parametrize("sent", [0, 10])
def test_unwanted_body_that_never_comes_is_not_waited_for(
    plane: RunningPlane, client: RawClient, monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    monkeypatch.setattr(http1, "_DRAIN_S", 0.05)
    client.send(b"POST / HTTP/1.1\r\nHost: unknown.test\r\nContent-Length: 100\r\n\r\n" + b"x" * sent)

    assert client.read_response().status == 404
    assert client.is_closed_by_peer()


def test_unwanted_body_that_is_long_or_of_unknown_length_ends_the_connection(plane: RunningPlane) -> None:
    for line in (
        b"Content-Length: 1000000",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 5\r\nExpect: 100-continue",
    ):
        with plane.client() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: unknown.test\r\n" + line + b"\r\n\r\n")
            assert client.read_response().header("connection") == "close"
            client.end_sending()
            assert client.is_closed_by_peer()


@pytest.mark.parametrize("answered", [False, True])
def test_malformed_chunk_after_the_head_was_sent(plane: RunningPlane, client: RawClient, answered: bool) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_head()
        if answered:
            conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        conversation.wait_for_end()

    with RecordingBackend(script) as backend:
        plane.route(HOST, backend)
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        wait_until(lambda: backend.requests, "head at the backend")
        if answered:
            wait_until(lambda: any(each.bytes_out for each in list(plane.plane.proxy.active)), "answer has begun")
        client.send(b"xyz\r\n")

        if answered:
            with pytest.raises(Truncated):
                client.read_response()
        else:
            assert client.read_response().status == 400
            assert client.is_closed_by_peer()
        assert plane.plane.counters.bad_requests == 1
        wait_until(lambda: backend.conversations[0].ended, "backend connection is gone")


# Other protocols and broken heads.


@pytest.mark.parametrize(("value", "count"), [(b"", 1), (b" ", 1), (b"x", 0)])
def test_empty_content_length_is_counted_by_itself(
    plane: RunningPlane, client: RawClient, value: bytes, count: int
) -> None:
    client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length:%b\r\n\r\n" % value)
    assert client.read_response().status == 400
    assert plane.plane.counters.empty_content_length_header == count
    assert plane.plane.counters.bad_requests == 1


def test_http_2_preface_is_a_request_without_a_host(plane: RunningPlane, client: RawClient) -> None:
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

    response = client.read_response()
    assert (response.status, response.header("X-Cf-RouterError")) == (400, "empty_host")
    assert client.is_closed_by_peer()
    assert plane.plane.counters.requests == 1


def test_other_1_x_version_gets_bare_bytes(client: RawClient) -> None:
    client.send(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n")

    assert client.read_until_end() == b"HTTP/1.0 400 Bad Request\r\n\r\n"


def test_what_cannot_become_http_is_refused_before_its_end(plane: RunningPlane) -> None:
    for octets in (b"\x16\x03\x01", b"SSH-2.0-x\r\n", b"GET /a b c", b"GET / HTTP/1.1\r\nHost: a\n"):
        with plane.client() as client:
            client.send(octets)
            assert client.read_response().status == 400
            assert client.is_closed_by_peer()


def test_head_that_takes_too_long_is_408() -> None:
    with RunningPlane(config(read_header_timeout=0.1)) as plane, ExitStack() as clients:
        with plane.without_deadlines():
            client = clients.enter_context(plane.client())
            client.send(GET[:20])
            wait_until(lambda: plane.only_client()._partial is not None, "head has begun")

        assert client.read_response().status == 408
        assert client.is_closed_by_peer()


def test_connection_on_which_nothing_has_come_is_idle_and_not_late(backend: RecordingBackend) -> None:
    with RunningPlane(config(read_header_timeout=0.1)) as plane:
        plane.route(HOST, backend)
        with plane.client() as ahead, plane.client() as slow:
            wait_until(lambda: len(plane.clients) == 2, "both are connected")
            slow.send(GET[:20])
            assert slow.read_response().status == 408, "as long as a head may take has gone by"
            assert ahead.get(host=HOST).status == 200


def test_head_after_an_idle_time_has_to_be_whole_in_time_too(backend: RecordingBackend) -> None:
    with RunningPlane(config(read_header_timeout=0.1)) as plane, plane.client() as client:
        plane.route(HOST, backend)
        assert client.get(host=HOST).status == 200
        client.send(GET[:1])
        assert client.read_response().status == 408
        assert client.is_closed_by_peer()


def test_idle_connection_is_closed_and_a_busy_one_is_not(plane: RunningPlane) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        wait_until(lambda: len(hasty.clients) == 1, "the idle connection is closed")
        conversation.answer()
        conversation.wait_for_end()

    with (
        RunningPlane(config(frontend_idle_timeout=0.1)) as hasty,
        RecordingBackend(script) as backend,
        ExitStack() as clients,
    ):
        hasty.route(HOST, backend)
        with hasty.without_deadlines():
            idle, busy = (clients.enter_context(hasty.client()) for _ in range(2))
            busy.send(GET)
            wait_until(lambda: backend.requests, "the busy one's request is with the backend")
        assert idle.is_closed_by_peer()
        assert busy.read_response().status == 200


# Drain, and the rest.


def test_drain_closes_idle_clients_and_busy_ones_after_their_answer(plane: RunningPlane) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        wait_until(lambda: len(plane.clients) == 1, "idle client is closed")
        conversation.answer()
        conversation.wait_for_end()

    with RecordingBackend(script) as backend, plane.client() as busy, plane.client() as idle:
        plane.route(HOST, backend)
        busy.send(GET + GET)
        wait_until(lambda: backend.requests and len(plane.clients) == 2, "request at the backend")
        plane.call(plane.plane.drain)

        assert idle.is_closed_by_peer()
        assert busy.read_response().header("connection") == "close"
        assert busy.is_closed_by_peer()
        # Its second request, which nobody reads, makes the connection linger.
        busy.close()
        wait_until(plane.plane.is_drained, "drain is over")
        with pytest.raises(OSError, match="refused"):
            plane.client()


@pytest.mark.parametrize("earlier", [0, 1])
def test_request_that_crosses_with_a_drain_is_served(
    plane: RunningPlane, backend: RecordingBackend, monkeypatch: pytest.MonkeyPatch, earlier: int
) -> None:
    monkeypatch.setattr(http1, "LAST_REQUEST_S", 30.0)
    with plane.client() as client:
        for _ in range(earlier):
            client.get(host=HOST)
        plane.only_client()
        plane.call(plane.plane.drain)

        assert client.get(host=HOST).header("connection") == "close"
        assert client.is_closed_by_peer()
    wait_until(plane.plane.is_drained, "drain is over")


def test_drain_does_not_wait_long_for_a_request(plane: RunningPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "LAST_REQUEST_S", 0.05)
    with plane.client() as client:
        plane.only_client()
        plane.call(plane.plane.drain)

        assert client.is_closed_by_peer()
    wait_until(plane.plane.is_drained, "drain is over")


def test_long_head_is_not_remembered_by_the_idle_connection(plane: RunningPlane, client: RawClient) -> None:
    connection = plane.only_client()
    client.get(host="unknown.test", headers="A: 1\r\n")
    assert connection._head is not None

    client.get(host="unknown.test", headers="A: 1\r\n" * 2000)
    wait_until(lambda: connection._head is None, "head is forgotten")

    assert client.get(host="unknown.test").status == 404


def test_half_read_request_is_still_served_while_draining(plane: RunningPlane, backend: RecordingBackend) -> None:
    with plane.client() as client:
        client.send(GET[:20])
        connection = plane.only_client()
        wait_until(lambda: connection._partial is not None, "head has begun")
        plane.call(plane.plane.drain)
        assert not plane.plane.is_drained()
        client.send(GET[20:])

        assert client.read_response().header("connection") == "close"


def test_failure_of_the_router_itself_costs_one_request(
    plane: RunningPlane, client: RawClient, backend: RecordingBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken router")

    with monkeypatch.context() as patch:
        patch.setattr(plane.plane.proxy.balancer, "choose", fail)
        client.send(GET)
        response = client.read_response()
        assert (response.status, response.header("X-Cf-RouterError")) == (502, "unknown_failure")
        assert client.is_closed_by_peer()

    assert "panic-check" in plane.messages()
    with plane.client() as other:
        assert other.get(host=HOST).status == 200


def test_reset_of_a_client_is_no_error(plane: RunningPlane) -> None:
    client = plane.client()
    plane.only_client()
    client.send(GET[:10])
    client.reset()

    wait_until(lambda: not plane.clients, "connection is gone")
    assert plane.log == []


def test_peer_is_known_by_address_and_port(plane: RunningPlane, client: RawClient) -> None:
    connection = plane.only_client()
    port = client.socket.getsockname()[1]

    assert (connection.peer, connection.peer_ip) == (b"127.0.0.1:%d" % port, b"127.0.0.1")


def test_ipv6_peers_are_written_in_brackets_and_mapped_ones_plainly(plane: RunningPlane) -> None:
    for address, peer in (("::1", b"[::1]:5"), ("::ffff:10.0.0.1", b"10.0.0.1:5")):
        connection = plane.plane.acceptor.factory("http", 80)()
        assert isinstance(connection, http1.ClientConnection)
        plane.plane._clients.discard(connection)
        connection.connection_made(Wire({"peername": (address, 5, 0, 0)}))
        plane.plane._clients.discard(connection)
        assert connection.peer == peer
