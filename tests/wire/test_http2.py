"""The engine frame by frame: what RFC 9113 lets a peer do, and the exact error for everything else."""

import struct

import pytest

from router.wire import http2_frames
from router.wire.http2 import Engine
from router.wire.http2_frames import ConnectionFault
from router.wire.http2_limits import Limits
from tests.support.h2engine import Heard, Peer, outcome
from tests.support.h2peer import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Frame,
    block,
    frame,
    get,
    headers,
    priority,
    reset,
    settings,
    window_update,
)

OPEN = END_HEADERS
CLOSED = END_HEADERS | END_STREAM
GET = block(get())
POST_5 = [*get(method="POST"), ("content-length", "5")]


BAD_PADDING = frame(DATA, PADDED, 1, b"\x06hello")
TABLE: list[tuple[str, list[bytes], tuple[int, int] | int | None]] = [
    # Frames.
    ("unknown_frame_is_ignored", [frame(0xB, 0xFF, 0, b"whatever")], None),
    ("unknown_frame_on_a_stream_is_ignored", [frame(0xB, 0, 5, b"whatever")], None),
    ("undefined_flags_are_ignored", [frame(PING, 0x16, 0, bytes(8))], None),
    ("reserved_bit_is_ignored", [frame(PING, 0, 1 << 31, bytes(8))], None),
    ("data_frame_too_long", [headers(1, get(), OPEN), frame(DATA, 0, 1, bytes(16385))], FRAME_SIZE_ERROR),
    ("headers_frame_too_long", [frame(HEADERS, CLOSED, 1, GET + bytes(16384))], FRAME_SIZE_ERROR),
    ("largest_frame", [headers(1, get(), OPEN), frame(DATA, 0, 1, bytes(16384))], None),
    # Header blocks.
    ("bad_header_block", [frame(HEADERS, CLOSED, 1, b"\x80")], COMPRESSION_ERROR),
    ("block_that_ends_in_a_literal", [frame(HEADERS, CLOSED, 1, b"\x40\x05ab")], COMPRESSION_ERROR),
    ("priority_within_a_block", [frame(HEADERS, END_STREAM, 1, GET), priority(1)], PROTOCOL_ERROR),
    ("unknown_within_a_block", [frame(HEADERS, END_STREAM, 1, GET), frame(0xB, 0, 1)], PROTOCOL_ERROR),
    ("other_streams_block", [frame(HEADERS, END_STREAM, 1, GET), headers(3, get())], PROTOCOL_ERROR),
    (
        "continuation_of_another_stream",
        [frame(HEADERS, END_STREAM, 1, GET), frame(CONTINUATION, END_HEADERS, 3)],
        PROTOCOL_ERROR,
    ),
    ("continuation_first", [frame(CONTINUATION, END_HEADERS, 1, GET)], PROTOCOL_ERROR),
    ("continuation_after_end", [headers(1, get()), frame(CONTINUATION, END_HEADERS, 1, GET)], PROTOCOL_ERROR),
    (
        "continuation_after_continuation_that_ended",
        [
            frame(HEADERS, END_STREAM, 1, GET[:4]),
            frame(CONTINUATION, END_HEADERS, 1, GET[4:]),
            frame(CONTINUATION, END_HEADERS, 1, b""),
        ],
        PROTOCOL_ERROR,
    ),
    ("empty_continuations", [frame(HEADERS, 1, 1, GET), *[frame(CONTINUATION, 0, 1)] * 300], ENHANCE_YOUR_CALM),
    ("headers_without_a_stream", [frame(HEADERS, CLOSED, 0, GET)], PROTOCOL_ERROR),
    ("headers_with_bad_padding", [frame(HEADERS, CLOSED | PADDED, 1, b"\xff" + GET)], PROTOCOL_ERROR),
    ("headers_with_an_even_id", [headers(2, get())], PROTOCOL_ERROR),
    ("headers_with_a_lower_id", [headers(5, get()), headers(3, get())], PROTOCOL_ERROR),
    ("headers_that_depend_on_themselves", [frame(HEADERS, CLOSED | 0x20, 1, bytes(3) + b"\1\7" + GET)], (1, 1)),
    ("headers_too_short_for_priority", [frame(HEADERS, CLOSED | WITH_PRIORITY, 1, b"\0\0")], FRAME_SIZE_ERROR),
    ("second_headers_without_the_end", [headers(1, get(), OPEN), headers(1, get(), OPEN)], (1, PROTOCOL_ERROR)),
    # DATA.
    ("data_without_a_stream", [frame(DATA, 0, 0, b"x")], PROTOCOL_ERROR),
    ("data_on_an_idle_stream", [frame(DATA, 0, 1, b"x")], PROTOCOL_ERROR),
    ("data_with_bad_padding", [headers(1, get(), OPEN), BAD_PADDING], PROTOCOL_ERROR),
    ("data_with_padding_but_no_length", [headers(1, get(), OPEN), frame(DATA, PADDED, 1)], FRAME_SIZE_ERROR),
    ("data_when_half_closed", [headers(1, get()), frame(DATA, 0, 1, b"x")], (1, STREAM_CLOSED)),
    ("headers_when_half_closed", [headers(1, get()), headers(1, get())], (1, STREAM_CLOSED)),
    ("data_after_reset", [headers(1, get(), OPEN), reset(1), frame(DATA, 0, 1, b"x")], (1, STREAM_CLOSED)),
    ("headers_after_reset", [headers(1, get(), OPEN), reset(1), headers(1, get())], (1, STREAM_CLOSED)),
    ("body_too_short", [headers(1, POST_5, OPEN), frame(DATA, END_STREAM, 1, b"abcd")], (1, PROTOCOL_ERROR)),
    ("body_too_long", [headers(1, POST_5, OPEN), frame(DATA, 0, 1, b"abcdef")], (1, PROTOCOL_ERROR)),
    (
        "bodies_too_long",
        [headers(1, POST_5, OPEN), frame(DATA, 0, 1, b"abc"), frame(DATA, END_STREAM, 1, b"def")],
        (1, PROTOCOL_ERROR),
    ),
    (
        "body_too_short_before_trailers",
        [headers(1, POST_5, OPEN), frame(DATA, 0, 1, b"abc"), headers(1, [("a", "b")])],
        (1, PROTOCOL_ERROR),
    ),
    # PRIORITY.
    ("priority_of_an_idle_stream", [priority(9)], None),
    ("priority_without_a_stream", [priority(0)], PROTOCOL_ERROR),
    ("priority_of_a_wrong_length", [frame(PRIORITY, 0, 1, bytes(4))], (1, FRAME_SIZE_ERROR)),
    ("priority_on_itself", [priority(3, 3)], (3, PROTOCOL_ERROR)),
    # RST_STREAM.
    ("reset_without_a_stream", [reset(0)], PROTOCOL_ERROR),
    ("reset_of_an_idle_stream", [reset(1)], PROTOCOL_ERROR),
    ("reset_of_a_stream_of_ours", [reset(2)], PROTOCOL_ERROR),
    ("reset_of_a_wrong_length", [headers(1, get()), frame(RST_STREAM, 0, 1, bytes(3))], FRAME_SIZE_ERROR),
    ("reset_twice", [headers(1, get()), reset(1), reset(1)], None),
    # SETTINGS.
    ("settings_acknowledged_with_a_payload", [frame(SETTINGS, ACK, 0, bytes(6))], FRAME_SIZE_ERROR),
    ("settings_on_a_stream", [frame(SETTINGS, 0, 1)], PROTOCOL_ERROR),
    ("settings_of_a_wrong_length", [frame(SETTINGS, 0, 0, bytes(5))], FRAME_SIZE_ERROR),
    ("unknown_setting", [settings((0xFF, 1))], None),
    ("bad_enable_push", [settings((2, 2))], PROTOCOL_ERROR),
    ("bad_initial_window", [settings((4, 2**31))], FLOW_CONTROL_ERROR),
    ("frame_size_too_small", [settings((5, 16383))], PROTOCOL_ERROR),
    ("frame_size_too_large", [settings((5, 2**24))], PROTOCOL_ERROR),
    ("bad_extended_connect", [settings((8, 2))], PROTOCOL_ERROR),
    # PUSH_PROMISE, PING, GOAWAY.
    ("push_promise", [frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + GET)], PROTOCOL_ERROR),
    ("ping_on_a_stream", [frame(PING, 0, 1, bytes(8))], PROTOCOL_ERROR),
    ("ping_of_a_wrong_length", [frame(PING, 0, 0, bytes(6))], FRAME_SIZE_ERROR),
    ("goaway_on_a_stream", [frame(GOAWAY, 0, 1, bytes(8))], PROTOCOL_ERROR),
    ("goaway_too_short", [frame(GOAWAY, 0, 0, bytes(7))], FRAME_SIZE_ERROR),
    # WINDOW_UPDATE.
    ("connection_window_by_0", [window_update(0, 0)], PROTOCOL_ERROR),
    ("stream_window_by_0", [headers(1, get()), window_update(1, 0)], (1, PROTOCOL_ERROR)),
    ("window_update_of_a_wrong_length", [frame(WINDOW_UPDATE, 0, 0, bytes(3))], FRAME_SIZE_ERROR),
    ("window_update_of_an_idle_stream", [window_update(1, 1)], PROTOCOL_ERROR),
    ("window_update_after_reset", [headers(1, get()), reset(1), window_update(1, 1)], None),
    ("connection_window_too_large", [window_update(0, 2**31 - 1)], FLOW_CONTROL_ERROR),
    ("stream_window_too_large", [headers(1, get()), window_update(1, 2**31 - 1)], (1, FLOW_CONTROL_ERROR)),
    (
        "initial_window_makes_one_too_large",
        [headers(1, get()), window_update(1, 2**30), settings((4, 2**31 - 1))],
        FLOW_CONTROL_ERROR,
    ),
]


