"""HPACK (RFC 7541): header blocks to fields and back, with the tables that both ends keep in step.

Strict where the RFC leaves no choice, because a decoder that repairs is out of step with its peer from then on:
every fault is an `HpackError`, after which the connection cannot go on. What a block may cost is bounded while it
is read, not afterwards (RFC 9113 §10.5.1): one byte of input may stand for four thousand of output.
"""

from collections import deque

from router.wire import http2_huffman
from router.wire.http2_huffman import BadHuffman

Field = tuple[bytes, bytes, int]
"""Name, value, and their size in a header list: both lengths and 32 (RFC 7541 §4.1)."""

OVERHEAD = 32
TABLE_BYTES = 4096
"""Size of a dynamic table unless settings say otherwise."""
_MOST_INTEGER_BYTES = 5
_KNOWN_STRINGS = 4096
_KNOWN_STRING_BYTES = 128
_KNOWN_LINES = 8192
_KNOWN_LINE_BYTES = 256


class HpackError(ValueError):
    """A header block that cannot be decoded; for the connection a COMPRESSION_ERROR."""


class HeaderListTooLong(Exception):
    """A header list is so far above its limit that reading it to its end would be an attack come true."""


def _static_table() -> list[Field]:
    pairs = """:authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200
        |:status 204|:status 206|:status 304|:status 400|:status 404|:status 500|accept-charset
        |accept-encoding gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|allow
        |authorization|cache-control|content-disposition|content-encoding|content-language|content-length
        |content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match
        |if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards
        |proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie
        |strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"""
    table: list[Field] = [(b"", b"", 0)]
    for pair in pairs.split("|"):
        name, _, value = pair.strip().partition(" ")
        table.append((name.encode(), value.encode(), len(name) + len(value) + OVERHEAD))
    return table


STATIC = _static_table()
"""RFC 7541 appendix A; index 0 is not used."""
_STATIC_SIZE = len(STATIC) - 1

_strings: dict[bytes, bytes] = {}


def _huffman(coded: bytes) -> bytes:
    """Decode a string, remembering the answer: clients repeat most of theirs on every connection."""
    plain = _strings.get(coded)
    if plain is None:
        try:
            plain = http2_huffman.decode(coded)
        except BadHuffman as error:
            raise HpackError(str(error)) from None
        if len(coded) <= _KNOWN_STRING_BYTES:
            if len(_strings) >= _KNOWN_STRINGS:
                _strings.clear()
            _strings[coded] = plain
    return plain


class Decoder:
    """Decodes the header blocks of one direction of a connection, in their order.

    Args:
        table_bytes: the SETTINGS_HEADER_TABLE_SIZE that the peer was told.
    """

    def __init__(self, table_bytes: int = TABLE_BYTES) -> None:
        self._allowed = table_bytes
        self._capacity = table_bytes
        self._size = 0
        self._table: list[Field] = []
        """Newest last."""

    def decode(self, block: bytes, most_bytes: int) -> list[Field]:
        """Decode one block.

        Args:
            most_bytes: size of the header list above which it is given up.

        Raises:
            HpackError: the block is not HPACK.
            HeaderListTooLong: the tables are out of step from here on.
        """
        fields: list[Field] = []
        table = self._table
        position, end, size = 0, len(block), 0
        while position < end:
            first = block[position]
            if first & 0x80:
                index = first & 0x7F
                position += 1
                if index == 0x7F:
                    index, position = _integer(block, position, index)
                if index <= _STATIC_SIZE:
                    if not index:
                        raise HpackError("index 0")
                    field = STATIC[index]
                elif index - _STATIC_SIZE <= len(table):
                    field = table[_STATIC_SIZE - index]
                else:
                    raise HpackError("index beyond the table")
            elif first & 0xE0 == 0x20:
                if fields:
                    raise HpackError("table size update after a field")
                position = self._resize(block, position, first & 0x1F)
                continue
            else:
                field, position = self._literal(block, position, first)
            size += field[2]
            if size > most_bytes:
                raise HeaderListTooLong
            fields.append(field)
        return fields

    def _literal(self, block: bytes, position: int, first: int) -> tuple[Field, int]:
        mask = 0x3F if first & 0x40 else 0x0F
        index = first & mask
        position += 1
        if index == mask:
            index, position = _integer(block, position, index)
        if index:
            name = self._name(index)
        else:
            name, position = _string(block, position)
        value, position = _string(block, position)
        field = name, value, len(name) + len(value) + OVERHEAD
        if first & 0x40:
            self._add(field)
        return field, position

    def _name(self, index: int) -> bytes:
        if index <= _STATIC_SIZE:
            return STATIC[index][0]
        if index - _STATIC_SIZE <= len(self._table):
            return self._table[_STATIC_SIZE - index][0]
        raise HpackError("index beyond the table")

    def _resize(self, block: bytes, position: int, size: int) -> int:
        position += 1
        if size == 0x1F:
            size, position = _integer(block, position, size)
        if size > self._allowed:
            raise HpackError("table size above the limit")
        self._capacity = size
        self._evict()
        return position

    def _add(self, field: Field) -> None:
        self._table.append(field)
        self._size += field[2]
        if self._size > self._capacity:
            self._evict()

    def _evict(self) -> None:
        gone = 0
        while self._size > self._capacity:
            self._size -= self._table[gone][2]
            gone += 1
        del self._table[:gone]


