"""The Huffman code of HPACK (RFC 7541 §5.2, appendix B): coded strings to bytes and back.

The code is canonical: symbols of one length have consecutive codes in the order of their values, so the table of
the RFC is its symbols by length. Decoding takes a byte of input a step; what a byte does in a state of the decoder
is worked out when it is first met and remembered, for at most 65,536 pairs, of which real traffic meets a tenth.
"""

_SYMBOLS: dict[int, bytes] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8"
    b"\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf"
    b"\xc5\xe7\xef",
    24: b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"
    b"\x7f\xdc\xf9",
    30: b"\n\r\x16",
}
"""Symbols by length of their code in bits; the last of the longest codes is EOS, which no string may contain."""
_LONGEST_PADDING_BITS = 7


class BadHuffman(ValueError):
    """A string is not coded as RFC 7541 §5.2 demands."""


def _codes() -> list[tuple[int, int]]:
    """Return code and length in bits of every byte value."""
    codes = [(0, 0)] * 256
    code = previous = 0
    for length, symbols in _SYMBOLS.items():
        code <<= length - previous
        previous = length
        for symbol in symbols:
            codes[symbol] = (code, length)
            code += 1
    return codes


def _tree() -> tuple[list[list[int]], list[bool]]:
    """Return the decoder's states, and which of them a string may end in.

    A state is what has been read of a code: for each bit the state that follows, or ``-1 - symbol`` after a whole
    code, or `_NOWHERE` where only EOS lies.
    """
    states, final = [[_NOWHERE, _NOWHERE]], [True]
    for symbol, (code, length) in enumerate(CODES):
        state = 0
        for position in range(length - 1, 0, -1):
            bit = code >> position & 1
            if states[state][bit] == _NOWHERE:
                states[state][bit] = len(states)
                states.append([_NOWHERE, _NOWHERE])
                # Padding is the beginning of EOS, which is all ones, and shorter than a byte.
                depth = length - position
                final.append(code >> position == (1 << depth) - 1 and depth <= _LONGEST_PADDING_BITS)
            state = states[state][bit]
        states[state][code & 1] = -1 - symbol
    return states, final


_NOWHERE = -1000
CODES = _codes()
_STATES, _FINAL = _tree()
_steps: dict[int, tuple[int, bytes]] = {}


def decode(coded: bytes) -> bytes:
    """Decode a string. Raises `BadHuffman`: EOS inside, padding with anything but ones, or longer than 7 bits."""
    state = 0
    parts = []
    steps = _steps
    for octet in coded:
        key = state << 8 | octet
        step = steps[key] if key in steps else _step(key)
        state = step[0]
        parts.append(step[1])
    if not _FINAL[state]:
        raise BadHuffman("padding is not the beginning of EOS")
    return b"".join(parts)


def _step(key: int) -> tuple[int, bytes]:
    state = key >> 8
    symbols = bytearray()
    for position in range(7, -1, -1):
        state = _STATES[state][key >> position & 1]
        if state == _NOWHERE:
            raise BadHuffman("EOS within a string")
        if state < 0:
            symbols.append(-1 - state)
            state = 0
    step = _steps[key] = state, bytes(symbols)
    return step


def encode(plain: bytes) -> bytes:
    """Code a string, padded to whole bytes."""
    bits = total = 0
    for octet in plain:
        code, length = CODES[octet]
        bits = bits << length | code
        total += length
    padding = -total % 8
    return (bits << padding | (1 << padding) - 1).to_bytes((total + padding) // 8, "big")
