from router.control.totals import Totals
from router.sync import Stats


def test_counters_and_gauges_are_summed_over_workers() -> None:
    totals = Totals()
    totals.update(1, Stats({"requests": 3}, {"open": 2}))
    totals.update(2, Stats({"requests": 4, "errors": 1}, {"open": 5}))

    assert totals.counters() == {"requests": 7, "errors": 1}
    assert totals.gauges() == {"open": 7}


def test_newer_figures_of_a_worker_replace_its_older_ones() -> None:
    totals = Totals()
    totals.update(1, Stats({"requests": 3}, {"open": 2}))
    totals.update(1, Stats({"requests": 5}, {"open": 1}))

    assert totals.counters() == {"requests": 5}
    assert totals.gauges() == {"open": 1}


def test_counters_of_a_worker_that_went_stay_and_its_gauges_end() -> None:
    totals = Totals()
    totals.update(1, Stats({"requests": 3}, {"open": 2}))
    totals.retire(1)
    totals.update(2, Stats({"requests": 1}, {"open": 1}))

    assert totals.counters() == {"requests": 4}
    assert totals.gauges() == {"open": 1}


def test_same_process_id_given_to_a_later_worker_counts_anew() -> None:
    totals = Totals()
    totals.update(1, Stats({"requests": 3}, {}))
    totals.retire(1)
    totals.update(1, Stats({"requests": 1}, {}))

    assert totals.counters() == {"requests": 4}


def test_worker_that_never_reported_can_go() -> None:
    totals = Totals()
    totals.retire(1)

    assert totals.counters() == {}


def test_figures_with_fractions_and_labels_are_summed_like_others() -> None:
    totals = Totals()
    totals.update(1, Stats({"latency\ta\tsum": 0.5, "latency\ta\t1.0": 1}, {}))
    totals.retire(1)
    totals.update(2, Stats({"latency\ta\tsum": 0.25, "latency\ta\t1.0": 2}, {}))

    assert totals.counters() == {"latency\ta\tsum": 0.75, "latency\ta\t1.0": 3}


def test_gauges_are_known_by_worker_while_it_lives() -> None:
    totals = Totals()
    totals.update(1, Stats({}, {"open": 2}))
    totals.update(2, Stats({}, {"open": 5}))
    totals.retire(1)

    assert totals.gauges_by_worker() == {2: {"open": 5}}
