"""What an engine sends, and when: windows of streams and the connection, fairness, what waits."""

from router.wire.http2_limits import Limits
from tests.support.h2engine import Peer, outcome
from tests.support.h2peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    FLOW_CONTROL_ERROR,
    HEADERS,
    RST_STREAM,
    Frame,
    get,
    headers,
    reset,
    settings,
    window_update,
)


def asked(streams: int = 1, window: int = 65535) -> Peer:
    """An engine with so many requests whose response heads are out."""
    peer = Peer()
    peer.send(settings((4, window)), *[headers(2 * number + 1, get()) for number in range(streams)])
    for stream in peer.heard.values():
        peer.engine.send_head(stream, [(b":status", b"200")], [], False)
    peer.output()
    return peer


def sizes(frames: list[Frame]) -> list[tuple[int, int]]:
    return [(each.stream_id, len(each.payload)) for each in frames if each.kind == DATA]


def test_a_body_is_cut_into_frames_everybody_takes() -> None:
    peer = asked()
    peer.engine.send_body(peer.heard[1], bytes(40_000), True)
    frames = peer.output()
    assert sizes(frames) == [(1, 16384), (1, 16384), (1, 7232)]
    assert [each.ended for each in frames] == [False, False, True]


def test_what_the_stream_window_does_not_let_go_waits_and_is_announced_once() -> None:
    peer = asked(window=10)
    stream = peer.heard[1]
    peer.engine.send_body(stream, b"x" * 20_000, False)
    peer.engine.send_body(stream, b"y" * 5, False)
    assert (sizes(peer.output()), stream.told, stream.pending_bytes) == ([(1, 10)], ["full"], 19_995)
    peer.send(window_update(1, 10_000))
    assert (sizes(peer.output()), stream.told) == ([(1, 10_000)], ["full"])
    peer.send(window_update(1, 5000))
    assert stream.told == ["full", "writable"]
    peer.send(window_update(1, 50_000))
    assert sum(size for _, size in sizes(peer.output())) == 20_005 - 10_010
    assert peer.engine.blocked == {}


def test_a_stream_without_window_does_not_hold_up_its_neighbours() -> None:
    peer = asked(streams=2, window=0)
    peer.engine.send_body(peer.heard[1], bytes(30_000), True)
    peer.engine.send_body(peer.heard[3], b"quick", True)
    peer.send(window_update(3, 100))
    assert sizes(peer.output()) == [(3, 5)]
    assert list(peer.engine.streams) == [1]


def test_the_connection_window_is_shared_a_frame_each() -> None:
    peer = asked(streams=3, window=1 << 20)
    for stream in peer.heard.values():
        peer.engine.send_body(stream, bytes(70_000), True)
    peer.output()
    peer.send(window_update(0, 6 * 16384))
    assert [stream_id for stream_id, _ in sizes(peer.output())] == [1, 3, 5, 3, 5]


def test_an_end_needs_no_window() -> None:
    peer = asked(window=0)
    peer.engine.send_end(peer.heard[1], [])
    assert [(each.kind, each.ended, each.payload) for each in peer.output()] == [(DATA, True, b"")]


def test_trailers_follow_the_body_that_waits() -> None:
    peer = asked(window=3)
    peer.engine.send_body(peer.heard[1], b"hello", False)
    peer.engine.send_end(peer.heard[1], [b"X-Sum: 9"])
    assert sizes(peer.output()) == [(1, 3)]
    peer.send(window_update(1, 10))
    data, trailers = peer.output()
    assert (data.payload, data.ended, trailers.kind, trailers.ended) == (b"lo", False, HEADERS, True)
    assert peer.engine.streams == {}


def test_the_end_that_comes_after_the_last_waiting_byte_is_sent_with_it() -> None:
    peer = asked(window=3)
    peer.engine.send_body(peer.heard[1], b"hello", False)
    peer.engine.send_end(peer.heard[1], [])
    peer.output()
    peer.send(window_update(1, 10))
    assert [(each.payload, each.ended) for each in peer.output()] == [(b"lo", True)]


