"""The schedule on a clock of its own: no real time passes here."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.registrar.schedule import DEFAULT_INTERVAL_S, JITTER, Schedule, interval_from_router


def schedule(interval_s: float = 10.0) -> Schedule[str]:
    return Schedule(lambda item: interval_s, random.Random(7))


def test_empty_schedule_has_nothing_due() -> None:
    empty = schedule()
    assert empty.next_due() is None
    assert empty.take_due(1e9, 10) == []


def test_item_is_not_taken_before_its_time() -> None:
    one = schedule()
    one.add("a", 5.0)
    assert one.take_due(4.9, 10) == []
    assert one.take_due(5.0, 10) == ["a"]


def test_taken_item_is_due_again_within_one_interval() -> None:
    one = schedule(10.0)
    one.add("a", 0.0)
    one.take_due(100.0, 1)
    due = one.next_due()
    assert due is not None
    assert 110.0 - 10.0 * JITTER <= due <= 110.0


def test_longest_due_items_are_taken_first() -> None:
    some = schedule()
    for item, due in [("late", 3.0), ("first", 1.0), ("second", 2.0)]:
        some.add(item, due)
    assert some.take_due(9.0, 2) == ["first", "second"]
    assert some.take_due(9.0, 2) == ["late"]


def test_removed_item_is_never_taken() -> None:
    some = schedule()
    some.add("a", 1.0)
    some.add("b", 2.0)
    assert some.remove("a")
    assert some.next_due() == 2.0
    assert some.take_due(9.0, 9) == ["b"]


def test_removing_an_unknown_item_changes_nothing() -> None:
    some = schedule()
    some.add("a", 1.0)
    assert not some.remove("b")
    assert some.items() == ["a"]


def test_bringing_forward_makes_all_due_at_once() -> None:
    some = schedule()
    for item in "abc":
        some.add(item, 1000.0)
    some.bring_forward(5.0, lambda item: True)
    assert some.take_due(5.0, 9) == ["a", "b", "c"]


def test_bringing_some_forward_leaves_the_others_as_they_are() -> None:
    some = schedule()
    some.add("a", 1000.0)
    some.add("b", 900.0)
    some.bring_forward(5.0, lambda item: item == "a")
    assert some.take_due(5.0, 9) == ["a"]
    assert some.next_due() is not None
    assert some.take_due(900.0, 1) == ["a"]


def test_each_item_keeps_its_own_interval() -> None:
    some = Schedule({"often": 1.0, "rarely": 100.0}.__getitem__, random.Random(7))
    for item in ("often", "rarely"):
        some.add(item, 0.0)
    assert some.take_due(0.0, 9) == ["often", "rarely"]
    assert some.take_due(1.0, 9) == ["often"]


def test_shorter_interval_holds_at_once() -> None:
    intervals = {"a": 100.0}
    some = Schedule(intervals.__getitem__, random.Random(7))
    some.add("a", 90.0)
    intervals["a"] = 4.0
    some.intervals_shortened(0.0)
    due = some.next_due()
    assert due is not None
    assert due <= 4.0


def test_longer_interval_leaves_the_next_time_as_it_is() -> None:
    some = schedule(100.0)
    some.add("a", 9.0)
    some.intervals_shortened(0.0)
    assert some.next_due() == 9.0


def test_jitter_spreads_items_that_started_together() -> None:
    many = Schedule[int](lambda item: 20.0, random.Random(1))
    for item in range(1000):
        many.add(item, 0.0)
    many.take_due(0.0, 1000)
    early = many.take_due(20.0 * (1 - JITTER / 2), 1000)
    assert 400 < len(early) < 600


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["add", "remove", "take", "all"])), max_size=60)
)
def test_schedule_agrees_with_a_plain_dictionary(steps: list[tuple[str, str]]) -> None:
    tested = schedule(10.0)
    model: dict[str, float] = {}
    for now, (item, step) in enumerate(steps):
        if step == "add":
            tested.add(item, now + 3.0)
            model[item] = now + 3.0
        elif step == "remove":
            assert tested.remove(item) == (model.pop(item, None) is not None)
        elif step == "all":
            tested.bring_forward(now, lambda item: True)
            model = {name: min(due, now) for name, due in model.items()}
        else:
            taken = tested.take_due(now, 99)
            assert set(taken) == {name for name, due in model.items() if due <= now}
            # Jitter makes an exact model impossible: from here on nothing is due before 8 s have passed.
            for name in taken:
                tested.add(name, now + 10.0)
                model[name] = now + 10.0
        assert len(tested) == len(model)
        assert tested.next_due() == min(model.values(), default=None)


@pytest.mark.parametrize(
    ("minimum_s", "prune_s", "expected_s"),
    [
        (20, 120, 20.0),
        (60, 120, 40.0),
        (0, 120, DEFAULT_INTERVAL_S),
        (0, 0, DEFAULT_INTERVAL_S),
        (0, 9, 3.0),
        (-5, -5, DEFAULT_INTERVAL_S),
        (1, 1, 0.5),
    ],
)
def test_interval_obeys_the_router_but_never_lets_a_route_go_stale(
    minimum_s: float, prune_s: float, expected_s: float
) -> None:
    assert interval_from_router(minimum_s, prune_s) == expected_s
