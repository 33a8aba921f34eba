"""Streams of the engine: how they open and close, what may come on them, and when no more."""

import pytest

from router.wire.http2 import Engine
from router.wire.http2_frames import StreamFault
from router.wire.http2_hpack import Field
from router.wire.http2_limits import Limits
from tests.support.h2engine import Heard, Peer, outcome
from tests.support.h2peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    HEADERS,
    NO_ERROR,
    PADDED,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    block,
    frame,
    get,
    headers,
    priority,
    reset,
    settings,
    split,
    window_update,
)

OPEN = END_HEADERS
CLOSED = END_HEADERS | END_STREAM
GET = block(get())
POST_5 = [*get(method="POST"), ("content-length", "5")]


# Streams.


def test_a_request_with_body_and_trailers_is_heard_whole() -> None:
    peer = Peer()
    peer.send(
        frame(HEADERS, PADDED | WITH_PRIORITY, 1, b"\x03" + bytes(5) + GET[:7] + bytes(3)),
        frame(CONTINUATION, END_HEADERS, 1, GET[7:]),
        frame(DATA, PADDED, 1, b"\x02he\0\0"),
        frame(DATA, 0, 1, b"llo"),
        headers(1, [("x-sum", "9")]),
    )
    heard = peer.heard[1]
    assert heard.fields[0] == (b":method", b"GET")
    assert (b"".join(heard.body), heard.trailers_heard, heard.ended) == (b"hello", [(b"x-sum", b"9")], True)


def test_a_stream_closes_when_both_sides_have_ended() -> None:
    peer = Peer()
    peer.send(headers(1, get()))
    peer.answer(1)
    assert [(each.kind, each.ended) for each in peer.output()] == [(HEADERS, False), (DATA, True)]
    assert peer.engine.streams == {}


LATE = frame(DATA, 0, 1, b"x")


@pytest.mark.parametrize(("late", "error"), [(headers(1, get()), STREAM_CLOSED), (LATE, (1, STREAM_CLOSED))])
def test_after_the_end_of_both_sides_nothing_may_come(late: bytes, error: tuple[int, int] | int) -> None:
    peer = Peer()
    peer.send(headers(1, get()))
    peer.answer(1)
    assert outcome(peer.output()) is None
    peer.send(late)
    assert outcome(peer.output()) == error


@pytest.mark.parametrize("late", [headers(1, get()), LATE])
def test_as_long_as_the_peer_cannot_know_our_end_the_stream_is_half_closed_for_it(late: bytes) -> None:
    peer = Peer()
    peer.send(headers(1, get()), headers(3, get()))
    peer.answer(3, bytes(9000))
    peer.answer(1)
    peer.send(late)
    assert outcome(peer.output()) == (1, STREAM_CLOSED)
    assert peer.engine.failed is None


@pytest.mark.parametrize(("taken", "error"), [(False, (1, STREAM_CLOSED)), (True, STREAM_CLOSED)])
def test_an_end_ahead_of_the_peers_own_counts_from_when_it_was_sent(
    taken: bool, error: tuple[int, int] | int
) -> None:
    peer = Peer()
    peer.send(headers(1, POST_5, OPEN))
    peer.answer(1)
    if taken:
        peer.output()
    peer.send(frame(DATA, END_STREAM, 1, b"hello"), headers(1, get()))
    assert outcome(peer.output()) == error


def test_a_window_by_0_is_an_error_even_after_the_end() -> None:
    peer = Peer()
    peer.send(headers(1, get()))
    peer.answer(1)
    peer.send(window_update(1, 0))
    assert outcome(peer.output()) == (1, PROTOCOL_ERROR)


def test_ids_of_long_ago_are_still_too_low() -> None:
    peer = Peer()
    for stream_id in range(1, 801, 2):
        peer.send(headers(stream_id, get()))
        peer.answer(stream_id)
    peer.output()
    peer.send(headers(1, get()))
    assert outcome(peer.output()) == PROTOCOL_ERROR


# What still comes when the answer is complete.


def answered_early(length: int = 5) -> Peer:
    """A request of which nobody wants the body that it announces."""
    peer = Peer()
    peer.send(headers(1, [*get(method="POST"), ("content-length", str(length))], OPEN))
    peer.answer(1)
    peer.engine.drop_rest(peer.heard[1])
    assert outcome(peer.output()) is None
    return peer