@pytest.mark.parametrize(("frames", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_every_frame_gets_the_error_the_rfc_names(
    frames: list[bytes], expected: tuple[int, int] | int | None
) -> None:
    peer = Peer()
    peer.send(*frames)
    assert outcome(peer.output()) == expected
    assert (peer.engine.failed is not None) == isinstance(expected, int)


@pytest.mark.parametrize("size", [1, 2, 7, 9, 10, 23])
@pytest.mark.parametrize("row", [0, 7, 20, 30, 40, 60], ids=lambda number: TABLE[number][0])
def test_bytes_may_come_in_any_pieces(row: int, size: int) -> None:
    _, frames, expected = TABLE[row]
    peer = Peer()
    octets = b"".join(frames)
    for start in range(0, len(octets), size):
        peer.send(octets[start : start + size])
    assert outcome(peer.output()) == expected


# The beginning.


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", b"X"])
def test_anything_but_the_preface_is_refused(octets: bytes) -> None:
    peer = Peer(begun=False)
    peer.send(octets)
    assert peer.engine.failed is not None
    assert peer.engine.failed.code == PROTOCOL_ERROR


@pytest.mark.parametrize("first", [frame(PING, 0, 0, bytes(8)), headers(1, get()), frame(SETTINGS, ACK)])
def test_the_first_frame_must_be_settings(first: bytes) -> None:
    peer = Peer(begun=False)
    peer.send(PREFACE, first)
    assert peer.engine.failed is not None
    assert peer.engine.failed.code == PROTOCOL_ERROR


def test_settings_are_announced_and_acknowledged() -> None:
    peer = Peer(Limits(streams=7, window=70000, list_bytes=5000), begun=False)
    peer.send(PREFACE, settings((3, 5)))
    first, window, acknowledged = peer.output()
    pairs = dict(struct.iter_unpack(">HL", first.payload))
    assert (first.kind, pairs) == (SETTINGS, {4: 70000, 6: 5000, 3: 7, 8: 1})
    assert (window.kind, window.stream_id) == (WINDOW_UPDATE, 0)
    assert (acknowledged.kind, acknowledged.flags) == (SETTINGS, ACK)
    assert peer.engine.peer_streams == 5


def test_ping_is_answered_with_its_payload_and_an_answer_is_not() -> None:
    peer = Peer()
    peer.send(frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, b"12345678"))
    assert peer.output() == [Frame(PING, ACK, 0, b"12345678")]
    assert peer.engine.pongs == 1


# Portions.


def test_heads_are_read_in_portions_so_that_others_get_their_turn() -> None:
    peer = Peer()
    peer.engine.receive(b"".join(headers(2 * number + 1, get()) for number in range(100)), 0.0)
    assert (len(peer.heard), peer.engine.more) == (64, True)
    peer.engine.receive(b"", 0.0)
    assert (len(peer.heard), peer.engine.more) == (100, False)


def test_frames_are_read_in_portions_so_that_others_get_their_turn() -> None:
    peer = Peer()
    octets = headers(1, get(), OPEN) + frame(DATA, 0, 1, bytes(32)) * 2000
    peer.engine.receive(octets, peer.now)
    assert (len(peer.heard[1].body), peer.engine.more, peer.engine.wait_s) == (1008, True, 0.0)
    peer.engine.receive(b"", peer.now)
    assert (len(peer.heard[1].body), peer.engine.more, peer.engine.slowed) == (2000, False, False)


def test_small_frames_are_read_no_faster_than_allowed_and_none_is_lost() -> None:
    peer = Peer(Limits(small_frames=100))
    body = peer_body(peer, frame(DATA, 0, 1, b"x") * 500 + frame(DATA, END_STREAM, 1, b"y"))
    assert len(body) == 200, "what a second allows, and what the one before it left over"
    assert (peer.engine.more, peer.engine.slowed, peer.engine.wait_s > 0) == (True, True, True)
    peer.engine.receive(b"", peer.now + 0.5)
    assert len(body) == 250
    for second in range(1, 5):
        peer.engine.receive(b"", peer.now + second)
    assert (b"".join(body), peer.engine.more) == (b"x" * 500 + b"y", False)


@pytest.mark.parametrize("octets", [frame(DATA, 0, 1, bytes(32)) * 900, window_update(0, 1) * 900])
def test_frames_that_are_not_small_or_no_body_are_not_slowed(octets: bytes) -> None:
    peer = Peer(Limits(small_frames=10))
    peer_body(peer, octets)
    assert (peer.engine.more, peer.engine.slowed) == (False, False)


def peer_body(peer: Peer, octets: bytes) -> list[bytes]:
    """Open a stream, let so much follow in one go, and return what it hears as it comes."""
    peer.send(headers(1, get(), OPEN))
    peer.engine.receive(octets, peer.now)
    return peer.heard[1].body


# The end.


def test_after_the_last_goaway_new_streams_are_ignored_and_old_ones_served() -> None:
    peer = Peer()
    peer.engine.announce_end()
    first, ping = peer.output()
    assert (first.number(), first.number(4), ping.kind) == (2**31 - 1, NO_ERROR, PING)
    peer.send(headers(1, get()))
    peer.engine.end()
    assert [(each.number(), each.number(4)) for each in peer.output()] == [(1, NO_ERROR)]
    peer.send(headers(3, get(), OPEN), frame(DATA, 0, 3, b"unheard"))
    peer.answer(1)
    assert set(peer.heard) == {1}
    assert outcome(peer.output()) is None


def test_a_broken_connection_tells_every_stream_and_reads_no_more() -> None:
    peer = Peer()
    peer.send(headers(1, get(), OPEN), frame(PING, 0, 3, bytes(8)), headers(3, get()))
    assert peer.heard[1].codes == [PROTOCOL_ERROR]
    assert list(peer.heard) == [1]
    peer.send(headers(5, get()))
    assert list(peer.heard) == [1]


def test_who_was_told_the_last_stream_is_told_no_later_one() -> None:
    peer = Peer()
    peer.engine.end()
    peer.output()
    peer.engine.announce_end()
    assert peer.output() == []


def test_goaway_of_the_peer_is_noted() -> None:
    peer = Peer()
    peer.send(frame(GOAWAY, 0, 0, struct.pack(">LL", 7, 2) + b"debug"))
    assert (peer.engine.peer_left, peer.engine.peer_left_code) == (7, 2)


# What a peer may send.


@pytest.mark.parametrize(
    "useless",
    [
        frame(PING, 0, 0, bytes(8)),
        settings(),
        frame(SETTINGS, ACK),
        priority(5),
        frame(DATA, 0, 1),
        frame(DATA, PADDED, 1, b"\0"),
        window_update(0, 1),
        window_update(1, 1),
        frame(0xB, 0, 0),
    ],
    ids=["ping", "settings", "ack", "priority", "empty data", "padded data", "window", "stream window", "unknown"],
)
def test_a_flood_of_frames_that_move_nothing_ends_the_connection(useless: bytes) -> None:
    peer = Peer(Limits(control_frames=100))
    peer.send(headers(1, get(), OPEN))
    peer.send(*[useless] * 90)
    assert peer.engine.failed is None
    for _ in range(20):
        peer.now += 1.0
        peer.send(*[useless] * 90)
    assert peer.engine.failed is None
    peer.send(*[useless] * 300)
    assert peer.engine.failed is not None
    assert peer.engine.failed.code == ENHANCE_YOUR_CALM


def test_window_updates_are_earned_by_what_was_sent() -> None:
    peer = Peer(Limits(control_frames=100))
    peer.send(settings((4, 1 << 20)), window_update(0, 1 << 24), headers(1, get()))
    peer.answer(1, b"", False)
    for _ in range(100):
        peer.engine.send_body(peer.heard[1], bytes(1000), False)
        peer.send(window_update(1, 1000), window_update(0, 1000))
    assert peer.engine.failed is None


def test_cancelling_streams_again_and_again_ends_the_connection() -> None:
    peer = Peer(Limits(resets=50))
    peer.send(*[headers(number, get()) + reset(number) for number in range(1, 2001, 2)])
    assert peer.engine.failed is not None
    assert peer.engine.failed.code == ENHANCE_YOUR_CALM
    assert len(peer.heard) <= 150


def test_making_us_reset_streams_counts_like_cancelling_them() -> None:
    peer = Peer(Limits(resets=50))
    peer.send(*[headers(number, get(), OPEN) + window_update(number, 0) for number in range(1, 2001, 2)])
    assert peer.engine.failed is not None
    assert peer.engine.failed.code == ENHANCE_YOUR_CALM


def test_cancelling_now_and_then_among_answered_requests_is_ordinary() -> None:
    peer = Peer(Limits(resets=50))
    for number in range(1, 2001, 4):
        peer.send(headers(number, get()), headers(number + 2, get()))
        peer.answer(number)
        peer.send(reset(number + 2))
    assert peer.engine.failed is None


def test_a_peer_that_asks_but_does_not_read_is_cut_off() -> None:
    peer = Peer(Limits(control_frames=10**6))
    peer.engine.writable = False
    for _ in range(20):
        peer.send(*[frame(PING, 0, 0, bytes(8))] * 1000)
    assert peer.engine.failed is not None
    assert peer.engine.failed.code == ENHANCE_YOUR_CALM


# The other end.


def test_two_engines_understand_each_other() -> None:
    server = Peer(begun=False)
    client = Engine(False, Limits())
    client.start()
    ours = Heard()
    client.open(ours, [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")], [b"X-A: 1"], False)
    client.send_body(ours, b"x" * 40_000, True)
    server.send(client.take_output())
    assert b"".join(server.heard[1].body) == b"x" * 40_000
    assert server.heard[1].fields[-1] == (b"x-a", b"1")
    server.answer(1, b"answer")
    client.receive(server.engine.take_output(), 0.0)
    assert (ours.fields, ours.body, ours.ended) == ([(b":status", b"200")], [b"answer"], True)
    assert (client.streams, client.peer_streams, client.peer_extended_connect) == ({}, 250, True)


def test_a_server_may_not_open_streams_nor_push() -> None:
    for bad in (headers(2, get()), frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + GET), settings((2, 1))):
        client = Engine(False, Limits())
        client.receive(settings() + bad, 0.0)
        assert client.failed is not None
        assert client.failed.code == PROTOCOL_ERROR


def test_faults_say_what_is_wrong() -> None:
    peer = Peer()
    peer.send(frame(PING, 0, 1, bytes(8)))
    assert peer.output()[-1].payload[8:] == b"PING on a stream"
    assert str(ConnectionFault(1, "text")) == "text"
    assert http2_frames.PREFACE == PREFACE
