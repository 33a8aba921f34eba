"""The choice between HTTP/1 and HTTP/2 by the first bytes of a plain connection."""

from collections.abc import Iterator

import pytest

from tests.support.h2peer import PREFACE, H2Peer, get, headers, settings
from tests.support.plane import RunningPlane, config
from tests.support.recorder import RecordingBackend, plain
from tests.support.waiting import wait_until

HOST = "app.test"
REQUEST = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"


@pytest.fixture
def plane() -> Iterator[RunningPlane]:
    with RunningPlane(config(enable_http2_cleartext=True)) as running, RecordingBackend(plain) as backend:
        running.route(HOST, backend)
        yield running


def test_both_protocols_are_served_on_one_port(plane: RunningPlane) -> None:
    with plane.client() as old, H2Peer(plane.port) as new:
        assert old.get(host=HOST).status == 200
        assert new.get().status == 200


def test_the_first_bytes_may_come_one_by_one(plane: RunningPlane) -> None:
    with plane.client() as old:
        old.send_bytewise(REQUEST)
        assert old.read_response().status == 200
    with H2Peer(plane.port, begin=False) as new:
        new.client.send_bytewise(PREFACE + settings() + headers(1, get()))
        assert new.answer(1).status == 200


def test_what_only_begins_like_the_preface_is_http1(plane: RunningPlane) -> None:
    with plane.client() as other:
        other.send(b"PRI * HTTP/1.1\r\nHost: app.test\r\n\r\n")
        assert other.read_response().status == 400
    with plane.client() as post:
        post.send(b"P")
        post.send(b"OST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n")
        assert post.read_response().status == 200


def test_a_client_that_says_nothing_is_sent_away_and_one_that_goes_is_forgotten() -> None:
    with RunningPlane(config(enable_http2_cleartext=True, frontend_idle_timeout=0.1)) as hasty:
        with hasty.client() as silent:
            assert silent.is_closed_by_peer()
        wait_until(lambda: not hasty.clients, "nobody is left")


def test_a_preface_that_has_begun_has_the_time_of_a_head_and_one_that_has_not_is_awaited() -> None:
    keys = {"enable_http2_cleartext": True, "read_header_timeout": 0.1}
    with RunningPlane(config(**keys)) as hasty, RecordingBackend(plain) as backend:
        hasty.route(HOST, backend)
        with hasty.client() as ahead, hasty.client() as slow:
            wait_until(lambda: len(hasty.clients) == 2, "both are connected")
            slow.send(PREFACE[:10])
            assert slow.is_closed_by_peer()
            assert ahead.get(host=HOST).status == 200


def test_a_drain_does_not_wait_for_a_client_that_has_not_begun(plane: RunningPlane) -> None:
    with plane.client() as silent:
        wait_until(lambda: plane.clients, "the client is accepted")
        plane.call(plane.plane.drain)
        wait_until(lambda: plane.call(plane.plane.is_drained), "nothing is left")
        assert silent.is_closed_by_peer()


def test_without_the_key_a_preface_is_no_request() -> None:
    with RunningPlane(config()) as plain_only, plain_only.client() as client:
        client.send(PREFACE)
        assert client.read_response().status == 400
