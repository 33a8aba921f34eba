import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("1s", 1),
        ("+1s", 1),
        ("-1s", -1),
        ("30s", 30),
        ("1m30s", 90),
        ("15m0s", 900),
        ("1h", 3600),
        ("1h1m1s", 3661),
        ("30s1h", 3630),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1.s", 1),
        ("-1.5h", -5400),
        ("1us", 1e-6),
        ("1µs", 1e-6),
        ("1μs", 1e-6),
        ("1ns", 1e-9),
        ("0.3ns", 0),
        ("1s500ms", 1.5),
        ("9223372036s", 9223372036),
    ],
)
def test_a_go_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


_TOO_LONG = "1" * 5000


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "1",
            "30",
            "s",
            "ms",
            ".s",
            "1.2.3s",
            "1 s",
            " 1s",
            "1s ",
            "1d",
            "1S",
            "--1s",
            "-",
            "+",
            "1e3s",
            "s1",
        ),
        *("1s-1s", "1s\n", "one", "infs", "1_000s", "٣s", "9223372037s"),
        pytest.param(f"{_TOO_LONG}s", id="many digits"),
        pytest.param(f"0.{_TOO_LONG}s", id="many decimals"),
    ],
)
def test_what_is_no_go_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "-1s"),
        (90, "1m30s"),
        (3600, "1h0m0s"),
        (0.5, "500ms"),
        (1.5, "1.5s"),
        (0.0015, "1.5ms"),
        (1e-6, "1µs"),
        (7e-9, "7ns"),
        (120, "2m0s"),
    ],
)
def test_seconds_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_a_written_duration_is_read_back(microseconds: int) -> None:
    seconds = microseconds / 10**6
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-7)


@given(st.text(alphabet="0123456789.-+hmsnuµ ", max_size=20))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        parse_duration(text)
    except ValueError as error:
        assert "duration" in str(error)  # noqa: PT017 - both outcomes are right, and nothing else is
