"""Quoting as Go's ``%q`` does it, which the access log's readers expect (GOROUTER.md §11.2)."""

import re

_PLAIN = re.compile(rb"[\x20\x21\x23-\x5b\x5d-\x7e]+")
_SHORT = {0x07: "\\a", 0x08: "\\b", 0x0C: "\\f", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x0B: "\\v", 0x22: '\\"'}
_SHORT[0x5C] = "\\\\"

EMPTY = b'"-"'


def quote(value: bytes) -> bytes:
    """Return the value in double quotes, escaped; an empty one as ``"-"``."""
    if _PLAIN.fullmatch(value) is not None:
        return b'"%b"' % value
    if not value:
        return EMPTY
    text = value.decode("utf-8", "surrogateescape")
    return ('"' + "".join(map(_escape, text)) + '"').encode()


def _escape(character: str) -> str:
    code = ord(character)
    if code in _SHORT:
        return _SHORT[code]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # a byte that is not UTF-8
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