def test_a_body_that_ends_soon_after_an_early_answer_needs_no_reset() -> None:
    peer = answered_early()
    peer.send(frame(DATA, END_STREAM, 1, b"hello"))
    assert peer.output() == []
    assert peer.engine.streams == peer.engine.lingering == {}


@pytest.mark.parametrize(
    "late",
    [
        frame(DATA, END_STREAM, 1, b"long body"),
        frame(DATA, END_STREAM, 1, b"tiny"),
        headers(1, get(), OPEN),
        window_update(1, 0),
    ],
)
def test_what_comes_after_an_early_answer_is_held_to_the_protocol(late: bytes) -> None:
    peer = answered_early()
    peer.send(late)
    assert outcome(peer.output()) == (1, PROTOCOL_ERROR)
    assert peer.engine.lingering == {}


def test_a_long_body_after_an_early_answer_is_told_to_stop() -> None:
    peer = answered_early(1_000_000)
    for _ in range(3):
        peer.send(frame(DATA, 0, 1, bytes(16384)))
    assert peer.output() == []
    peer.send(frame(DATA, 0, 1, bytes(16384)))
    assert outcome(peer.output()) == (1, NO_ERROR)


def test_a_body_that_had_come_before_an_early_answer_counts_too() -> None:
    peer = Peer()
    peer.send(headers(1, get(method="POST"), OPEN))
    peer.engine.withhold_body(peer.heard[1])
    peer.send(*[frame(DATA, 0, 1, bytes(16384))] * 4)
    peer.answer(1)
    assert outcome(peer.output()) is None
    peer.engine.drop_rest(peer.heard[1])
    assert outcome(peer.output()) == (1, NO_ERROR)


def test_a_body_that_does_not_end_after_an_early_answer_is_told_to_stop_at_the_second_look() -> None:
    peer = answered_early()
    peer.engine.dismiss_lingering(False)
    assert peer.output() == []
    peer.engine.dismiss_lingering(False)
    assert outcome(peer.output()) == (1, NO_ERROR)


def test_who_lingers_makes_room_for_new_streams() -> None:
    peer = Peer(Limits(streams=1))
    peer.send(headers(1, get(), OPEN))
    peer.answer(1)
    peer.engine.drop_rest(peer.heard[1])
    peer.send(headers(3, get()))
    assert outcome(peer.output()) == (1, NO_ERROR)
    assert list(peer.engine.streams) == [3]


@pytest.mark.parametrize("late", [window_update(1, 5), reset(1), priority(1)])
def test_frames_that_may_have_crossed_the_end_are_ignored(late: bytes) -> None:
    peer = Peer()
    peer.send(headers(1, get()))
    peer.answer(1)
    peer.send(late)
    assert outcome(peer.output()) is None


def test_what_crosses_our_reset_is_ignored_but_decoded() -> None:
    peer = Peer()
    peer.send(headers(1, get(), OPEN))
    peer.engine.reset(peer.heard[1], NO_ERROR)
    peer.output()
    entry = b"\x40\x03x-a\x01b"
    peer.send(
        frame(DATA, 0, 1, b"late"), frame(HEADERS, CLOSED, 1, entry), frame(HEADERS, CLOSED, 3, GET + b"\xbe")
    )
    assert outcome(peer.output()) is None
    assert peer.heard[3].fields[-1] == (b"x-a", b"b")


def test_resets_of_long_ago_are_forgotten_without_harm() -> None:
    peer = Peer()
    for stream_id in range(1, 801, 2):
        peer.send(headers(stream_id, get(), OPEN))
        peer.engine.reset(peer.heard[stream_id], NO_ERROR)
    peer.output()
    peer.send(frame(DATA, 0, 1, b"late"), headers(1, [("a", "b")]))
    assert outcome(peer.output()) is None


# Faults, and too many.


def test_a_fault_on_one_stream_leaves_the_others_alone() -> None:
    peer = Peer()
    peer.send(headers(1, POST_5, OPEN), headers(3, get()), frame(DATA, END_STREAM, 1, b"x"))
    peer.answer(3)
    assert (peer.heard[1].codes, peer.heard[3].codes) == ([PROTOCOL_ERROR], [])
    assert peer.engine.stream_faults == 1


