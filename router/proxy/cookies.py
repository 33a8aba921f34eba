"""Cookies as Go's net/http reads and writes them (RFC 6265 with Go's limits).

What Go would not parse is ignored, so that both routers see the same cookies in the same bytes.
"""

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass

from router.wire.header_lines import TOKEN

_BLANK = b" \t\r\n"
_NAME = re.compile(TOKEN)
_NOT_VALUE = re.compile(rb"[^\x20\x21\x23-\x3a\x3c-\x5b\x5d-\x7e]")
_NOT_PATH = re.compile(rb"[^\x20-\x3a\x3c-\x7e]")
_SECONDS = re.compile(rb"[+-]?[0-9]{1,18}")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DATE = re.compile(
    rb"(?i:Mon|Tue|Wed|Thu|Fri|Sat|Sun), +([0-9]{2})(?:(-)| +)"
    rb"(?i:(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec))(?(2)-| +)([0-9]{4})"
    rb" +([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,][0-9]+)? +"
    rb"(?:UTC|GMT(?:[+-][0-9]{1,2})?|[A-Z]{3}|[A-Z]{3,4}T|WITA|ChST|MeST|[+-][0-9]{2})"
)
_EPOCH = datetime.datetime(1970, 1, 1)
_FIRST_YEAR = 1601
"""Go leaves out an Expires before it (RFC 6265 §5.1.1)."""
_SAME_SITE = {b"lax": b"Lax", b"strict": b"Strict", b"none": b"None"}


@dataclass(slots=True)
class Attributes:
    """What a Set-Cookie line says besides name and value, as far as it is passed on.

    Attributes:
        max_age: seconds; a negative number if the cookie is to be deleted; 0 if the line does not say.
        expires_s: seconds since the epoch; None if the line does not say.
        same_site: ``Lax``, ``Strict``, ``None`` or empty.
    """

    max_age: int = 0
    expires_s: int | None = None
    secure: bool = False
    same_site: bytes = b""
    partitioned: bool = False


def read_cookies(field: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and values of a Cookie field; several of them are joined by ``; `` (RFC 9113 §8.2.3)."""
    for part in field.split(b";"):
        name, _, value = part.strip(_BLANK).partition(b"=")
        name = name.strip(_BLANK)
        if _NAME.fullmatch(name) is not None:
            value = _unquoted(value)
            if _NOT_VALUE.search(value) is None:
                yield name, value


def set_cookie_name(value: bytes) -> bytes:
    """Return the name a Set-Cookie value sets; empty if Go would not read it."""
    name, equals, content = value.partition(b";")[0].strip(_BLANK).partition(b"=")
    name = name.strip(_BLANK)
    if not equals or _NAME.fullmatch(name) is None or _NOT_VALUE.search(_unquoted(content)) is not None:
        return b""
    return name


def set_cookie_attributes(value: bytes) -> Attributes:
    """Read the attributes of a Set-Cookie value; those that Go would not read count as absent."""
    found = Attributes()
    for part in value.split(b";")[1:]:
        name, _, content = part.strip(_BLANK).partition(b"=")
        if _NOT_VALUE.search(content) is None:
            _read_attribute(found, name.lower(), content)
    return found


def _read_attribute(found: Attributes, name: bytes, content: bytes) -> None:
    if name == b"max-age":
        found.max_age = _max_age(content) or found.max_age
    elif name == b"expires":
        found.expires_s = parse_date(content)
    elif name == b"secure":
        found.secure = True
    elif name == b"samesite":
        found.same_site = _SAME_SITE.get(content.lower(), b"")
    elif name == b"partitioned":
        found.partitioned = True


def _max_age(content: bytes) -> int:
    """Return seconds, -1 for now and before, 0 if it is no number as Go reads one."""
    if _SECONDS.fullmatch(content) is None:
        return 0
    seconds = int(content)
    if seconds > 0 and content[:1] == b"0":
        return 0
    return seconds if seconds > 0 else -1


def parse_date(text: bytes) -> int | None:
    """Read a date as Go reads Expires, and return seconds since the epoch.

    Go checks neither the day of the week nor the time zone: what is no offset it knows is taken for GMT.
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    month = _MONTHS.index(match[3].lower().decode()) + 1
    year, day, hour, minute, second = (int(match[group]) for group in (4, 1, 5, 6, 7))
    try:
        moment = datetime.datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None
    return (moment - _EPOCH) // datetime.timedelta(seconds=1)


def format_date(epoch_s: int) -> bytes:
    """Write a date as RFC 1123 has it; empty if it is one that Go leaves out or no calendar knows."""
    try:
        moment = _EPOCH + datetime.timedelta(seconds=epoch_s)
    except OverflowError:
        return b""
    if moment.year < _FIRST_YEAR:
        return b""
    month = _MONTHS[moment.month - 1].title()
    return f"{_DAYS[moment.weekday()]}, {moment:%d} {month} {moment:%Y %H:%M:%S} GMT".encode()


def write_cookie(name: bytes, value: bytes, path: bytes, attributes: Attributes) -> bytes:
    """Return a Set-Cookie line, always HttpOnly, attributes in the order Go writes them.

    Bytes that no cookie may hold are left out.
    """
    value = _NOT_VALUE.sub(b"", value)
    if b" " in value or b"," in value:
        value = b'"%b"' % value
    line = b"Set-Cookie: %b=%b; Path=%b" % (name, value, _NOT_PATH.sub(b"", path))
    expires = b"" if attributes.expires_s is None else format_date(attributes.expires_s)
    if expires:
        line += b"; Expires=" + expires
    if attributes.max_age:
        line += b"; Max-Age=%d" % max(attributes.max_age, 0)
    line += b"; HttpOnly"
    if attributes.secure:
        line += b"; Secure"
    if attributes.same_site:
        line += b"; SameSite=" + attributes.same_site
    return line + b"; Partitioned" if attributes.partitioned else line


def _unquoted(value: bytes) -> bytes:
    return value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value
