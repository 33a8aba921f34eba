from collections import Counter
from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.routing.weights import MAX_TURNS, turns_of

some_weights = st.lists(st.integers(0, 100), min_size=1, max_size=12).filter(any)


@pytest.mark.parametrize(
    ("weights", "turns"),
    [
        ([5, 1, 1], [0, 1, 0, 0, 0, 2, 0]),
        ([1, 3], [1, 0, 1, 1]),
        ([2, 3], [1, 0, 1, 0, 1]),
        ([4, 8, 4], [0, 1, 2, 1]),
        ([0, 7, 0], [1]),
        ([100], [0]),
    ],
)
def test_turns_are_spread_and_no_more_than_needed(weights: list[int], turns: list[int]) -> None:
    assert turns_of(weights) == turns


@settings(deadline=None, derandomize=True)
@given(some_weights)
def test_each_has_exactly_the_turns_its_weight_says(weights: list[int]) -> None:
    divisor = gcd(*weights)

    counts = Counter(turns_of(weights))

    assert [counts[position] for position in range(len(weights))] == [weight // divisor for weight in weights]


@settings(deadline=None, derandomize=True)
@given(some_weights)
def test_no_member_is_ever_far_from_its_share(weights: list[int]) -> None:
    turns = turns_of(weights)
    kinds = len(set(weights) - {0})
    for position, weight in enumerate(weights):
        taken = 0
        for count, turn in enumerate(turns, 1):
            taken += turn == position
            assert abs(taken - count * weight / sum(weights)) <= 1 + kinds / 2


def test_largest_pool_that_is_exact_has_a_thousand_members() -> None:
    counts = Counter(turns_of([99] * 999 + [100]))

    assert (counts[0], counts[999]) == (99, 100)
    assert counts.total() <= MAX_TURNS


def test_larger_pool_is_rounded_and_nobody_loses_its_share() -> None:
    counts = Counter(turns_of([100] * 5000 + [1] * 100))

    assert counts.total() <= MAX_TURNS + 5100
    assert (counts[0], counts[5099]) == (17, 1)
