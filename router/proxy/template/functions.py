"""The functions templates may call, as Go's text/template defines them."""

import re
import urllib.parse
from collections.abc import Callable

from router.proxy.template.values import Header, RenderError, Value, is_true, octets, quoted, shown, type_name

Function = Callable[[list[Value]], Value]

_VERB = re.compile(r"%([-+# 0]*)([0-9]{0,4})(?:\.([0-9]{0,4}))?(.|$)", re.DOTALL)
_JS = str.maketrans(
    {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}
)
LAZY = frozenset({"and", "or"})
"""They look at no more operands than they need."""


def call(name: str, arguments: list[Value]) -> Value:
    """Call a function by name. Raises `RenderError` if it does not take these arguments."""
    least, most, function = FUNCTIONS[name]
    count = len(arguments)
    if count < least or (most is not None and count > most):
        number = f"{least}" if least == most else f"at least {least}"
        raise RenderError(f"wrong number of args for {name}: want {number} got {count}")
    return function(arguments)


def _equal(arguments: list[Value]) -> bool:
    first = arguments[0]
    return any(_same(first, other) for other in arguments[1:])


def _same(left: Value, right: Value) -> bool:
    _check_comparable(left, right, ordered=False)
    return left == right


def _less(arguments: list[Value]) -> bool:
    left, right = arguments
    _check_comparable(left, right, ordered=True)
    if isinstance(left, str) and isinstance(right, str):
        return octets(left) < octets(right)
    return isinstance(left, int) and isinstance(right, int) and left < right


def _check_comparable(left: Value, right: Value, *, ordered: bool) -> None:
    for value in (left, right):
        if not isinstance(value, int | str) or (ordered and isinstance(value, bool)):
            raise RenderError(f"invalid type for comparison: {type_name(value)}")
    if type(left) is not type(right):
        raise RenderError(f"incompatible types for comparison: {type_name(left)} and {type_name(right)}")


def _length(arguments: list[Value]) -> int:
    value = arguments[0]
    if isinstance(value, str):
        return len(octets(value))
    if isinstance(value, list):
        return len(value)
    if isinstance(value, Header):
        return len(value.fields)
    raise RenderError(f"error calling len: len of type {type_name(value)}")


def _index(arguments: list[Value]) -> Value:
    value = arguments[0]
    for place in arguments[1:]:
        value = _element(value, place)
    return value


def _element(value: Value, place: Value) -> Value:
    if isinstance(value, Header) and isinstance(place, str):
        return value.fields.get(place, [])
    if isinstance(value, list) and isinstance(place, int) and not isinstance(place, bool):
        if 0 <= place < len(value):
            return value[place]
        raise RenderError(f"error calling index: index out of range: {place}")
    raise RenderError(f"error calling index: can't index {type_name(value)} with {type_name(place)}")


def joined(arguments: list[Value]) -> str:
    """Return what Go's ``Sprint`` does: a space between two operands if neither is a string."""
    text = ""
    for number, value in enumerate(arguments):
        if number and not isinstance(value, str) and not isinstance(arguments[number - 1], str):
            text += " "
        text += shown(value)
    return text


def _formatted(arguments: list[Value]) -> str:
    template, values = arguments[0], arguments[1:]
    if not isinstance(template, str):
        raise RenderError(f"wrong type for value; expected string; got {type_name(template)}")
    rest = iter(values)

    def verb(match: re.Match[str]) -> str:
        flags, width, precision, letter = match.groups()
        if letter == "%":
            return "%"
        if not letter:
            return "%!(NOVERB)"
        for value in rest:
            text = _by_verb(letter, value)
            if precision is not None and letter in "sqv" and isinstance(value, str):
                text = _by_verb(letter, value[: int(precision or 0)])
            return _padded(text, flags, int(width or 0), isinstance(value, int))
        return f"%!{letter}(MISSING)"

    text = _VERB.sub(verb, template)
    extra = [f"{type_name(value)}={shown(value)}" for value in rest]
    return f"{text}%!(EXTRA {', '.join(extra)})" if extra else text


def _padded(text: str, flags: str, width: int, number: bool) -> str:
    if number and "+" in flags and not text.startswith("-"):
        text = "+" + text
    if "-" in flags:
        return text.ljust(width)
    return text.zfill(width) if "0" in flags else text.rjust(width)


def _by_verb(letter: str, value: Value) -> str:
    if letter == "v":
        return shown(value)
    if letter == "T":
        return type_name(value)
    if isinstance(value, str):
        return _string_by_verb(letter, value)
    if isinstance(value, bool):
        return shown(value) if letter == "t" else _bad_verb(letter, value)
    if isinstance(value, int):
        return _number_by_verb(letter, value)
    if isinstance(value, list) and letter in "sqxX":
        return f"[{' '.join(_string_by_verb(letter, each) for each in value)}]"
    return _bad_verb(letter, value)


def _string_by_verb(letter: str, value: str) -> str:
    if letter == "s":
        return value
    if letter == "q":
        return quoted(value)
    if letter in "xX":
        digits = octets(value).hex()
        return digits.upper() if letter == "X" else digits
    return _bad_verb(letter, value)


def _number_by_verb(letter: str, value: int) -> str:
    if letter in "dxXob":
        return format(value, letter)
    if letter == "c":
        return chr(value) if 0 <= value < 0xD800 or 0xDFFF < value <= 0x10FFFF else "\ufffd"
    return _bad_verb(letter, value)


def _bad_verb(letter: str, value: Value) -> str:
    return f"%!{letter}({type_name(value)}={shown(value)})"


def _escaped_for_js(arguments: list[Value]) -> str:
    text = joined(arguments).translate(_JS)
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\u{ord(match[0]):04X}", text)


def _unsupported_lazily(arguments: list[Value]) -> Value:
    raise RenderError(f"and/or called with {len(arguments)} values instead of operands")


FUNCTIONS: dict[str, tuple[int, int | None, Function]] = {
    "and": (1, None, _unsupported_lazily),
    "or": (1, None, _unsupported_lazily),
    "not": (1, 1, lambda arguments: not is_true(arguments[0])),
    "eq": (2, None, _equal),
    "ne": (2, 2, lambda arguments: not _equal(arguments)),
    "lt": (2, 2, _less),
    "le": (2, 2, lambda arguments: _less(arguments) or _equal(arguments)),
    "gt": (2, 2, lambda arguments: _less(arguments[::-1])),
    "ge": (2, 2, lambda arguments: _less(arguments[::-1]) or _equal(arguments)),
    "len": (1, 1, _length),
    "index": (1, None, _index),
    "print": (0, None, joined),
    "println": (0, None, lambda arguments: " ".join(map(shown, arguments)) + "\n"),
    "printf": (1, None, _formatted),
    "html": (0, None, joined),
    "js": (0, None, _escaped_for_js),
    "urlquery": (0, None, lambda arguments: urllib.parse.quote_plus(octets(joined(arguments)))),
}
"""Fewest and most arguments, and what it does. ``html`` does nothing itself: what a template puts out is escaped
for the place it stands in, and `parser` lets ``html`` be called nowhere but there."""
