"""Signatures of route services (GOROUTER.md §7.1): who was sent to a service, when, and that it was us who did it.

AES-128-GCM over a small JSON text, interoperable with Gorouter's in both directions. Owns the formats and the
reasons why a signature is no good, in the words clients and operators know from Go; does not own what follows from
them. One law: whatever is in the two headers, the outcome is a `Signed` or a `SignatureError`.
"""

import base64
import hashlib
import json
import re
from typing import Any, NamedTuple, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
_KEY_BYTES = 16
_KEY_ROUNDS = 100_001
_SECOND_NS = 1_000_000_000
YEAR_ONE_NS = -62_135_596_800 * _SECOND_NS
"""What Go takes a time for that is not given."""


class SignatureError(Exception):
    """The headers are not a signature of ours.

    Attributes:
        reason: what Gorouter would say (GOROUTER.md §7.4).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Signed(NamedTuple):
    """What a valid signature says."""

    url: str
    """The URL the client asked for."""
    requested_ns: int
    """When, in nanoseconds since the epoch."""


class Signer:
    """Signs with one secret; opens what was signed with it or with the one before it.

    Args:
        secret: ``route_services_secret``; not empty.
        old_secret: ``route_services_secret_decrypt_only``; may be empty.

    Deriving a key takes some 30 ms, on purpose: make one and keep it.
    """

    def __init__(self, secret: str, old_secret: str) -> None:
        self._key = AESGCM(derive_key(secret))
        self._old_key = AESGCM(derive_key(old_secret)) if old_secret else None

    def sign(self, url: str, requested_ns: int, nonce: bytes) -> tuple[bytes, bytes]:
        """Return the values of X-CF-Proxy-Signature and X-CF-Proxy-Metadata.

        Args:
            requested_ns: nanoseconds since the epoch.
            nonce: `NONCE_BYTES` random bytes, never used before with this secret.
        """
        text = f'{{"forwarded_url":{_go_string(url)},"requested_time":"{format_time(requested_ns)}"}}'
        sealed = self._key.encrypt(nonce, text.encode(), None)
        metadata = b'{"nonce":"%b"}' % base64.b64encode(nonce)
        return base64.urlsafe_b64encode(sealed), base64.urlsafe_b64encode(metadata)

    def open(self, signature: bytes, metadata: bytes) -> Signed:
        """Verify and read a signature. Raises `SignatureError`; if neither key fits, with the old one's reason."""
        try:
            return _open(self._key, signature, metadata)
        except SignatureError:
            if self._old_key is None:
                raise
        return _open(self._old_key, signature, metadata)


def derive_key(secret: str) -> bytes:
    """Return the AES key that Gorouter derives of the same secret: both must open what either has sealed."""
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), b"", _KEY_ROUNDS, _KEY_BYTES)


def _open(key: AESGCM, signature: bytes, metadata: bytes) -> Signed:
    if not metadata:
        raise SignatureError("No metadata found")
    fields = _read_object(_decode(metadata, _URL_ALPHABET, b"-_"), "Metadata")
    nonce = _decode(_text(fields, "nonce", "Metadata.nonce", "[]uint8").encode(), _STD_ALPHABET, b"+/")
    sealed = _decode(signature, _URL_ALPHABET, b"-_")
    if len(nonce) != NONCE_BYTES:
        raise SignatureError("incorrect nonce length")
    try:
        plain = key.decrypt(nonce, sealed, None)
    except InvalidTag:
        raise SignatureError("cipher: message authentication failed") from None
    return _read_signed(plain)


def _read_signed(plain: bytes) -> Signed:
    fields = _read_object(plain, "Signature")
    requested = fields.get("requested_time")
    if requested is not None and (not isinstance(requested, str) or isinstance(requested, _Number)):
        raise SignatureError("Time.UnmarshalJSON: input is not a JSON string")
    requested_ns = YEAR_ONE_NS if requested is None else parse_time(requested)
    return Signed(_text(fields, "forwarded_url", "Signature.forwarded_url", "string"), requested_ns)


# Base64.

_URL_ALPHABET = re.compile(rb"[A-Za-z0-9\-_]*+")
_STD_ALPHABET = re.compile(rb"[A-Za-z0-9+/]*+")


def _decode(text: bytes, alphabet: re.Pattern[bytes], last_two: bytes) -> bytes:
    """Decode padded base64. Line ends are read over, as Go does; they do not count in the place of an error."""
    text = text.replace(b"\r", b"").replace(b"\n", b"")
    match = alphabet.match(text)
    assert match is not None
    valid = match.end()
    padding = text[valid:]
    if len(text) % 4 or padding not in (b"", b"=", b"=="):
        raise SignatureError(f"illegal base64 data at input byte {_fault(valid, padding)}")
    return base64.b64decode(text, last_two)


def _fault(valid: int, padding: bytes) -> int:
    """Return where Go's decoder gives up on ``valid`` good characters followed by ``padding``."""
    place = valid % 4
    if not padding:
        return valid - place
    if padding[:1] != b"=" or place < 2:
        return valid
    if place == 3:
        return valid + 1
    if len(padding) == 1:
        return valid + 1
    return valid + 2 if padding[1:2] == b"=" else valid


