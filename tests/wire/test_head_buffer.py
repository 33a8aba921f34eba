from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.wire.head_buffer import HeadBuffer, HeadTooLong, RequestHeadBuffer
from router.wire.header_lines import BadMessage
from router.wire.http1 import parse_request_head

HEAD = b"GET / HTTP/1.1\r\nHost: a.test\r\nX: y"


def gather(pieces: list[bytes]) -> tuple[bytes, bytes] | None:
    buffer = HeadBuffer()
    for index, piece in enumerate(pieces):
        gathered = buffer.add(piece)
        if gathered is not None:
            return gathered[0], gathered[1] + b"".join(pieces[index + 1 :])
    return None


def verdict(pieces: list[bytes]) -> object:
    """What becomes of a head in these pieces: refused, incomplete, or read."""
    try:
        gathered = gather(pieces)
        if gathered is None:
            return None
        return parse_request_head(gathered[0]).lines, gathered[1]
    except BadMessage as error:
        return error.status


@pytest.mark.parametrize("place", range(len(HEAD) + 4))
def test_head_cut_anywhere_is_gathered_with_what_follows_it(place: int) -> None:
    whole = HEAD + b"\r\n\r\nbody"

    assert gather([whole[:place], whole[place:]]) == (HEAD, b"body")


def test_head_that_comes_byte_by_byte_is_gathered() -> None:
    whole = HEAD + b"\r\n\r\n"

    assert gather([whole[place : place + 1] for place in range(len(whole))]) == (HEAD, b"")


@pytest.mark.parametrize(
    "begun", [b"GET / HTTP/1.1\n", b"A: b\r\r", b"\n", b"A: b\r\n\n", b"A\rB", b"GET / HTTP/1.1\r\nHost: a\n\r"]
)
def test_bare_line_end_is_refused_before_the_head_is_complete(begun: bytes) -> None:
    with pytest.raises(BadMessage, match="bare line end"):
        gather([begun])
    with pytest.raises(BadMessage, match="bare line end"):
        gather([begun[place : place + 1] for place in range(len(begun))])


def test_carriage_return_at_the_end_of_a_piece_is_no_bare_one() -> None:
    assert gather([b"A: b\r", b"\n\r", b"\nrest"]) == (b"A: b", b"rest")


def test_line_ends_after_the_head_are_not_its_business() -> None:
    assert gather([b"A: b\r\n", b"\r\nbody\nwith\rline ends"]) == (b"A: b", b"body\nwith\rline ends")


def test_buffer_is_empty_after_a_head() -> None:
    buffer = HeadBuffer()
    assert buffer.add(b"A: b") is None
    assert (len(buffer), buffer.peek(2)) == (4, b"A:")
    assert buffer.add(b"\r\n\r\nC: d\r\n\r\n") == (b"A: b", b"C: d\r\n\r\n")

    assert len(buffer) == 0
    assert buffer.add(b"C: d\r\n\r\n") == (b"C: d", b"")


def test_what_was_gathered_can_be_taken() -> None:
    buffer = HeadBuffer()
    buffer.add(b"A: b\r\n\r")

    assert buffer.take() == b"A: b\r\n\r"
    assert len(buffer) == 0


class CountingBytes(bytearray):
    """Counts how far each search could go."""

    searched = 0

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        CountingBytes.searched += len(self) - start
        return super().find(sub, start, end)


def test_a_head_sent_byte_by_byte_is_searched_a_few_times_at_most() -> None:
    buffer = HeadBuffer()
    buffer._partial = CountingBytes()
    whole = b"X: " + b"a" * 65536
    CountingBytes.searched = 0
    for place in range(len(whole)):
        buffer.add(whole[place : place + 1])

    assert CountingBytes.searched <= 4 * len(whole)


pieces_of = st.lists(
    st.sampled_from(
        [b"GET / HTTP/1.1", b"\r\n", b"Host: a", b"\r", b"\n", b"\r\n\r\n", b"X: y", b" ", b"body", b":"]
    ),
    max_size=12,
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(pieces_of, st.sets(st.integers(0, 60), max_size=8))
def test_verdict_does_not_depend_on_where_the_bytes_were_cut(parts: list[bytes], cuts: set[int]) -> None:
    raw = b"".join([b"GET / HTTP/1.1\r\nHost: a", *parts])
    places = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    pieces = [raw[start:end] for start, end in pairwise(places)]
    whole, cut = verdict([raw]), verdict(pieces)

    # What cannot become a head may be refused before its end has come.
    assert cut == whole or (whole is None and cut == 400)


# Requests.


@pytest.mark.parametrize("start", [b"\x16\x03\x01", b"SSH-2.0-x\r\n", b"GET /a b c"])
def test_what_cannot_become_a_request_is_refused_at_once(start: bytes) -> None:
    with pytest.raises(BadMessage, match="request line"):
        RequestHeadBuffer(1000).add(start)


@pytest.mark.parametrize("end", [b"", b"\r\n\r\nrest"])
def test_a_request_s_head_may_be_as_long_as_allowed_and_no_longer(end: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nX: " + b"x" * 1000
    gathered = RequestHeadBuffer(len(head)).add(head + end)
    assert gathered == ((head, b"rest") if end else None)
    with pytest.raises(HeadTooLong) as error:
        RequestHeadBuffer(len(head) - 1).add(head + end)
    assert error.value.status == 431
