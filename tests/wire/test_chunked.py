import contextlib
from itertools import pairwise

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.wire.chunked import ChunkedDecoder, encode_chunk, encode_last_chunk
from router.wire.header_lines import REQUEST_FIELDS, BadMessage

fuzz = settings(deadline=None, derandomize=True, max_examples=300)
TRAILER_BYTES = 1000

Result = tuple[bytes, list[bytes], bytes]


def decoder() -> ChunkedDecoder:
    return ChunkedDecoder(REQUEST_FIELDS, TRAILER_BYTES)


def decode(pieces: list[bytes]) -> Result | None:
    """Body, trailers and what follows; None if the body has not ended."""
    one = decoder()
    body = b""
    for index, piece in enumerate(pieces):
        body += one.feed(piece)
        if one.done:
            return body, one.trailers, one.leftover + b"".join(pieces[index + 1 :])
    return None


def is_refused(raw: bytes) -> bool:
    try:
        decode([raw])
    except BadMessage:
        return True
    return False


class Oracle:
    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.complete = True


def read_by_llhttp(raw: bytes) -> Oracle | None:
    """What llhttp makes of the body; None if it refuses it."""
    oracle = Oracle()
    parser = httptools.HttpRequestParser(oracle)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        parser.feed_data(raw)
    except httptools.HttpParserError:
        return None
    return oracle