# JSON.


class _Number(str):
    """A number as it was written: its value is of no interest, and may be millions of digits long."""

    __slots__ = ()


def _no_constant(name: str) -> NoReturn:
    """``NaN`` and ``Infinity``, which Python reads and JSON does not have."""
    where = "in numeric literal" if name[0] == "-" else "looking for beginning of value"
    raise SignatureError(f"invalid character '{name.lstrip('-')[0]}' {where}")


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


def _read_object(raw: bytes, kind: str) -> dict[str, Any]:
    """Read a JSON object; names are lower-cased, because Go matches them in any case."""
    text = raw.decode("utf-8", "surrogateescape").rstrip(_SPACES)
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise SignatureError(_go_error(text, error)) from None
    except RecursionError:
        raise SignatureError("exceeded max depth") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SignatureError(f"json: cannot unmarshal {_kind(value)} into Go value of type routeservice.{kind}")
    return {name.lower(): member for name, member in value.items()}


def _text(fields: dict[str, Any], name: str, field: str, go_type: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or isinstance(value, _Number):
        text = f"json: cannot unmarshal {_kind(value)} into Go struct field {field} of type {go_type}"
        raise SignatureError(text)
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


def _go_string(text: str) -> str:
    """Return a JSON string with the escapes Go's encoder writes."""
    return json.dumps(text, ensure_ascii=False).translate(_GO_ESCAPES)


# Times.

_RFC3339 = "2006-01-02T15:04:05Z07:00"
_ELEMENTS = [
    (element, re.compile(pattern, re.ASCII))
    for element, pattern in (
        ("2006", r"(\d{4})"),
        ("-", "-"),
        ("01", r"(\d\d)"),
        ("-", "-"),
        ("02", r"(\d\d)"),
        ("T", "T"),
        ("15", r"(\d\d)"),
        (":", ":"),
        ("04", r"(\d\d)"),
        (":", ":"),
        ("05", r"(\d\d(?:[.,]\d+)?)"),
        ("Z07:00", r"(Z|[+-]\d\d:\d\d)"),
    )
]
"""Go's reference time, piece by piece, and what each piece matches."""


def format_time(moment_ns: int) -> str:
    """Format nanoseconds since the epoch as RFC 3339 in UTC, without trailing zeros, as Go does."""
    seconds, nanoseconds = divmod(moment_ns, _SECOND_NS)
    days, second = divmod(seconds, 86_400)
    year, month, day = _civil(days)
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return f"{year:04d}-{month:02d}-{day:02d}T{clock}{fraction}Z"


def parse_time(text: str) -> int:
    """Return nanoseconds since the epoch of an RFC 3339 time. Raises `SignatureError` in Go's words."""
    rest = text
    parts: list[str] = []
    for element, pattern in _ELEMENTS:
        match = pattern.match(rest)
        if match is None:
            cause = f'cannot parse "{rest}" as "{element}"'
            raise SignatureError(f'parsing time "{text}" as "{_RFC3339}": {cause}')
        parts += match.groups()
        rest = rest[match.end() :]
    if rest:
        raise SignatureError(f'parsing time "{text}": extra text: "{rest}"')
    return _moment(text, parts)


def _moment(text: str, parts: list[str]) -> int:
    year, month, day, hour, minute = map(int, parts[:5])
    second, _, fraction = parts[5].replace(",", ".").partition(".")
    _check_ranges(text, (year, month, day), (hour, minute, int(second)))
    seconds = _days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + int(second)
    return (seconds - _offset(parts[6])) * _SECOND_NS + int(fraction[:9].ljust(9, "0"))


def _check_ranges(text: str, date: tuple[int, int, int], clock: tuple[int, int, int]) -> None:
    wrong = ""
    if not 1 <= date[1] <= 12:
        wrong = "month"
    elif clock[0] > 23:
        wrong = "hour"
    elif clock[1] > 59:
        wrong = "minute"
    elif clock[2] > 59:
        wrong = "second"
    elif _civil(_days(*date)) != date:
        wrong = "day"
    if wrong:
        raise SignatureError(f'parsing time "{text}": {wrong} out of range')


def _offset(zone: str) -> int:
    """Return seconds east of Greenwich."""
    if zone == "Z":
        return 0
    seconds = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return -seconds if zone[0] == "-" else seconds


# Years that begin in March put the day that comes and goes at their end; 719,468 days lie between 0000-03-01 and
# the epoch, 146,097 in 400 years. Written out because code that only decides imports no clock.


def _days(year: int, month: int, day: int) -> int:
    """Return the days from the epoch to a date of the Gregorian calendar."""
    year -= month <= 2
    century_years = year % 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return (
        year // 400 * 146_097
        + century_years * 365
        + century_years // 4
        - century_years // 100
        + day_of_year
        - 719_468
    )


def _civil(days: int) -> tuple[int, int, int]:
    """Return year, month and day so many days after the epoch."""
    eras, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return eras * 400 + year + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1
