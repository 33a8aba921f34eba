"""Frames as bytes, against their layout in RFC 9113 §4.1 and 6."""

import pytest

from router.wire import http2_frames as frames
from tests.support import h2peer


def test_frames_have_the_layout_of_the_rfc() -> None:
    assert (
        frames.frame(frames.PING, frames.ACK, 5, b"12345678")
        == bytes.fromhex("000008 06 01 00000005") + b"12345678"
    )
    assert frames.reset_frame(3, frames.CANCEL) == h2peer.reset(3)
    assert frames.window_update_frame(3, 9) == h2peer.window_update(3, 9)
    assert frames.settings_frame([(4, 100), (3, 7)]) == h2peer.settings((4, 100), (3, 7))
    assert frames.goaway_frame(7, 2, "why")[9:] == bytes.fromhex("00000007 00000002") + b"why"


@pytest.mark.parametrize(("size", "kinds"), [(10, [1]), (16384, [1]), (16385, [1, 9]), (40_000, [1, 9, 9])])
def test_long_blocks_are_continued(size: int, kinds: list[int]) -> None:
    found, rest = h2peer.split(frames.header_frames(1, bytes(size), True))
    assert ([each.kind for each in found], rest) == (kinds, b"")
    assert [bool(each.flags & h2peer.END_HEADERS) for each in found] == [False] * (len(kinds) - 1) + [True]
    assert [each.ended for each in found] == [True] + [False] * (len(kinds) - 1)
    assert sum(len(each.payload) for each in found) == size


def test_padding_is_taken_off() -> None:
    assert frames.without_padding(b"\x02ab\0\0") == b"ab"
    assert frames.without_padding(b"\x00") == b""
    with pytest.raises(frames.ConnectionFault):
        frames.without_padding(b"\x01")


def test_reserved_bits_are_ignored() -> None:
    assert frames.parse_window_update(b"\x80\0\0\1") == 1
    assert frames.parse_goaway(b"\x80\0\0\1\0\0\0\2rest") == (1, 2)
    assert frames.depends_on(b"\x80\0\0\3\x10") == 3