@pytest.mark.parametrize(
    ("raw", "body", "trailers", "leftover"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", [], b""),
        (b"0\r\n\r\n", b"", [], b""),
        (b"00000\r\n\r\n", b"", [], b""),
        (b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\nNEXT", b"hello!", [], b"NEXT"),
        (b"A\r\n0123456789\r\n000a\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, [], b""),
        (b'5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n', b"hello", [], b""),
        (b'5 \t; a ="b c\\"" ;d\r\nhello\r\n0\r\n\r\n', b"hello", [], b""),
        (b"0\r\nX: 1\r\nY: 2\r\n\r\nrest", b"", [b"X: 1", b"Y: 2"], b"rest"),
        (b"0\r\nContent-Length: 5\r\nX: 1\r\n\r\n", b"", [b"X: 1"], b""),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", [], b""),
    ],
)
def test_valid_body_is_decoded_whole_and_cut_anywhere(
    raw: bytes, body: bytes, trailers: list[bytes], leftover: bytes
) -> None:
    for place in range(len(raw) + 1):
        assert decode([raw[:place], raw[place:]]) == (body, trailers, leftover)
    assert decode([raw[place : place + 1] for place in range(len(raw))]) == (body, trailers, leftover)


MALFORMED = [
    b"\r\n",
    b"x\r\n",
    b" 5\r\nhello\r\n",
    b"+5\r\nhello\r\n",
    b"-5\r\n",
    b"0x5\r\nhello\r\n",
    b"5_\r\n",
    b"5\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"5;\r\nhello\r\n",
    b"5;a=\r\nhello\r\n",
    b'5;a="b\r\nhello\r\n',
    b"5;=b\r\nhello\r\n",
    b"5\rhello",
    b"5\r\rhello",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"5\r\nhello\rX",
    b"5\r\nhello0\r\n\r\n",
    b"5;a\x00b\r\nhello\r\n",
    b"5;a\nb\r\nhello\r\n",
    b"5 5\r\nhello\r\n",
    b"5\x0b\r\n",
    b"1" + b"0" * 15 + b"\r\n",
    b"\xef\xbc\x95\r\nhello",
    b"0\r\n\n",
    b"0\r\nno colon\r\n\r\n",
    b"0\r\nX: 1\nY: 2\r\n\r\n",
    b"0\r\n folded\r\n\r\n",
    b"0\r\nX : 1\r\n\r\n",
    b"0\r\nX: \x00\r\n\r\n",
    b"0\r\n\rX",
]


@pytest.mark.parametrize("raw", MALFORMED)
def test_malformed_body_is_refused_whole_and_cut_anywhere(raw: bytes) -> None:
    for place in range(len(raw) + 1):
        with pytest.raises(BadMessage):
            decode([raw[:place], raw[place:]])


@pytest.mark.parametrize("begun", [b"g", b"5x", b"5;\x01", b"5\rx", b"5\r\nhellox"])
def test_what_can_become_no_chunk_is_refused_at_once(begun: bytes) -> None:
    with pytest.raises(BadMessage):
        decoder().feed(begun)


@pytest.mark.parametrize(
    "begun", [b"", b"5", b"5;x", b"5\r", b"5\r\n", b"5\r\nhel", b"5\r\nhello\r", b"0\r\n\r", b"0\r\nX: 1\r\n"]
)
def test_what_can_still_become_a_body_is_waited_for(begun: bytes) -> None:
    assert decode([begun]) is None


def test_bytes_are_passed_on_as_they_come() -> None:
    one = decoder()

    assert one.feed(b"5\r\nhe") == b"he"
    assert one.feed(b"llo") == b"llo"
    assert not one.done


def test_endless_size_line_is_refused() -> None:
    with pytest.raises(BadMessage, match="malformed chunk size"):
        decoder().feed(b"5;" + b"x" * 5000)
    with pytest.raises(BadMessage, match="extensions too long"):
        decoder().feed(b"5;" + b"x" * 5000 + b"\r\n")


def test_extensions_may_not_outgrow_the_body() -> None:
    with pytest.raises(BadMessage, match="extensions too long"):
        decode([b"1;" + b"x" * 1000 + b"\r\n!\r\n"] * 100)


def test_many_small_chunks_without_extensions_are_no_attack() -> None:
    assert decode([b"1\r\n!\r\n" * 50_000 + b"0\r\n\r\n"]) == (b"!" * 50_000, [], b"")


def test_trailers_are_limited_complete_or_not() -> None:
    fitting = b"X: " + b"a" * (TRAILER_BYTES - 3)
    assert decode([b"0\r\n" + fitting + b"\r\n\r\n"]) == (b"", [fitting], b"")

    for raw in (b"0\r\n" + fitting + b"a\r\n\r\n", b"0\r\n" + fitting + b"aaaaaaaa"):
        with pytest.raises(BadMessage) as caught:
            decode([raw])
        assert caught.value.status == 431


def test_trailers_sent_byte_by_byte_are_not_read_anew_with_each() -> None:
    one = ChunkedDecoder(REQUEST_FIELDS, 1_000_000)
    one.feed(b"0\r\n")
    for _ in range(300_000):
        one.feed(b"X")

    # In quadratic time this would not end before the test's time-out; and nothing is kept twice.
    assert one._buffer == b""


bodies = st.lists(st.binary(min_size=1, max_size=20), max_size=5)
cut_places = st.sets(st.integers(1, 150), max_size=10)


@fuzz
@given(bodies, cut_places)
def test_what_was_encoded_is_decoded_however_it_is_cut(chunks: list[bytes], cuts: set[int]) -> None:
    raw = b"".join(map(encode_chunk, chunks)) + encode_last_chunk([b"X: 1"]) + b"next"
    places = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]

    pieces = [raw[start:end] for start, end in pairwise(places)]
    assert decode(pieces) == (b"".join(chunks), [b"X: 1"], b"next")


noise = st.sampled_from([b"\r", b"\n", b"\x00", b" ", b";", b"0", b"f", b"g", b"-", b"\r\n", b"\xff"])


@fuzz
@given(bodies, st.integers(0, 10**6), noise, st.integers(0, 2))
def test_what_llhttp_refuses_is_refused(chunks: list[bytes], place: int, inserted: bytes, removed: int) -> None:
    raw = b"".join(map(encode_chunk, chunks)) + encode_last_chunk([])
    place %= len(raw)
    changed = raw[:place] + inserted + raw[place + removed :]
    theirs = read_by_llhttp(changed)
    ours: Result | None = None
    with contextlib.suppress(BadMessage):
        ours = decode([changed])

    # llhttp reads on after the body, so that it refuses what we leave to the next message.
    assert ours is None or ours[2] or (theirs is not None and theirs.complete and theirs.body == ours[0])


@fuzz
@given(bodies)
def test_what_we_write_llhttp_reads(chunks: list[bytes]) -> None:
    theirs = read_by_llhttp(b"".join(map(encode_chunk, chunks)) + encode_last_chunk([b"X: 1"]))

    assert theirs is not None
    assert (theirs.complete, theirs.body) == (True, b"".join(chunks))
