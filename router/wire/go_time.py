"""Times as Go writes and reads them: RFC 3339 with nanoseconds, and Go's words for what is none.

Counts days itself, because code that only decides imports no clock.
"""

import re

_SECOND_NS = 1_000_000_000
YEAR_ONE_NS = -62_135_596_800 * _SECOND_NS
"""What Go takes a time for that is not given."""


class TimeError(Exception):
    """Not a time; the text is Go's."""


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
    """Return nanoseconds since the epoch of an RFC 3339 time. Raises `TimeError` in Go's words."""
    rest = text
    parts: list[str] = []
    for element, pattern in _ELEMENTS:
        match = pattern.match(rest)
        if match is None:
            cause = f'cannot parse "{rest}" as "{element}"'
            raise TimeError(f'parsing time "{text}" as "{_RFC3339}": {cause}')
        parts += match.groups()
        rest = rest[match.end() :]
    if rest:
        raise TimeError(f'parsing time "{text}": extra text: "{rest}"')
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
        raise TimeError(f'parsing time "{text}": {wrong} out of range')


def _offset(zone: str) -> int:
    """Return seconds east of Greenwich."""
    if zone == "Z":
        return 0
    seconds = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return -seconds if zone[0] == "-" else seconds


# Years that begin in March put the day that comes and goes at their end; 719,468 days lie between 0000-03-01 and
# the epoch, 146,097 in 400 years.


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
