"""Allowances, i.e. how often something may happen."""

from router.wire.http2_limits import Allowance


def taken(allowance: Allowance, now: float, most: int = 1000) -> int:
    """How often something is allowed at one moment."""
    return next(count for count in range(most + 1) if not allowance.take(now))


def test_at_first_a_second_and_a_burst_are_allowed() -> None:
    assert taken(Allowance(10, 100), 5.0) == 20


def test_time_fills_it_up_to_a_second_but_no_further() -> None:
    allowance = Allowance(10, 100)
    taken(allowance, 5.0)
    assert taken(allowance, 5.5) <= 5
    assert taken(allowance, 1000.0) == 10


def test_what_is_earned_lasts_up_to_the_limit() -> None:
    allowance = Allowance(10, 100)
    taken(allowance, 5.0)
    for _ in range(500):
        allowance.give(1)
    assert 95 <= taken(allowance, 5.0) <= 110