def test_an_end_needs_no_window_even_if_it_is_negative() -> None:
    peer = asked(window=100)
    peer.engine.send_body(peer.heard[1], bytes(100), False)
    peer.send(settings((4, 40)))
    peer.output()
    peer.engine.send_body(peer.heard[1], b"", True)
    assert [(len(each.payload), each.ended) for each in peer.output()] == [(0, True)]


def test_a_smaller_initial_window_makes_windows_negative_and_they_recover() -> None:
    peer = asked(window=100)
    peer.engine.send_body(peer.heard[1], bytes(150), True)
    peer.send(settings((4, 40)))
    peer.output()
    assert peer.heard[1].send_window == -60
    peer.send(window_update(1, 60))
    assert sizes(peer.output()) == []
    peer.send(window_update(1, 30))
    assert sizes(peer.output()) == [(1, 30)]
    peer.send(settings((4, 100)))
    assert sizes(peer.output()) == [(1, 20)]


def test_a_window_may_become_as_large_as_it_can_and_no_larger() -> None:
    peer = asked()
    peer.send(window_update(1, 2**31 - 1 - 65535))
    assert outcome(peer.output()) is None
    peer.send(window_update(1, 1))
    assert outcome(peer.output()) == (1, FLOW_CONTROL_ERROR)


def test_while_the_connection_takes_nothing_bodies_wait() -> None:
    peer = asked()
    peer.engine.writable = False
    peer.engine.send_body(peer.heard[1], bytes(20_000), True)
    assert (sizes(peer.output()), peer.heard[1].told) == ([], ["full"])
    peer.engine.writable = True
    peer.engine.pump()
    assert [size for _, size in sizes(peer.output())] == [16384, 3616]
    assert peer.heard[1].told == ["full", "writable"]


def test_one_go_sends_no_more_than_a_connection_should_hold() -> None:
    peer = asked(streams=9, window=1 << 20)
    peer.engine.writable = False
    peer.send(window_update(0, 1 << 24))
    for stream in peer.heard.values():
        peer.engine.send_body(stream, bytes(100_000), True)
    peer.engine.writable = True
    peer.engine.pump()
    assert sum(size for _, size in sizes(peer.output())) < 200_000
    assert peer.engine.more_to_send
    total = 0
    while peer.engine.more_to_send:
        peer.engine.pump()
        total += sum(size for _, size in sizes(peer.output()))
    assert peer.engine.streams == {}


def test_cancelled_streams_keep_nothing() -> None:
    peer = asked(window=0)
    stream = peer.heard[1]
    peer.engine.send_body(stream, bytes(20_000), True)
    peer.send(reset(1))
    assert (stream.pending_bytes, peer.engine.blocked, stream.codes) == (0, {}, [8])


def test_a_reset_is_sent_once_and_ends_the_stream() -> None:
    peer = asked()
    peer.engine.reset(peer.heard[1], 2)
    peer.engine.reset(peer.heard[1], 2)
    assert [(each.kind, each.number()) for each in peer.output()] == [(RST_STREAM, 2)]


def test_after_a_whole_response_the_rest_of_the_request_is_not_wanted() -> None:
    peer = Peer(Limits())
    peer.send(headers(1, get(), END_HEADERS))
    peer.engine.drop_rest(peer.heard[1])
    peer.answer(1)
    peer.engine.dismiss_lingering(True)
    kinds = [each.kind for each in peer.output()]
    assert kinds == [HEADERS, DATA, RST_STREAM]


def test_long_heads_are_continued() -> None:
    peer = asked()
    peer.engine.send_head(
        peer.heard[1], [], [b"X-%d: " % number + bytes(b"v" * 2000) for number in range(20)], True
    )
    kinds = [(each.kind, bool(each.flags & END_HEADERS)) for each in peer.output()]
    assert kinds == [(HEADERS, False), (CONTINUATION, False), (CONTINUATION, True)]
