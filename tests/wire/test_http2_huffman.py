"""Huffman coded strings against an independent implementation and the rules of RFC 7541 §5.2."""

import pytest
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given, strategies

from router.wire.http2_huffman import CODES, BadHuffman, decode, encode


def test_the_code_is_the_one_of_the_rfc() -> None:
    assert list(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True))[:256] == CODES


@given(strategies.binary())
def test_what_is_coded_is_decoded_again(octets: bytes) -> None:
    assert decode(encode(octets)) == octets


def test_examples_of_the_rfc() -> None:
    assert decode(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")) == b"www.example.com"
    assert decode(bytes.fromhex("9d29ad171863c78f0b97c8e9ae82ae43d3")) == b"https://www.example.com"


@pytest.mark.parametrize(
    "coded",
    [
        b"\x18",  # "a" and three zeros
        b"\x1f\xff",  # "a" and eleven ones
        b"\xff\xff\xff\xff",  # EOS
        b"\xff\xff\xff\xfc\xff",  # EOS, then more
        b"\xff",  # eight ones
    ],
)
def test_wrong_padding_and_eos_are_errors(coded: bytes) -> None:
    with pytest.raises(BadHuffman):
        decode(coded)


def test_up_to_seven_ones_are_padding() -> None:
    assert decode(b"") == b""
    assert decode(b"\x1f") == b"a"
