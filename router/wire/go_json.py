"""JSON as Go's ``encoding/json`` reads and writes it, with what it says of JSON that is none.

Clients and operators know these words: they stand in headers and logs of Gorouter (GOROUTER.md §7.4). Owns the
translation of what Python's decoder finds; does not own any message. One law: whatever the bytes are, they are an
object or a `JsonError`, and cost no more than their length.
"""

import json
import re
from typing import Any, NoReturn, TypeGuard


class JsonError(Exception):
    """Not the JSON that was wanted; the text is Go's."""


class _Number(str):
    """A number as it was written: its value is of no interest, and may be millions of digits long."""

    __slots__ = ()


def _no_constant(name: str) -> NoReturn:
    """``NaN`` and ``Infinity``, which Python reads and JSON does not have."""
    where = "in numeric literal" if name[0] == "-" else "looking for beginning of value"
    raise JsonError(f"invalid character '{name.lstrip('-')[0]}' {where}")


_decoder = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_no_constant)
_CONTEXTS = {
    "Expecting property name": "looking for beginning of object key string",
    "Expecting ':'": "after object key",
    "Expecting ','": "after object key:value pair",
    "Extra data": "after top-level value",
    "Invalid control character": "in string literal",
}
"""Beginnings of what Python's decoder says, and where Go's scanner was then."""
_LITERALS = {"t": "true", "f": "false", "n": "null"}
_SPACES = " \t\r\n"


def read_object(raw: bytes, kind: str) -> dict[str, Any]:
    """Read a JSON object; names are lower-cased, because Go matches them in any case.

    Args:
        kind: the type Go would read it into, for its words.

    Raises `JsonError` for whatever is no object; ``null`` is an empty one.
    """
    text = raw.decode("utf-8", "surrogateescape").rstrip(_SPACES)
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise JsonError(_go_error(text, error)) from None
    except RecursionError:
        raise JsonError("exceeded max depth") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise JsonError(f"json: cannot unmarshal {_kind(value)} into Go value of type {kind}")
    return {name.lower(): member for name, member in value.items()}


def is_string(value: object) -> TypeGuard[str]:
    """Whether a member that was read is a string, and not a number."""
    return isinstance(value, str) and not isinstance(value, _Number)


def text_of(fields: dict[str, Any], name: str, field: str, go_type: str) -> str:
    """Return a member that should be a string, as text that can be sent; empty if it is not there.

    Args:
        field: its name in Go.
        go_type: what Go would read it into.

    Raises `JsonError`.
    """
    value = fields.get(name)
    if value is None:
        return ""
    if not is_string(value):
        text = f"json: cannot unmarshal {_kind(value)} into Go struct field {field} of type {go_type}"
        raise JsonError(text)
    # JSON can escape half a surrogate pair, and the bytes need not have been UTF-8.
    return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, _Number):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _go_error(text: str, error: json.JSONDecodeError) -> str:
    """Say about malformed JSON what Go says."""
    place, message = error.pos, error.msg
    if message.startswith("Unterminated string"):
        place = len(text)
    elif message.startswith("Invalid \\"):
        return _bad_escape(text, place)
    elif message.startswith("Expecting value"):
        return _bad_value(text, place)
    elif message.startswith("Illegal trailing comma"):
        closing = re.search(r"[]}]", text[place:])
        assert closing is not None
        place += closing.start()
        message = "Expecting property name"
    for beginning, context in _CONTEXTS.items():
        if message.startswith(beginning):
            return _invalid(text, place, context)
    return _invalid(text, place, "looking for beginning of value")


def _bad_value(text: str, place: int) -> str:
    first = text[place : place + 1]
    if first == "-":
        return _invalid(text, place + 1, "in numeric literal")
    literal = _LITERALS.get(first, "")
    for offset, expected in enumerate(literal):
        if text[place + offset : place + offset + 1] != expected:
            return _invalid(text, place + offset, f"in literal {literal} (expecting '{expected}')")
    return _invalid(text, place, "looking for beginning of value")


def _bad_escape(text: str, place: int) -> str:
    # Where Python sees an escape begin differs: at its backslash or after it.
    escape = text.index("\\", max(place - 1, 0)) + 1
    if text[escape : escape + 1] != "u":
        return _invalid(text, escape, "in string escape code")
    digits = re.compile("[0-9A-Fa-f]*").match(text, escape + 1)
    assert digits is not None
    return _invalid(text, digits.end(), "in \\u hexadecimal character escape")


def _invalid(text: str, place: int, context: str) -> str:
    if place >= len(text):
        return "unexpected end of JSON input"
    # Go looks at bytes, and shows one as the character of that number.
    byte = text[place].encode("utf-8", "surrogateescape")[0]
    return f"invalid character {_quoted_character(chr(byte))} {context}"


def _quoted_character(character: str) -> str:
    if character == "'":
        return r"'\''"
    if character == "\\":
        return r"'\\'"
    if character.isprintable():
        return f"'{character}'"
    escaped = repr(character)
    return escaped if ord(character) < 0x7F else f"'\\u{ord(character):04x}'"


_GO_ESCAPES = str.maketrans(
    {"&": "\\u0026", "<": "\\u003c", ">": "\\u003e", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def quoted(text: str) -> str:
    """Return a JSON string with the escapes Go's encoder writes."""
    return json.dumps(text, ensure_ascii=False).translate(_GO_ESCAPES)
