"""HTTP/2 connections with a look inside: time-outs, drain, floods, back-pressure; raw frames over real sockets."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from router.frontend.http2 import Http2Connection
from tests.support.h2peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INTERNAL_ERROR,
    NO_ERROR,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS_TIMEOUT,
    WINDOW_UPDATE,
    H2Peer,
    block,
    frame,
    get,
    headers,
    priority,
    reset,
    settings,
    window_update,
)
from tests.support.plane import RunningPlane, config
from tests.support.recorder import Conversation, RecordingBackend, Script, plain, silent
from tests.support.waiting import PATIENCE_S, wait_until

HOST = "app.test"
MIB = 1024 * 1024


@pytest.fixture
def plane() -> Iterator[RunningPlane]:
    with RunningPlane(config(enable_http2_cleartext=True)) as running:
        yield running


@pytest.fixture
def backend(plane: RunningPlane) -> Iterator[RecordingBackend]:
    with RecordingBackend(plain) as running:
        plane.route(HOST, running)
        yield running


@pytest.fixture
def peer(plane: RunningPlane, backend: RecordingBackend) -> Iterator[H2Peer]:
    with H2Peer(plane.port) as connected:
        yield connected


def connection_of(plane: RunningPlane) -> Http2Connection:
    wait_until(
        lambda: any(isinstance(each, Http2Connection) for each in plane.clients), "the client speaks HTTP/2"
    )
    return next(each for each in plane.clients if isinstance(each, Http2Connection))


def large(size: int) -> Script:
    def script(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(0, size, 65536):
                conversation.send(bytes(min(65536, size)))

    return script


# Life.


def test_one_connection_serves_one_request_after_another(peer: H2Peer, plane: RunningPlane) -> None:
    for stream_id in (1, 3, 5):
        answer = peer.get(stream_id)
        assert (answer.status, answer.body, answer.ended) == (200, b"ok", True)
    assert plane.call(lambda: plane.plane.counters.http2_streams) == 3


def test_an_idle_connection_is_ended_with_goaway() -> None:
    keys = {"enable_http2_cleartext": True, "frontend_idle_timeout": 0.1}
    with RunningPlane(config(**keys)) as hasty, RecordingBackend(plain) as backend:
        hasty.route(HOST, backend)
        with ExitStack() as clients:
            with hasty.without_deadlines():
                peer = clients.enter_context(H2Peer(hasty.port))
                assert peer.get().status == 200
            assert peer.error() == NO_ERROR
            assert peer.goaway == [(1, NO_ERROR)]


def test_a_connection_that_never_begins_is_ended() -> None:
    keys = {"enable_http2_cleartext": True, "frontend_idle_timeout": 0.1, "read_header_timeout": 0.1}
    with RunningPlane(config(**keys)) as hasty:
        with H2Peer(hasty.port, begin=False) as silent:
            assert silent.read() is None
        with H2Peer(hasty.port, begin=False) as half:
            half.send(PREFACE[:10])
            assert half.read() is None


@pytest.mark.parametrize(
    "begun",
    [
        PREFACE,
        PREFACE + settings() + frame(HEADERS, END_STREAM, 1, block(get())),
        PREFACE + settings() + headers(1, get())[:20],
        PREFACE + settings() + frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1),
    ],
    ids=["no settings", "no end of headers", "half a frame", "empty continuation"],
)
def test_a_head_that_does_not_come_in_time_ends_the_connection(begun: bytes) -> None:
    with RunningPlane(config(enable_http2_cleartext=True, read_header_timeout=0.1)) as hasty:
        with ExitStack() as clients:
            with hasty.without_deadlines():
                slow = clients.enter_context(H2Peer(hasty.port, begin=False))
                slow.acknowledges = False
                slow.send(begun)
                connection_of(hasty)
            assert slow.error() == SETTINGS_TIMEOUT
        assert hasty.call(lambda: hasty.plane.counters.http2_connection_errors) == 1


def test_the_client_may_say_goodbye(peer: H2Peer) -> None:
    peer.request(1, get())
    peer.send(frame(GOAWAY, 0, 0, bytes(8)))
    assert peer.answer(1).status == 200
    assert peer.read() is None or peer.error() == NO_ERROR


def test_a_broken_connection_hears_why_before_it_ends(peer: H2Peer, plane: RunningPlane) -> None:
    peer.send(frame(PING, 0, 0, b"short"), *[headers(1, get())] * 100)
    assert peer.error() == 6
    wait_until(lambda: not plane.clients, "the connection is gone")
    assert plane.call(lambda: plane.plane.counters.http2_connection_errors) == 1


# Drain.


def test_a_drain_says_goodbye_twice_and_serves_what_is_on_its_way(plane: RunningPlane) -> None:
    go_on = threading.Event()

    def patient(conversation: Conversation) -> None:
        conversation.read_request()
        go_on.wait(PATIENCE_S)
        conversation.answer()

    with RecordingBackend(patient) as backend:
        plane.route(HOST, backend)
        with H2Peer(plane.port) as peer:
            peer.request(1, get())
            wait_until(lambda: backend.requests, "the request has arrived")
            with plane.without_deadlines():
                plane.call(plane.plane.drain)
                first = peer.until(GOAWAY)
                assert (first.number(), first.number(4)) == (2**31 - 1, NO_ERROR)
                peer.request(3, get())
                wait_until(lambda: len(backend.requests) == 2, "the crossing request is served too")
            ping = peer.until(PING)
            peer.send(frame(PING, 1, 0, ping.payload))
            last = peer.until(GOAWAY)
            assert (last.number(), last.number(4)) == (3, NO_ERROR)
            peer.request(5, get())
            go_on.set()
            assert (peer.answer(1).status, peer.answer(3).status) == (200, 200)
            assert peer.error() == NO_ERROR
            assert 5 not in peer.answers
    wait_until(lambda: plane.call(plane.plane.is_drained), "nothing is left")


def test_a_drain_does_not_wait_for_clients_that_do_not_answer(peer: H2Peer, plane: RunningPlane) -> None:
    assert peer.get().status == 200
    plane.call(plane.plane.drain)
    wait_until(lambda: plane.call(plane.plane.is_drained), "nothing is left")
    assert peer.error() == NO_ERROR
    assert [last for last, _ in peer.goaway] == [2**31 - 1, 1]


def test_the_end_of_the_worker_is_told_to_streams_in_progress(plane: RunningPlane) -> None:
    def silent(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        conversation.wait_for_end()

    with RecordingBackend(silent) as backend:
        plane.route(HOST, backend)
        with H2Peer(plane.port) as peer:
            peer.request(1, get())
            peer.until(DATA, 1)
            plane.call(plane.plane.close)
            assert peer.error() == NO_ERROR
            assert (peer.answers[1].body, peer.answers[1].reset) == (b"half", INTERNAL_ERROR)


# Back-pressure.


def test_a_stream_that_is_not_read_neither_stalls_its_neighbours_nor_fills_memory(plane: RunningPlane) -> None:
    with RecordingBackend(large(64 * MIB)) as endless, RecordingBackend(plain) as quick:
        plane.route("large.test", endless)
        plane.route("quick.test", quick)
        with H2Peer(plane.port) as peer:
            peer.send(window_update(0, 2**30))
            for stream_id in (1, 3, 5):
                peer.request(stream_id, get("large.test"))
            for stream_id in range(7, 47, 2):
                assert peer.get(stream_id, "quick.test").body == b"ok"
            engine = connection_of(plane).engine

            def waiting() -> list[int]:
                peer.synchronise()
                return plane.call(lambda: [stream.pending_bytes for stream in engine.blocked.values()])

            wait_until(lambda: len(waiting()) == 3, "each has as much as it may")
            assert max(waiting()) <= 2 * 65536 + 16384
            assert all(len(peer.answers[stream_id].body) <= 65535 for stream_id in (1, 3, 5))


def test_what_was_held_back_comes_when_the_window_opens(plane: RunningPlane) -> None:
    with RecordingBackend(large(2 * MIB)) as endless:
        plane.route(HOST, endless)
        with H2Peer(plane.port) as peer:
            peer.request(1, get())
            while not (answer := peer.answers.get(1)) or not answer.ended:
                got = peer.read()
                assert got is not None
                if got.kind == DATA:
                    peer.send(window_update(0, len(got.payload) or 1), window_update(1, len(got.payload) or 1))
            assert len(answer.body) == 2 * MIB


def test_a_client_that_reads_nothing_from_its_socket_stops_the_backend(plane: RunningPlane) -> None:
    with RecordingBackend(large(64 * MIB)) as endless:
        plane.route(HOST, endless)
        with H2Peer(plane.port, (4, 2**31 - 1), receive_buffer=4096) as peer:
            peer.send(window_update(0, 2**31 - 1 - 65535))
            peer.request(1, get())
            engine = connection_of(plane).engine
            wait_until(lambda: plane.call(lambda: not engine.writable and engine.blocked), "the router waits")
            stream = engine.streams[1]
            assert plane.call(lambda: stream.pending_bytes) <= 2 * 65536 + 16384


def test_a_body_comes_only_as_fast_as_the_backend_takes_it(plane: RunningPlane) -> None:
    go_on = threading.Event()

    def slow(conversation: Conversation) -> None:
        request = conversation.read_head()
        go_on.wait(PATIENCE_S)
        conversation.read_body(request)
        conversation.answer(b"%d" % len(request.body))

    size = 16 * MIB
    with RecordingBackend(slow) as backend, RecordingBackend(plain) as quick:
        plane.route(HOST, backend)
        plane.route("quick.test", quick)
        with H2Peer(plane.port) as peer:
            peer.send(headers(1, [*get(method="POST"), ("content-length", str(size))], END_HEADERS))
            sent = send_while_allowed(peer, 0, size)
            assert sent < size
            assert peer.get(3, "quick.test").body == b"ok"
            go_on.set()
            while (sent := send_while_allowed(peer, sent, size)) < size:
                peer.until(WINDOW_UPDATE, 1)
            assert peer.answer(1).body == b"%d" % size


def send_while_allowed(peer: H2Peer, sent: int, size: int) -> int:
    """Send body on stream 1 until its window stays closed; returns how much of it is out."""
    while sent < size:
        if sent + 16384 > 131072 + peer.credit.get(1, 0):
            known = peer.credit.get(1, 0)
            peer.synchronise()
            if peer.credit.get(1, 0) == known:
                break
            continue
        sent += 16384
        peer.send(frame(DATA, END_STREAM if sent == size else 0, 1, bytes(16384)))
    return sent


def test_a_response_nobody_takes_is_given_up() -> None:
    keys = {"enable_http2_cleartext": True, "http2_stall_timeout": 0.1}
    with RunningPlane(config(**keys)) as hasty, RecordingBackend(large(MIB)) as backend:
        hasty.route(HOST, backend)
        with H2Peer(hasty.port, (4, 0)) as peer:
            peer.request(1, get())
            assert peer.answer(1).reset == ENHANCE_YOUR_CALM
            wait_until(hasty.is_idle, "the exchange is over")
            assert hasty.call(lambda: hasty.plane.counters.http2_stalled_streams) == 1
            peer.request(3, get("unknown.test"))
            peer.until(HEADERS, 3)
            assert peer.answers[3].status == 404


# Floods.


def flood_plane(**keys: int) -> RunningPlane:
    return RunningPlane(config(enable_http2_cleartext=True, **keys))


@pytest.mark.parametrize(
    "useless",
    [
        frame(PING, 0, 0, bytes(8)),
        settings(),
        priority(1),
        window_update(0, 1),
        frame(0xF0, 0, 0),
        frame(DATA, 0, 1),
        frame(RST_STREAM, 0, 3, bytes(4)),
    ],
    ids=["ping", "settings", "priority", "window", "unknown", "empty data", "reset"],
)
def test_floods_are_cut_off_and_harm_nobody_else(
    plane: RunningPlane, backend: RecordingBackend, useless: bytes
) -> None:
    with H2Peer(plane.port) as good, H2Peer(plane.port) as bad:
        bad.send(headers(1, get(method="POST"), END_HEADERS), headers(3, get()))
        assert good.get(1).status == 200
        bad.send(useless * 20_000)
        assert bad.error() == ENHANCE_YOUR_CALM
        assert good.get(3).status == 200
    assert plane.call(lambda: plane.plane.counters.http2_floods) == 1


def test_small_frames_beyond_the_limit_are_read_later_and_harm_nobody() -> None:
    with flood_plane(http2_max_small_frames=2000) as plane, RecordingBackend(plain) as backend:
        plane.route(HOST, backend)
        with H2Peer(plane.port) as good, H2Peer(plane.port) as bad:
            bad.send(headers(1, get(method="POST"), END_HEADERS), frame(DATA, 0, 1, b"x") * 5000)
            wait_until(lambda: plane.call(lambda: plane.plane.counters.http2_slowed_connections), "it is slowed")
            assert good.get(1).status == 200
            bad.send(frame(DATA, END_STREAM, 1))
            assert bad.answer(1).status == 200
            assert bad.get(3).status == 200
        (upload,) = [request for request in backend.requests if request.method == "POST"]
        assert upload.body == b"x" * 5000
        assert plane.call(lambda: plane.plane.counters.http2_slowed_connections) == 1


def test_rapid_resets_reach_the_backend_a_few_times_only(plane: RunningPlane) -> None:
    with RecordingBackend(silent) as backend:
        plane.route(HOST, backend)
        with H2Peer(plane.port) as bad:
            for start in range(1, 40_001, 2000):
                bad.send(*[headers(number, get()) + reset(number) for number in range(start, start + 2000, 2)])
            assert bad.error() == ENHANCE_YOUR_CALM
        wait_until(plane.is_idle, "all exchanges are over")
        backend.settle()
        assert len(backend.requests) <= 200


def test_streams_beyond_the_limit_are_refused() -> None:
    go_on = threading.Event()

    def patient(conversation: Conversation) -> None:
        conversation.read_request()
        go_on.wait(PATIENCE_S)
        conversation.answer()

    with flood_plane(http2_max_concurrent_streams=3) as few, RecordingBackend(patient) as backend:
        few.route(HOST, backend)
        with H2Peer(few.port) as peer:
            peer.send(*[headers(number, get()) for number in (1, 3, 5, 7)])
            assert peer.answer(7).reset == REFUSED_STREAM
            go_on.set()
            assert [peer.answer(number).status for number in (1, 3, 5)] == [200] * 3
            assert peer.get(9).status == 200
        assert few.call(lambda: few.plane.counters.http2_refused_streams) == 1


def test_many_streams_at_once_are_all_answered(peer: H2Peer) -> None:
    peer.send(*[headers(number, get()) for number in range(1, 501, 2)])
    assert {peer.answer(number).status for number in range(1, 501, 2)} == {200}


def test_a_header_bomb_ends_the_connection(peer: H2Peer, plane: RunningPlane) -> None:
    bomb = b"\x40\x01a\x7f\xa1\x1e" + bytes(4000)
    peer.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(get()) + bomb + b"\xbe" * 12_000))
    assert peer.error() == ENHANCE_YOUR_CALM


def test_malformed_streams_are_counted(peer: H2Peer, plane: RunningPlane) -> None:
    peer.request(1, [*get(), ("connection", "close")])
    assert peer.answer(1).reset == PROTOCOL_ERROR
    assert peer.get(3).status == 200
    assert plane.call(lambda: plane.plane.counters.http2_stream_errors) == 1


def test_a_client_that_goes_cancels_all_its_requests(plane: RunningPlane) -> None:
    with RecordingBackend(silent) as backend:
        plane.route(HOST, backend)
        with H2Peer(plane.port) as peer:
            peer.send(*[headers(number, get()) for number in (1, 3, 5)])
            wait_until(lambda: len(backend.requests) == 3, "the requests have arrived")
        wait_until(lambda: not backend.open_conversations(), "the backend is let go of")
        assert plane.call(lambda: plane.plane.counters.client_aborts) == 3
