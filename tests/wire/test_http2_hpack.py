"""Header compression: in step with an independent implementation, strict with everything else."""

import random

import hpack
import pytest
from hpack.table import HeaderTable

from router.wire.http2_hpack import STATIC, Decoder, Encoder, HeaderListTooLong, HpackError, encode_integer

PLENTY = 1 << 20


def decoded(block: bytes, decoder: Decoder | None = None) -> list[tuple[bytes, bytes]]:
    return [field[:2] for field in (decoder or Decoder()).decode(block, PLENTY)]


def test_the_static_table_is_the_one_of_the_rfc() -> None:
    assert tuple(field[:2] for field in STATIC[1:]) == HeaderTable.STATIC_TABLE


def test_requests_of_the_rfc_with_a_growing_table() -> None:
    decoder = Decoder()
    first = decoded(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"), decoder)
    assert first[-1] == (b":authority", b"www.example.com")
    assert decoded(bytes.fromhex("828684be5886a8eb10649cbf"), decoder)[3:] == [
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ]
    third = decoded(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"), decoder)
    assert third[-1] == (b"custom-key", b"custom-value")


@pytest.mark.parametrize(
    ("block", "fields"),
    [
        (b"", []),
        (b"\x82", [(b":method", b"GET")]),
        (b"\x00\x01a\x01b", [(b"a", b"b")]),
        (b"\x10\x01a\x00", [(b"a", b"")]),
        (b"\x40\x01a\x01b\xbe", [(b"a", b"b"), (b"a", b"b")]),
        (b"\x44\x02/x", [(b":path", b"/x")]),
        (b"\x0f\x11\x01x", [(b"cookie", b"x")]),
        (b"\x20\x3f\xe1\x1f\x82", [(b":method", b"GET")]),
        (b"\x20\x40\x01a\x01b", [(b"a", b"b")]),
        (b"\x00\x7f\x01" + b"n" * 128 + b"\x01v", [(b"n" * 128, b"v")]),
    ],
)
def test_every_representation_is_understood(block: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    assert decoded(block) == fields


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # beyond the static table, the dynamic one is empty
        b"\xc6",
        b"\x7f\x10\x01b",  # name beyond the table
        b"\x0f\x60\x01b",
        b"\xff",  # integers that end too early or never
        b"\xff\x80",
        b"\xff" + b"\xff" * 10 + b"\x01",
        b"\x40\x7f" + b"\xff" * 8 + b"\x7f",
        b"\x40",  # strings that end too early
        b"\x40\x05ab",
        b"\x00\x01a",
        b"\x00\x01a\x03b",
        b"\x00\x81\x18\x01b",  # Huffman: padding of zeros, of too many ones, EOS
        b"\x00\x82\x1f\xff\x01b",
        b"\x00\x84\xff\xff\xff\xff\x01b",
        b"\x3f\xe2\x1f\x82",  # table above the limit
        b"\x82\x20",  # table size after a field
        b"\x40\x01a\x01b\x20\xbe",
    ],
)
def test_a_block_that_is_no_hpack_is_an_error(block: bytes) -> None:
    with pytest.raises(HpackError):
        Decoder().decode(block, PLENTY)


def test_a_smaller_table_forgets_the_oldest() -> None:
    decoder = Decoder()
    decoded(b"\x40\x01a\x01b\x40\x01c\x01d", decoder)
    assert decoded(b"\x3f\x09\xbe", decoder) == [(b"c", b"d")]
    with pytest.raises(HpackError):
        decoder.decode(b"\xbf", PLENTY)


def test_an_entry_larger_than_the_table_empties_it() -> None:
    decoder = Decoder()
    big = b"\x40\x01a" + encode_integer(4096, 7, 0) + bytes(4096)
    assert len(decoded(b"\x40\x01a\x01b" + big, decoder)) == 2
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe", PLENTY)


def test_a_list_is_given_up_where_its_limit_is_exceeded() -> None:
    assert len(Decoder().decode(b"\x82" * 10, 420)) == 10
    with pytest.raises(HeaderListTooLong):
        Decoder().decode(b"\x82" * 11, 420)
    with pytest.raises(HeaderListTooLong):
        Decoder().decode(b"\x40\x01a\x7f\xa1\x1e" + bytes(4000) + b"\xbe" * 10**6, PLENTY)


def test_an_independent_decoder_follows_our_encoder() -> None:
    choose = random.Random(1)
    ours, theirs = Encoder(), hpack.Decoder()
    for _ in range(2000):
        lines = [
            b"X-%d: %s" % (choose.randrange(60), b"v" * choose.randrange(80)) for _ in range(choose.randrange(8))
        ]
        status = b"%d" % choose.choice([200, 404, 502])
        if choose.random() < 0.05:
            ours.resize(choose.choice([0, 100, 1000, 4096, 100_000]))
        if choose.random() < 0.05:
            ours.resize(choose.choice([0, 100, 1000, 4096]))
        block = ours.encode([(b":status", status), (b"x-key", b"%d" % choose.randrange(9))], lines)
        got = [tuple(field) for field in theirs.decode(block, raw=True)]
        assert got[0] == (b":status", status)
        assert got[2:] == [(name.lower(), value) for name, value in (line.split(b": ", 1) for line in lines)]


def test_our_decoder_follows_an_independent_encoder() -> None:
    choose = random.Random(2)
    theirs, ours = hpack.Encoder(), Decoder()
    for _ in range(2000):
        fields = [
            (b"x-%d" % choose.randrange(60), b"v" * choose.randrange(80)) for _ in range(choose.randrange(8))
        ]
        if choose.random() < 0.05:
            theirs.header_table_size = choose.choice([0, 100, 1000, 4096])
        assert decoded(theirs.encode(fields, huffman=choose.random() < 0.5), ours) == fields


def test_lines_that_repeat_cost_a_byte_and_those_that_differ_or_are_secret_stay_out_of_the_table() -> None:
    encoder = Encoder()
    again = [b"Server: nginx", b"Vary: accept-encoding"]
    encoder.encode([], again)
    assert encoder.encode([], again) == b"\xbf\xbe"
    for line in (b"Date: now", b"ETag: x", b"Content-Length: 9", b"Set-Cookie: a=b"):
        assert encoder.encode([], [line]) == encoder.encode([], [line])
    assert encoder.encode([], [b"Set-Cookie: a=b"])[0] & 0xF0 == 0x10
    assert encoder.encode([(b":status", b"200")], []) == b"\x88"


@pytest.mark.parametrize(("value", "coded"), [(10, b"\x0a"), (1337, b"\x1f\x9a\x0a"), (31, b"\x1f\x00")])
def test_integers_are_coded_as_in_the_rfc(value: int, coded: bytes) -> None:
    assert encode_integer(value, 5, 0) == coded
