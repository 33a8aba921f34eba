"""When the next worker is started after one has died."""

import pytest

from router.control.slot import SETTLED_S, Backoff


def test_first_death_is_replaced_at_once() -> None:
    assert Backoff().delay_s(0.0) == 0.0


def test_workers_that_never_serve_are_started_less_and_less_often() -> None:
    backoff = Backoff()

    assert [backoff.delay_s(None) for _ in range(5)] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert [backoff.delay_s(None) for _ in range(60)][-1] == Backoff.hopeless_ceiling_s


@pytest.mark.parametrize("served_s", [0.0, SETTLED_S / 2])
def test_worker_that_had_served_is_never_waited_for_longer_than_a_second(served_s: float) -> None:
    backoff = Backoff()

    assert max(backoff.delay_s(served_s) for _ in range(60)) == Backoff.ceiling_s


def test_worker_that_served_well_is_replaced_at_once_whatever_was_before() -> None:
    backoff = Backoff()
    for _ in range(10):
        backoff.delay_s(None)

    assert backoff.delay_s(SETTLED_S) == 0.0
    assert backoff.delay_s(None) == 0.1
