import os

from router.control.figures import open_descriptors
from tests.control.reporting import Reporting


def test_workers_figures_are_taken_apart_by_label_and_bucket() -> None:
    reporting = Reporting()
    figures = {"requests": 3, "total_requests\ta": 2, "latency\ta\t1.0": 1, "latency\ta\tsum": 0.5}
    reporting.worker(1, figures, routes=4)
    reporting.worker(2, figures, routes=4)
    reading = reporting.figures.read()

    assert reading.counters["requests"] == 6
    assert reading.labelled["total_requests"] == {"a": 4}
    assert reading.histograms["latency"] == {"a": {"1.0": 2, "sum": 1.0}}
    assert reading.worker_gauges == {1: {"routes": 4}, 2: {"routes": 4}}


def test_registrys_figures_are_there() -> None:
    reporting = Reporting()
    assert reporting.figures.read().gauges["ms_since_last_registry_update"] == -1
    reporting.register("a.test", "route-emitter")
    reporting.register("a.test", "route-emitter")
    reporting.register("b.test", host="10.0.0.2")
    reporting.now += 1.5
    reading = reporting.figures.read()

    assert reading.registered == {
        ("route-emitter", "added"): 1,
        ("route-emitter", "refreshed"): 1,
        ("", "added"): 1,
    }
    assert (reading.counters["routes_registered"], reading.gauges["total_routes"]) == (2, 2)
    assert reading.gauges["ms_since_last_registry_update"] == 1500


def test_further_sources_add_to_what_is_known_by_their_name() -> None:
    reporting = Reporting(
        counters=(lambda: {"token_fetch_errors": 2}, lambda: {"datagrams": 1}), gauges=(lambda: {"connected": 1},)
    )
    reporting.worker(1, {"datagrams": 4})
    reading = reporting.figures.read()

    assert (reading.counters["token_fetch_errors"], reading.counters["datagrams"]) == (2, 5)
    assert reading.gauges["connected"] == 1


def test_source_that_fails_costs_its_own_figures_alone() -> None:
    def broken() -> dict[str, float]:
        raise RuntimeError("no such thing")

    reporting = Reporting(gauges=(broken, lambda: {"connected": 1}))
    for _ in range(100):
        reading = reporting.figures.read()

    assert reading.gauges["connected"] == 1
    assert reporting.figures.failures == 100
    lines = [line for line in reporting.log if line["message"] == "metrics-source-failed"]
    assert 0 < len(lines) < 50
    assert "no such thing" in lines[0]["data"]["error"]


def test_descriptors_of_all_processes_count_and_those_of_the_dead_do_not() -> None:
    before = open_descriptors([os.getpid()])
    reading, writing = os.pipe()

    assert before > 0
    assert open_descriptors([os.getpid(), 2**22 + 1]) == before + 2
    os.close(reading)
    os.close(writing)


def test_processes_are_control_and_its_workers() -> None:
    reporting = Reporting()
    reporting.pids = [11, 12]

    assert reporting.figures.pids == [os.getpid(), 11, 12]
    assert reporting.figures.read().gauges["workers"] == 2
