"""Bursts, rates and the bound on memory, on a clock of the test's own."""

from hypothesis import given
from hypothesis import strategies as st

from router.control.internal.rate_limit import RateLimit


def admitted(limit: RateLimit, source: str, now: float, tries: int) -> int:
    return sum(limit.admit(source, now) for _ in range(tries))


def test_burst_of_one_seconds_worth_is_admitted_at_once() -> None:
    assert admitted(RateLimit(50), "a", 100.0, 80) == 50


def test_rate_holds_after_the_burst() -> None:
    limit = RateLimit(50)
    admitted(limit, "a", 0.0, 80)
    assert [admitted(limit, "a", 0.1 * step, 80) for step in (1, 2, 3)] == [5, 5, 5]


def test_sources_do_not_share() -> None:
    limit = RateLimit(10)
    assert admitted(limit, "a", 0.0, 20) == 10
    assert admitted(limit, "b", 0.0, 20) == 10


def test_zero_is_no_limit_and_keeps_nothing() -> None:
    limit = RateLimit(0)
    assert admitted(limit, "a", 0.0, 1000) == 1000
    assert len(limit) == 0


def test_quiet_source_has_its_whole_burst_again_and_takes_no_memory() -> None:
    limit = RateLimit(10)
    admitted(limit, "a", 0.0, 20)
    admitted(limit, "b", 5.0, 1)
    assert len(limit) == 1
    assert admitted(limit, "a", 5.0, 20) == 10


def test_memory_is_bounded_whatever_sources_appear() -> None:
    limit = RateLimit(1, sources=100)
    for number in range(1000):
        limit.admit(f"10.0.{number >> 8}.{number & 255}", 0.0)
    assert len(limit) == 100


def test_flood_that_fills_the_table_spares_the_source_seen_last() -> None:
    limit = RateLimit(1, sources=2)
    limit.admit("a", 0.0)
    limit.admit("b", 0.0)
    assert not limit.admit("a", 0.0)
    limit.admit("c", 0.0)
    assert not limit.admit("a", 0.0)
    assert limit.admit("b", 0.0)


@given(
    st.integers(1, 1000),
    st.lists(st.floats(0, 0.5, allow_nan=False), min_size=1, max_size=200),
)
def test_no_more_is_admitted_than_a_burst_and_the_rate_allow(per_second: int, pauses: list[float]) -> None:
    limit = RateLimit(per_second)
    now = passed = 0.0
    for pause in pauses:
        now += pause
        passed += limit.admit("a", now)
    assert passed <= per_second * (1 + now) + 1e-6 * len(pauses) + 1
