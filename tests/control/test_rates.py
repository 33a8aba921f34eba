import math

import pytest

from router.control.rates import BusyApps, Meter, percentile


def test_steady_rate_is_met_by_all_averages_in_time() -> None:
    meter = Meter()
    for second in range(0, 7200, 5):
        meter.update(10.0 * second, float(second))

    assert meter.rates == pytest.approx([10.0, 10.0, 10.0], rel=0.01)


def test_first_total_says_nothing_about_a_rate() -> None:
    meter = Meter()
    meter.update(1e6, 5.0)
    meter.update(1e6, 5.0)

    assert meter.rates == [0.0, 0.0, 0.0]


def test_short_average_follows_a_burst_sooner() -> None:
    meter = Meter()
    meter.update(0.0, 0.0)
    meter.update(600.0, 60.0)

    assert meter.rates[0] == pytest.approx(10 * (1 - math.exp(-1)))
    assert meter.rates[0] > meter.rates[1] > meter.rates[2] > 0


def test_busiest_apps_come_first_and_equal_ones_by_name() -> None:
    apps = BusyApps()
    apps.add({"b": 1, "a": 1, "c": 5}, 0.0)
    apps.add({"b": 9}, 10.0)

    assert apps.top(10, 11.0) == [("b", 10), ("c", 5), ("a", 1)]
    assert apps.top(1, 11.0) == [("b", 10)]


def test_apps_are_forgotten_after_a_minute() -> None:
    apps = BusyApps()
    apps.add({"a": 1, "b": 1}, 0.0)
    apps.add({"b": 1}, 30.0)

    assert apps.top(10, 60.0) == [("b", 1)]
    assert apps.top(10, 90.0) == []


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        ([], 0.5, 0.0),
        ([(1.0, 0), (2.0, 0)], 0.5, 0.0),
        ([(10.0, 100)], 0.5, 5.0),
        ([(10.0, 50), (20.0, 50)], 0.5, 10.0),
        ([(10.0, 50), (20.0, 50)], 0.75, 15.0),
        ([(10.0, 90), (math.inf, 10)], 0.99, 10.0),
        ([(10.0, 0), (20.0, 1)], 1.0, 20.0),
    ],
)
def test_percentile_is_interpolated_within_a_bucket(
    buckets: list[tuple[float, float]], share: float, value: float
) -> None:
    assert percentile(buckets, share) == pytest.approx(value)
