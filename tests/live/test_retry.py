"""Behaviour 9 and the choice of endpoints: what is tried again, where, how often, and what never is."""

import collections
import random
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.ports import free_port
from tests.support.rawclient import RawClient
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend, named, silent
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture
def client(live: Live) -> Iterator[RawClient]:
    with live.client() as connected:
        yield connected


@pytest.fixture(scope="module")
def least(start_live: StartLive) -> Live:
    return start_live({"balancing_algorithm": "least-connection"})


@pytest.fixture(scope="module")
def single(start_live: StartLive) -> Live:
    """A router that makes one attempt: ``max_attempts`` 0 counts as 1."""
    return start_live({"backends": {"max_attempts": 0}})


def lose(how: str) -> Callable[[Conversation], None]:
    """A backend that reads a request and loses the connection without an answer."""

    def script(conversation: Conversation) -> None:
        conversation.read_request()
        if how == "reset":
            conversation.reset()

    return script


def bodies(client: RawClient, host: str, count: int) -> "collections.Counter[str]":
    return collections.Counter(client.get(host=host).body.decode() for _ in range(count))


# Round-robin and least-connection.


def test_round_robin_gives_every_endpoint_its_share(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    host = live.route(*(make_backend(named(name)) for name in "abc"))
    order = [client.get(host=host).body for _ in range(9)]
    assert order[:3] * 3 == order
    assert sorted(order[:3]) == [b"a", b"b", b"c"]


def test_least_connection_prefers_the_idle_endpoint(least: Live, make_backend: MakeBackend) -> None:
    hanging = make_backend(silent)
    host = least.route(hanging)
    with least.client() as occupant, least.client() as client:
        occupant.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        wait_until(lambda: hanging.requests, "one request is in flight")
        least.route(make_backend(named("idle")), host=host)
        assert bodies(client, host, 20) == {"idle": 20}


def test_least_connection_of_a_route_wins_over_the_global_algorithm(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    hanging = make_backend(silent)
    host = live.route(hanging)
    with live.client() as occupant:
        occupant.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        wait_until(lambda: hanging.requests, "one request is in flight")
        live.route(make_backend(named("idle")), host=host, options={"loadbalancing": "least-connection"})
        assert bodies(client, host, 20) == {"idle": 20}


def test_least_connection_never_picks_a_tried_endpoint_again(least: Live, make_backend: MakeBackend) -> None:
    """With two dead endpoints of three and three attempts every request finds the third."""
    host = least.route(make_backend(named("alive")))
    for _ in range(2):
        least.announcer.register(host, port=free_port())
    least.routes.settle()
    with least.client() as client:
        assert bodies(client, host, 60) == {"alive": 60}


def test_least_connection_with_one_dead_endpoint_tries_it_once(least: Live) -> None:
    host = least.host()
    least.routes.register(host, backend=free_port())
    with least.client() as client:
        assert client.get(host=host).status == 502


# What is retried.


def test_refused_connection_is_retried_elsewhere_for_every_method(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    alive = make_backend(named("alive"))
    host = live.route(alive)
    live.routes.register(host, backend=free_port())
    for number in range(20):
        client.send(f"POST /{number} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello".encode())
        assert client.read_response().body == b"alive"
    assert [request.body for request in alive.requests] == [b"hello"] * 20
    assert [request.target for request in alive.requests] == [f"/{number}" for number in range(20)]


def test_chunked_body_survives_a_retry(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    alive = make_backend(named("alive"))
    host = live.route(alive)
    live.routes.register(host, backend=free_port())
    for _ in range(6):
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".encode())
        client.send(b"0\r\n\r\n")
        assert client.read_response().body == b"alive"
    assert [request.body for request in alive.requests] == [b"abc"] * 6


def test_refusing_endpoint_is_left_alone_for_a_while(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    """A failed endpoint is marked: of the requests that follow only the first meets it."""
    alive = make_backend(named("alive"))
    host = live.route(alive)
    dead = free_port()
    live.routes.register(host, backend=dead)
    assert bodies(client, host, 4) == {"alive": 4}
    with RecordingBackend(named("risen"), port=dead):
        assert bodies(client, host, 10) == {"alive": 10}


def test_all_marked_endpoints_are_as_good_as_none_marked(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    host = live.host()
    ports = [free_port(), free_port()]
    for port in ports:
        live.routes.register(host, backend=port)
    assert client.get(host=host).status == 502
    with RecordingBackend(named("risen"), port=ports[0]):
        assert bodies(client, host, 6) == {"risen": 6}


def test_attempts_are_bounded(live: Live, single: Live, client: RawClient, make_backend: MakeBackend) -> None:
    backends = [make_backend(lose("fin")) for _ in range(5)]
    host = live.route(*backends)
    assert client.get(host=host).status == 502
    assert sum(len(backend.requests) for backend in backends) == 3
    host = single.route(*backends)
    with single.client() as other:
        assert other.get(host=host).status == 502
    assert sum(len(backend.requests) for backend in backends) == 4


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_connection_closed_without_an_answer_is_retried_for_safe_methods(
    method: str, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    losing, alive = make_backend(lose("fin")), make_backend(named("alive"))
    host = live.route(losing, alive)
    for _ in range(4):
        client.send(f"{method} / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        if method == "HEAD":
            # The backend answers with a body, which nobody may relay.
            assert client.read_response("HEAD").status == 200
        else:
            assert client.read_response().body == b"alive"
    assert losing.requests


@pytest.mark.parametrize("header", ["Idempotency-Key: 1", "X-Idempotency-Key: 1"])
def test_idempotency_key_makes_a_bodyless_post_safe(
    header: str, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    losing, alive = make_backend(lose("fin")), make_backend(named("alive"))
    host = live.route(losing, alive)
    for _ in range(4):
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\n{header}\r\nContent-Length: 0\r\n\r\n".encode())
        assert client.read_response().body == b"alive"
    assert losing.requests


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "GET"])
def test_request_that_may_have_been_acted_on_is_not_repeated(
    method: str, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    losing = [make_backend(lose("fin")) for _ in range(2)]
    host = live.route(*losing)
    body = "hello" if method != "DELETE" else ""
    client.send(f"{method} / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    assert client.read_response().status == 502
    assert sum(len(backend.requests) for backend in losing) == 1


def test_reset_after_the_request_went_out_is_not_retried(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    losing = [make_backend(lose("reset")) for _ in range(2)]
    host = live.route(*losing)
    response = client.get(host=host)
    assert response.status == 502
    assert sum(len(backend.requests) for backend in losing) == 1


def test_lost_connections_are_named_in_the_log(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    host = live.route(make_backend(lose("reset")))
    assert client.get(host=host).status == 502
    live.router.wait_for_log("backend-endpoint-failed")


# Dead idle connections.


def _close_when_idle(randomness: random.Random) -> Callable[[Conversation], None]:
    def script(conversation: Conversation) -> None:
        # Each connection lives for a few requests and then idles between 0 and 20 ms before it closes.
        for _ in range(randomness.randrange(1, 4)):
            conversation.read_request()
            conversation.answer()
        # What arrives in the last instant is lost, as with any real server.
        threading.Event().wait(randomness.random() * 0.02)
        conversation.socket.shutdown(socket.SHUT_RDWR)

    return script


def _idle_race(live: Live, make_backend: MakeBackend, rounds: int) -> None:
    host = live.route(make_backend(_close_when_idle(random.Random(11))))
    pauses = random.Random(12)
    statuses: collections.Counter[int] = collections.Counter()
    with live.client() as client:
        for _ in range(rounds):
            statuses[client.get(host=host).status] += 1
            if pauses.random() < 0.3:
                threading.Event().wait(pauses.random() * 0.02)
    assert statuses == {200: rounds}


def test_idle_connections_closed_at_random_never_fail_a_get(live: Live, make_backend: MakeBackend) -> None:
    """Scaled down to 500 requests; the slow twin does more."""
    _idle_race(live, make_backend, 500)


@pytest.mark.slow
def test_idle_connections_closed_at_random_never_fail_two_thousand_gets(
    live: Live, make_backend: MakeBackend
) -> None:
    _idle_race(live, make_backend, 2000)


def test_posts_over_dying_connections_are_never_seen_twice(live: Live, make_backend: MakeBackend) -> None:
    backend = make_backend(_close_when_idle(random.Random(13)))
    host = live.route(backend)
    pauses = random.Random(14)
    failed = 0
    with live.client() as client:
        for number in range(500):
            client.send(f"POST /{number} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi".encode())
            failed += client.read_response().status != 200
            if pauses.random() < 0.3:
                threading.Event().wait(pauses.random() * 0.02)
    counts = collections.Counter(request.target for request in backend.requests)
    assert max(counts.values()) == 1, "a POST was repeated"
    assert failed < 250


def test_connection_that_dies_in_the_pool_is_redialled_in_silence(single: Live, make_backend: MakeBackend) -> None:
    """Even with one attempt: a reused connection found closed has not cost the request anything."""

    def once(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.answer()

    backend = make_backend(once)
    host = single.route(backend)
    with single.client() as client:
        for _ in range(50):
            assert client.get(host=host).status == 200
            wait_until(lambda: all(each.closed for each in backend.conversations), "the connection is closed")


def test_connections_to_backends_are_reused(live: Live, backend: RecordingBackend) -> None:
    host = live.route(backend)
    for _ in range(20):
        with live.client() as client:
            assert client.get(host=host).status == 200
    assert len(backend.conversations) == 1


def test_same_address_under_two_messages_does_not_share_connections(live: Live, backend: RecordingBackend) -> None:
    first, second = live.route(backend), live.route(backend)
    with live.client() as client:
        for host in (first, second, first, second):
            assert client.get(host=host).status == 200
    assert len(backend.conversations) == 2


# Connection limit.


def test_endpoint_at_its_limit_is_skipped(start_live: StartLive, make_backend: MakeBackend) -> None:
    limited = start_live({"backends": {"max_conns": 2}})
    release = threading.Event()

    def hold(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            release.wait(PATIENCE_S)
            conversation.answer(b"held")

    holding = make_backend(hold)
    host = limited.route(holding)
    clients = [limited.client() for _ in range(3)]
    try:
        for occupant in clients[:2]:
            occupant.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        wait_until(lambda: len(holding.requests) == 2, "the endpoint is at its limit")
        response = clients[2].get(host=host)
        assert (response.status, response.header("X-Cf-Routererror")) == (503, "Connection Limit Reached")
        limited.route(make_backend(named("other")), host=host)
        assert bodies(clients[2], host, 10) == {"other": 10}
        release.set()
        assert [occupant.read_response().body for occupant in clients[:2]] == [b"held", b"held"]
        assert set(bodies(clients[2], host, 10)) == {"held", "other"}
    finally:
        release.set()
        for each in clients:
            each.close()


def test_streaming_bodies_do_not_count_towards_the_limit(start_live: StartLive, make_backend: MakeBackend) -> None:
    limited = start_live({"backends": {"max_conns": 1}})

    def stream(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        conversation.wait_for_end()

    host = limited.route(make_backend(stream))
    clients = [limited.client() for _ in range(4)]
    try:
        for each in clients:
            each.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert each.read_line() == b"HTTP/1.1 200 OK\r\n"
    finally:
        for each in clients:
            each.close()


def test_client_that_leaves_before_the_answer_harms_no_endpoint(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    release = threading.Event()

    def hold(conversation: Conversation) -> None:
        while True:
            if conversation.read_request().target == "/hold":
                release.wait(PATIENCE_S)
            conversation.answer()

    backend = make_backend(hold)
    host = live.route(backend)
    with live.client() as leaver:
        leaver.send(f"GET /hold HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        wait_until(lambda: backend.requests, "the request is with the backend")
    assert client.get(host=host).status == 200
    release.set()
