"""A header block that is gathered from several frames."""

import pytest

from router.wire.http2_block import HeaderBlock
from router.wire.http2_frames import END_HEADERS, ENHANCE_YOUR_CALM, ConnectionFault


def test_parts_are_joined_in_their_order_at_the_last() -> None:
    block = HeaderBlock(3, 1, b"a", 100)
    assert block.add(0, b"b") is None
    assert block.add(0, b"") is None
    assert block.add(END_HEADERS, b"c") == b"abc"
    assert (block.stream_id, block.flags) == (3, 1)


def test_no_more_is_gathered_than_a_block_may_have() -> None:
    block = HeaderBlock(1, 0, bytes(60), 100)
    assert block.add(0, bytes(40)) is None
    with pytest.raises(ConnectionFault, match="too long") as fault:
        block.add(END_HEADERS, b"x")
    assert fault.value.code == ENHANCE_YOUR_CALM


def test_empty_parts_come_to_an_end_too() -> None:
    block = HeaderBlock(1, 0, b"", 100)
    for _ in range(255):
        block.add(0, b"")
    with pytest.raises(ConnectionFault, match="too long"):
        block.add(0, b"")
