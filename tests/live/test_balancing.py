"""Who gets a request: availability zones, turns, marks, attempts, and the connections they are made on."""

import threading
from pathlib import Path

import pytest

from router.certs import issue, make_ca
from tests.live.conftest import Live, StartLive
from tests.support.certificates import server_context
from tests.support.ports import free_port
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend, named
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture(scope="module")
def zoned(start_live: StartLive) -> Live:
    config = {
        "zone": "z1",
        "balancing_algorithm_az_preference": "locally-optimistic",
        "backends": {"max_attempts": 3},
    }
    return start_live(config)


def answers(live: Live, host: str, count: int) -> set[bytes]:
    with live.client() as client:
        return {client.get(host=host).body for _ in range(count)}


def test_requests_stay_in_the_zone_of_the_router(zoned: Live) -> None:
    host = zoned.host()
    with RecordingBackend(named("here")) as here, RecordingBackend(named("there")) as there:
        zoned.route(there, host=host, availability_zone="z2")
        assert answers(zoned, host, 2) == {b"there"}
        zoned.route(here, host=host, availability_zone="z1")
        assert answers(zoned, host, 6) == {b"here"}


def test_retries_leave_the_zone(zoned: Live) -> None:
    host = zoned.host()
    with RecordingBackend(named("there")) as there:
        zoned.route(there, host=host, availability_zone="z2")
        zoned.routes.register(host, backend=free_port(), availability_zone="z1")
        assert answers(zoned, host, 4) == {b"there"}


def test_zones_make_no_difference_by_default(live: Live) -> None:
    host = live.host()
    with RecordingBackend(named("here")) as here, RecordingBackend(named("there")) as there:
        live.route(here, host=host, availability_zone="")
        live.route(there, host=host, availability_zone="z2")
        assert answers(live, host, 4) == {b"here", b"there"}


# Turns.


def turns(live: Live, host: str, count: int) -> list[str]:
    with live.client() as client:
        return [client.get(host=host).body.decode() for _ in range(count)]


def test_turns_follow_the_order_of_registration(live: Live, make_backend: MakeBackend) -> None:
    names = ["one", "two", "three", "four"]
    host = live.route(*(make_backend(named(name)) for name in names))
    order = turns(live, host, 8)
    start = names.index(order[0])
    assert order == (names[start:] + names[:start]) * 2


def test_turns_are_the_routes_and_not_the_connections(live: Live, make_backend: MakeBackend) -> None:
    host = live.route(*(make_backend(named(name)) for name in ("one", "two")))
    answers = [turns(live, host, 1)[0] for _ in range(6)]
    assert answers[::2] == [answers[0]] * 3
    assert answers[1::2] == [answers[1]] * 3
    assert answers[0] != answers[1]


def test_mark_is_forgotten_after_a_quarter_of_the_stale_threshold(
    start_live: StartLive, make_backend: MakeBackend
) -> None:
    live = start_live({"droplet_stale_threshold": "20s"})
    port = free_port()
    host = live.route(make_backend(named("alive")))
    live.routes.register(host, backend=port)
    assert turns(live, host, 4) == ["alive"] * 4
    with RecordingBackend(named("risen"), port=port) as risen, live.client() as client:
        assert [client.get(host=host).body for _ in range(4)] == [b"alive"] * 4, "it is still marked"
        assert risen.conversations == []
        wait_until(lambda: client.get(host=host).body == b"risen", "the mark is old", every_s=0.1)
        assert {client.get(host=host).body for _ in range(2)} == {b"alive", b"risen"}


def test_retry_goes_on_from_the_endpoint_that_failed(live: Live, make_backend: MakeBackend) -> None:
    """And the next request from the one that answered: the turns of the others are not disturbed."""
    host = live.route(make_backend(named("one")), make_backend(named("two")))
    live.routes.register(host, backend=free_port())
    order = turns(live, host, 7)
    # Once the dead one is marked, the two others alternate.
    assert order[1:] in (["one", "two"] * 3, ["two", "one"] * 3)


# How often is tried.


def failures(live: Live, host: str) -> int:
    return sum(
        line.get("message") == "backend-endpoint-failed" and line["data"]["host"] == host
        for line in live.router.log
    )


@pytest.mark.parametrize(("dead", "attempts"), [(1, 1), (2, 2), (3, 3), (5, 3)])
@pytest.mark.parametrize("algorithm", ["round-robin", "least-connection"])
def test_no_endpoint_is_tried_twice_and_no_more_than_configured(
    algorithm: str, dead: int, attempts: int, live: Live
) -> None:
    host = live.host()
    for _ in range(dead):
        live.routes.register(host, backend=free_port(), options={"loadbalancing": algorithm})
    with live.client() as client:
        assert client.get(host=host).status == 502
    live.router.wait_access_line(host)
    wait_until(lambda: failures(live, host) >= attempts, "each attempt is logged")
    assert failures(live, host) == attempts


def test_attempts_default_to_one(start_live: StartLive, make_backend: MakeBackend) -> None:
    live = start_live({"backends": {"max_attempts": 0}})
    host = live.route(make_backend(named("alive")))
    live.routes.register(host, backend=free_port())
    with live.client() as client:
        statuses = [client.get(host=host).status for _ in range(4)]
    assert statuses.count(502) == 1, "the one that found it dead"


# Connections to endpoints.


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_without_keep_alive_every_request_has_its_own_connection(
    tls: bool, start_live: StartLive, make_backend: MakeBackend, tmp_path: Path
) -> None:
    authority = make_ca()
    context = server_context(issue(authority, ["127.0.0.1"]), tmp_path) if tls else None
    live = start_live({"disable_keep_alives": True, "ca_certs": [authority.pair.certificate]})

    def keep_open(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            conversation.answer()

    backend = make_backend(keep_open, tls=context)
    host = live.route(backend)
    with live.client() as client:
        for number in range(10):
            body = "hello" if number % 2 else ""
            method = "POST" if number % 2 else "GET"
            client.send(
                f"{method} / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            assert client.read_response().status == 200
    assert [len(each.requests) for each in backend.conversations] == [1] * 10
    assert {request.header("Connection") for request in backend.requests} == {"close"}
    wait_until(lambda: backend.open_conversations() == 0, "the router has closed them all")


def test_post_on_a_connection_that_dies_under_it_is_502(live: Live, make_backend: MakeBackend) -> None:
    def once(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.answer()
        conversation.read_request()

    backend = make_backend(once)
    host = live.route(backend)
    with live.client() as client:
        assert client.get(host=host).status == 200
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi".encode())
        response = client.read_response()
    assert (response.status, response.header("X-Cf-Routererror")) == (502, "endpoint_failure (EOF)")
    assert len(backend.requests) == 2


def test_most_idle_connections_are_as_configured(start_live: StartLive, make_backend: MakeBackend) -> None:
    live = start_live({"max_idle_conns_per_host": 2})
    barrier = threading.Barrier(5)

    def together(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            barrier.wait(PATIENCE_S)
            conversation.answer()

    backend = make_backend(together)
    host = live.route(backend)
    clients = [live.client() for _ in range(5)]
    for client in clients:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert [client.read_response().status for client in clients] == [200] * 5
    wait_until(lambda: backend.open_conversations() == 2, "three of five are closed")
    for client in clients:
        client.close()