def test_a_stream_may_refuse_its_head() -> None:
    class Picky(Heard):
        def head_received(self, fields: list[Field], ended: bool) -> None:
            raise StreamFault(self.id, PROTOCOL_ERROR, "no")

    engine = Engine(True, Limits(), lambda _: Picky())
    engine.receive(PREFACE + settings() + headers(1, get()), 0.0)
    assert outcome(split(engine.take_output())[0]) == (1, PROTOCOL_ERROR)
    assert engine.streams == {}


def test_streams_beyond_the_limit_are_refused_until_others_end() -> None:
    peer = Peer(Limits(streams=2))
    peer.send(*[headers(stream_id, get()) for stream_id in (1, 3, 5)])
    assert outcome(peer.output()) == (5, REFUSED_STREAM)
    peer.answer(1)
    peer.output()
    peer.send(headers(7, get()))
    assert set(peer.engine.streams) == {3, 7}
    peer.answer(3)
    peer.engine.held = 1
    peer.send(headers(9, get()))
    assert outcome(peer.output()) == (9, REFUSED_STREAM)


def test_a_header_list_far_above_the_limit_ends_the_connection_before_it_takes_memory() -> None:
    peer = Peer(Limits(list_bytes=10_000))
    bomb = b"\x40\x01a\x7f\xa1\x1e" + bytes(4000)
    peer.send(frame(HEADERS, CLOSED, 1, GET + bomb + b"\xbe" * 8000))
    assert peer.engine.failed is not None
    assert peer.engine.failed.code == ENHANCE_YOUR_CALM
    assert peer.heard == {}


def test_a_header_block_far_above_the_limit_is_not_even_gathered() -> None:
    peer = Peer(Limits(list_bytes=10_000))
    peer.send(frame(HEADERS, END_STREAM, 1, bytes(16000)), *[frame(CONTINUATION, 0, 1, bytes(16000))] * 6)
    assert peer.engine.failed is not None
    assert peer.engine.failed.code == ENHANCE_YOUR_CALM


# Windows of what is received.


def test_more_than_the_stream_window_is_an_error_of_the_stream() -> None:
    peer = Peer(Limits(window=20_000))
    peer.send(headers(1, get(), OPEN))
    peer.engine.withhold_body(peer.heard[1])
    peer.send(frame(DATA, 0, 1, bytes(16000)), frame(DATA, 0, 1, bytes(4001)))
    assert outcome(peer.output()) == (1, FLOW_CONTROL_ERROR)


def test_more_than_the_connection_window_is_an_error_of_the_connection() -> None:
    peer = Peer()
    peer.engine._receive_window = 10
    peer.send(headers(1, get(), OPEN), frame(DATA, 0, 1, bytes(11)))
    assert outcome(peer.output()) == FLOW_CONTROL_ERROR


def test_a_window_is_given_back_only_to_those_who_take_their_body() -> None:
    peer = Peer(Limits(window=20_000))
    peer.send(headers(1, get(), OPEN), headers(3, get(), OPEN))
    peer.engine.withhold_body(peer.heard[1])
    peer.send(frame(DATA, PADDED, 1, b"\x05" + bytes(12_000)), frame(DATA, 0, 3, bytes(12_000)))
    assert [(each.kind, each.stream_id, each.number()) for each in peer.output()] == [(WINDOW_UPDATE, 3, 12_000)]
    peer.engine.take_body(peer.heard[1])
    assert [(each.kind, each.stream_id, each.number()) for each in peer.output()] == [(WINDOW_UPDATE, 1, 12_001)]


def test_the_connection_window_is_given_back_even_for_streams_that_are_gone() -> None:
    peer = Peer(Limits(window=2**31 - 1))
    peer.send(headers(1, get(), OPEN))
    peer.engine.reset(peer.heard[1], NO_ERROR)
    peer.output()
    for _ in range(513):
        peer.send(frame(DATA, 0, 1, bytes(16384)))
    assert [(each.kind, each.stream_id) for each in peer.output()] == [(WINDOW_UPDATE, 0)]