def _integer(block: bytes, position: int, value: int) -> tuple[int, int]:
    """Read what follows a full prefix; returns the integer and the position behind it."""
    try:
        for shift in range(0, 7 * _MOST_INTEGER_BYTES, 7):
            octet = block[position]
            position += 1
            value += (octet & 0x7F) << shift
            if not octet & 0x80:
                return value, position
    except IndexError:
        raise HpackError("block ends within an integer") from None
    raise HpackError("integer too long")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    try:
        first = block[position]
    except IndexError:
        raise HpackError("block ends before a string") from None
    position += 1
    length = first & 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, length)
    end = position + length
    if end > len(block):
        raise HpackError("block ends within a string")
    raw = block[position:end]
    return (_huffman(raw) if first & 0x80 else raw), end


# Encoding.

_INDEXED, _PLAIN, _SECRET = 0x40, 0x00, 0x10
"""How a field is written: into the table, not into it, or not even by those who pass it on (RFC 7541 §7.1.3)."""
_SECRETS = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"})
_VOLATILE = frozenset(
    {
        b"age",
        b"content-length",
        b"content-range",
        b"date",
        b"etag",
        b"expires",
        b"last-modified",
        b"location",
        b"x-vcap-request-id",
        b":path",
    }
)
"""Fields that differ from message to message; in the table they would only push others out."""

_OF_THE_SECOND = frozenset({b"date", b"Date"})

_STATIC_NAMES: dict[bytes, int] = {}
_STATIC_FIELDS: dict[tuple[bytes, bytes], int] = {}
for _index, (_name, _value, _) in enumerate(STATIC[1:], 1):
    _STATIC_NAMES.setdefault(_name, _index)
    _STATIC_FIELDS[_name, _value] = _index

_Plan = tuple[int, bytes, int]
"""Of a field: how it is written, its literal, its size in the table."""

_plans: dict[bytes, _Plan] = {}


def _plan(line: bytes) -> _Plan:
    name, _, value = line.partition(b":")
    plan = _literal_plan(name.lower(), value.strip(b" \t"))
    if (plan[0] == _INDEXED or name in _OF_THE_SECOND) and len(line) <= _KNOWN_LINE_BYTES:
        if len(_plans) >= _KNOWN_LINES:
            _plans.clear()
        _plans[line] = plan
    return plan


def _literal_plan(name: bytes, value: bytes) -> _Plan:
    size = len(name) + len(value) + OVERHEAD
    how = _INDEXED
    if name in _SECRETS:
        how = _SECRET
    elif name in _VOLATILE or size > TABLE_BYTES // 4:
        how = _PLAIN
    index = _STATIC_NAMES.get(name, 0)
    coded = encode_integer(index, 6 if how == _INDEXED else 4, how)
    if not index:
        coded += _coded_string(name)
    return how, coded + _coded_string(value), size


def _coded_string(value: bytes) -> bytes:
    # Not Huffman coded: it would save a fifth of what is left over after the table, for a microsecond a line.
    return encode_integer(len(value), 7, 0) + value


def encode_integer(value: int, bits: int, flags: int) -> bytes:
    """Code an integer with a prefix of so many bits, below ``flags`` (RFC 7541 §5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((flags | value,))
    coded = bytearray((flags | most,))
    value -= most
    while value >= 0x80:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)


_INDEX_BYTES = [encode_integer(index, 7, 0x80) for index in range(_STATIC_SIZE + TABLE_BYTES // OVERHEAD + 1)]


class Encoder:
    """Encodes the header blocks of one direction of a connection, in their order."""

    def __init__(self) -> None:
        self._capacity = TABLE_BYTES
        self._size = 0
        self._added = 0
        """How many entries there have ever been: the newest has this number less one."""
        self._numbers: dict[bytes, int] = {}
        self._entries: deque[tuple[bytes, int]] = deque()
        self._resized: list[int] = []

    def resize(self, table_bytes: int) -> None:
        """The peer has set its SETTINGS_HEADER_TABLE_SIZE; of what it allows no more than the default is used."""
        size = min(table_bytes, TABLE_BYTES)
        if size == self._capacity:
            return
        self._capacity = size
        # The smallest size since the last block has to be told too (RFC 7541 §4.2).
        self._resized = [min([*self._resized, size]), size] if self._resized else [size]
        self._evict()

    def encode(self, fields: list[tuple[bytes, bytes]], lines: list[bytes]) -> bytes:
        """Encode one block.

        Args:
            fields: written first, as names in lower case and values; pseudo-header fields above all.
            lines: header lines as HTTP/1 has them; names become lower-case.
        """
        parts = []
        if self._resized:
            parts = [encode_integer(size, 5, 0x20) for size in self._resized]
            self._resized = []
        for name, value in fields:
            index = _STATIC_FIELDS.get((name, value))
            parts.append(_INDEX_BYTES[index] if index else self._field(name, value))
        numbers = self._numbers
        for line in lines:
            if line in numbers:
                parts.append(_INDEX_BYTES[_STATIC_SIZE + self._added - numbers[line]])
            else:
                known = _plans.get(line)
                parts.append(self._literal(line, known if known is not None else _plan(line)))
        return b"".join(parts)

    def _field(self, name: bytes, value: bytes) -> bytes:
        # No header line has a NUL, so the two kinds of keys cannot be confused.
        key = b"%b\0%b" % (name, value)
        if key in self._numbers:
            return _INDEX_BYTES[_STATIC_SIZE + self._added - self._numbers[key]]
        return self._literal(key, _literal_plan(name, value))

    def _literal(self, key: bytes, plan: _Plan) -> bytes:
        how, coded, size = plan
        if how == _INDEXED:
            self._numbers[key] = self._added
            self._entries.append((key, size))
            self._added += 1
            self._size += size
            self._evict()
        return coded

    def _evict(self) -> None:
        while self._size > self._capacity:
            line, size = self._entries.popleft()
            self._size -= size
            del self._numbers[line]
