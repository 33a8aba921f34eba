"""Go duration strings: ``1m30s``, ``500ms``, ``1.5h``, ``-1s``, ``0``.

Exact to the nanosecond, as Go is: amounts are added as integers before they become seconds.
"""

import re

_MICROSECOND = 1000
_UNITS = {
    "ns": 1,
    "us": _MICROSECOND,
    "µs": _MICROSECOND,  # U+00B5, micro sign
    "μs": _MICROSECOND,  # U+03BC, Greek mu
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_MAX_NANOSECONDS = 2**63 - 1

_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"[-+]?(?:0|(?:{_PART.pattern})+)")


def parse_duration(text: str) -> float:
    """Return the seconds a Go duration string means.

    Raises:
        ValueError: the text is no duration, or one beyond ±292 years.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"invalid duration {text!r}")
    nanoseconds = sum(_part_nanoseconds(*match.groups(default="")) for match in _PART.finditer(text))
    if nanoseconds > _MAX_NANOSECONDS:
        raise ValueError(f"duration {text!r} is too long")
    return -nanoseconds / 10**9 if text.startswith("-") else nanoseconds / 10**9


def _part_nanoseconds(whole: str, fraction: str, unit: str) -> int:
    if not whole and not fraction:
        raise ValueError(f"invalid duration: {unit!r} without a number")
    # Longer digit strings overflow anyway, and int() of very long ones is slow or refused.
    if len(whole) > 30 or len(fraction) > 30:
        raise ValueError("invalid duration: too many digits")
    scale = _UNITS[unit]
    return int(whole or "0") * scale + int(fraction or "0") * scale // int(f"1{'0' * len(fraction)}")


def format_duration(seconds: float) -> str:
    """Write seconds as Go prints a duration: ``1m30s``, ``500ms``, ``1h0m0s``, ``0s``."""
    nanoseconds = round(abs(seconds) * 10**9)
    sign = "-" if seconds < 0 and nanoseconds else ""
    if nanoseconds < 10**9:
        return sign + _below_a_second(nanoseconds)
    minutes, rest = divmod(nanoseconds, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 10**9)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _below_a_second(nanoseconds: int) -> str:
    if nanoseconds == 0:
        return "0s"
    unit = next(unit for unit in ("ms", "µs", "ns") if nanoseconds >= _UNITS[unit])
    return _decimal(nanoseconds, _UNITS[unit]) + unit


def _decimal(amount: int, scale: int) -> str:
    whole, fraction = divmod(amount, scale)
    digits = str(fraction).rjust(len(str(scale)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
