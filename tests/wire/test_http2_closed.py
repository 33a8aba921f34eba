"""Verdicts on frames for streams that have ended, by how they ended."""

import pytest

from router.wire.http2_closed import ENDED, RESET_BY_PEER, RESET_BY_US, ClosedStreams
from router.wire.http2_frames import PROTOCOL_ERROR, STREAM_CLOSED, ConnectionFault, StreamFault

LONG_AGO = 200


def closed(*how: int) -> ClosedStreams:
    """Streams 1, 3, 5, … that ended like this."""
    streams = ClosedStreams()
    for number, each in enumerate(how):
        streams.remember(2 * number + 1, each)
    return streams


def test_after_the_end_of_both_sides_data_is_a_fault_of_the_stream_and_a_block_one_of_the_connection() -> None:
    streams = closed(ENDED)
    with pytest.raises(StreamFault, match="closed stream") as of_data:
        streams.judge_data(1)
    with pytest.raises(ConnectionFault, match="closed stream") as of_block:
        streams.judge_block(1, False)
    assert of_data.value.code == of_block.value.code == STREAM_CLOSED


def test_who_cannot_know_our_end_has_only_gone_on_after_its_own() -> None:
    with pytest.raises(StreamFault, match="after END_STREAM") as fault:
        closed(ENDED).judge_block(1, True)
    assert (fault.value.stream_id, fault.value.code) == (1, STREAM_CLOSED)


@pytest.mark.parametrize(("how", "told_again"), [(RESET_BY_US, False), (RESET_BY_PEER, True)])
def test_a_reset_excuses_what_crosses_it_and_its_sender_is_told_again(how: int, told_again: bool) -> None:
    streams = closed(how)
    assert streams.judge_data(1) is told_again
    assert streams.judge_block(1, False) is told_again


def test_a_stream_that_was_passed_over_can_never_be_opened() -> None:
    streams = closed(ENDED)
    with pytest.raises(StreamFault):
        streams.judge_data(3)
    with pytest.raises(ConnectionFault) as fault:
        streams.judge_block(3, False)
    assert fault.value.code == PROTOCOL_ERROR


def test_an_end_of_long_ago_is_not_remembered() -> None:
    with pytest.raises(ConnectionFault, match="not above the last one"):
        closed(*[ENDED] * LONG_AGO).judge_block(1, False)


def test_a_reset_of_long_ago_excuses_everything_before_it_for_good() -> None:
    streams = closed(ENDED, RESET_BY_PEER, *[ENDED] * LONG_AGO)
    assert streams.judge_data(3) is False
    assert streams.judge_block(1, False) is False
