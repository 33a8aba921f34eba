"""Times as Go writes them, and its words for those it cannot read."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.go_time import YEAR_ONE_NS, TimeError, format_time, parse_time


def test_time_that_is_not_given_is_the_first_of_all() -> None:
    assert parse_time("0001-01-01T00:00:00Z") == YEAR_ONE_NS


@given(st.datetimes(timezones=st.just(datetime.UTC)))
def test_times_are_those_of_the_calendar(moment: datetime.datetime) -> None:
    moment_ns = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)
    assert parse_time(moment.isoformat()) == moment_ns * 1000
    assert parse_time(format_time(moment_ns * 1000)) == moment_ns * 1000


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "00Z"), (1, "00.000000001Z"), (500_000_000, "00.5Z"), (120_000_000, "00.12Z")],
)
def test_fraction_is_as_short_as_it_can_be(nanoseconds: int, text: str) -> None:
    assert format_time(nanoseconds) == "1970-01-01T00:00:" + text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:00.1234567899Z", 123_456_789),
        ("1970-01-01T00:00:00-05:30", 19_800_000_000_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000_000),
    ],
)
def test_time_is_read(text: str, expected: int) -> None:
    assert parse_time(text) == expected


_AS = '" as "2006-01-02T15:04:05Z07:00": cannot parse "'


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", f'{_AS}" as "2006"'),
        ("yesterday", f'yesterday{_AS}yesterday" as "2006"'),
        ("2026/01/02", f'2026/01/02{_AS}/01/02" as "-"'),
        ("2026-01-02 03:04:05Z", f'2026-01-02 03:04:05Z{_AS} 03:04:05Z" as "T"'),
        ("2026-01-02T03:04:05", f'2026-01-02T03:04:05{_AS}" as "Z07:00"'),
        ("2026-01-02T03:04:05Zx", '2026-01-02T03:04:05Zx": extra text: "x"'),
        ("2026-13-02T03:04:05Z", '2026-13-02T03:04:05Z": month out of range'),
        ("2026-02-29T03:04:05Z", '2026-02-29T03:04:05Z": day out of range'),
        ("2026-01-02T24:04:05Z", '2026-01-02T24:04:05Z": hour out of range'),
        ("2026-01-02T03:60:05Z", '2026-01-02T03:60:05Z": minute out of range'),
        ("2026-01-02T03:04:60Z", '2026-01-02T03:04:60Z": second out of range'),
    ],
)
def test_bad_time_is_named_in_gos_words(text: str, cause: str) -> None:
    with pytest.raises(TimeError) as error:
        parse_time(text)
    assert str(error.value) == f'parsing time "{cause}'
