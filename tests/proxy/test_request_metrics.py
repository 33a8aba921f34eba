from typing import Any

import pytest

from router.metrics import split_series
from router.proxy import request_metrics
from router.proxy.request_metrics import MetricOptions, RequestMetrics
from tests.proxy.observed import Seen, endpoint

END = 100.030
OPTIONS = MetricOptions(
    per_request=True,
    per_app=False,
    lookup_ns=(10_000.0, 20_000.0, 30_000.0),
    latency=(1.0, 20.0, 50.0),
    http_latency_s=(0.1, 0.2),
)


def metrics(**changes: Any) -> RequestMetrics:
    fields = {name: getattr(OPTIONS, name) for name in MetricOptions.__slots__}
    return RequestMetrics(MetricOptions(**{**fields, **changes}))


def served(observer: RequestMetrics, exchange: Seen) -> None:
    for _ in range(exchange.attempts):
        observer.attempted(exchange, False, 100.02)
    observer.finished(exchange, END)


def counts(observer: RequestMetrics) -> dict[str, float]:
    """Figures that are not 0, without sums."""
    return {key: value for key, value in observer.figures().items() if value and not key.endswith("sum")}


def test_request_counts_once_in_each_figure() -> None:
    observer = metrics()
    served(observer, Seen())

    assert counts(observer) == {
        "total_requests\troute-emitter": 1,
        "responses_2xx\troute-emitter": 1,
        "latency\troute-emitter\t50.0": 1,
        "gorouter_time\t\t1.0": 1,
        "route_lookup_time\t\t30000.0": 1,
    }


@pytest.mark.parametrize(
    ("status", "group"), [(204, "2xx"), (302, "3xx"), (404, "4xx"), (503, "5xx"), (101, "xxx")]
)
def test_responses_are_counted_by_component_and_first_digit(status: int, group: str) -> None:
    observer = metrics()
    served(observer, Seen(status=status, tunnelling=status == 101))

    assert {key: value for key, value in counts(observer).items() if key.startswith("responses_")} == {
        f"responses_{group}\troute-emitter": 1
    }


def test_sums_are_in_the_unit_of_their_metric() -> None:
    observer = metrics(per_app=True)
    served(observer, Seen())

    sums = {key.partition("\t")[0]: value for key, value in observer.figures().items() if key.endswith("sum")}
    assert sums == {
        "route_lookup_time": pytest.approx(25_000),
        "gorouter_time": pytest.approx(0.002),
        "latency": pytest.approx(30),
        "http_latency_seconds": pytest.approx(0.03),
    }


def test_retries_are_requests_to_backends_of_their_own() -> None:
    observer = metrics()
    exchange = Seen(attempts=2)
    observer.attempted(exchange, True, 100.01)
    observer.attempted(exchange, False, 100.02)
    observer.finished(exchange, END)

    assert counts(observer)["total_requests\troute-emitter"] == 2


def test_attempt_whose_client_left_counts_too() -> None:
    observer = metrics()
    observer.finished(Seen(status=499, response_started=False), END)

    assert counts(observer)["total_requests\troute-emitter"] == 1


def test_answer_of_the_router_itself_has_a_look_up_time_alone() -> None:
    observer = metrics()
    observer.finished(Seen(endpoint=None, attempts=0, proxied_at=0.0, status=404), END)

    assert counts(observer) == {"route_lookup_time\t\t30000.0": 1}


def test_health_check_that_looked_nothing_up_counts_nowhere() -> None:
    observer = metrics()
    observer.finished(Seen(endpoint=None, attempts=0, lookup_s=0.0), END)

    assert counts(observer) == {}


def test_tunnel_is_a_request_and_no_latency() -> None:
    observer = metrics()
    served(observer, Seen(tunnelling=True, status=101))

    assert set(counts(observer)) == {
        "total_requests\troute-emitter",
        "responses_xxx\troute-emitter",
        "route_lookup_time\t\t30000.0",
    }


def test_leg_to_a_route_service_is_not_counted_for_the_app() -> None:
    observer = metrics()
    served(observer, Seen(service=object()))

    assert set(counts(observer)) == {"route_lookup_time\t\t30000.0"}


def test_without_per_request_reporting_only_requests_and_responses_are_counted() -> None:
    observer = metrics(per_request=False)
    served(observer, Seen())

    assert counts(observer) == {"total_requests\troute-emitter": 1, "responses_2xx\troute-emitter": 1}


def test_apps_are_told_apart_on_request() -> None:
    observer = metrics(per_app=True)
    served(observer, Seen(endpoint=endpoint(source_id="app-1")))
    served(observer, Seen())

    keys = {split_series(key)[1] for key in observer.figures() if key.startswith("http_latency_seconds")}
    assert keys == {"app-1", "gorouter"}


def test_announcers_cannot_make_labels_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_metrics, "MAX_COMPONENTS", 2)
    monkeypatch.setattr(request_metrics, "MAX_SOURCES", 3)
    observer = metrics(per_app=True)
    for number in range(10):
        served(observer, Seen(endpoint=endpoint(component=f"c{number}", source_id=f"s{number}")))

    counted = counts(observer)
    assert {key for key in counted if key.startswith("total")} == {
        f"total_requests\t{name}" for name in ("c0", "c1", "other")
    }
    assert counted["total_requests\tother"] == 8
    assert counted["http_latency_seconds\tother\t0.1"] == 7


def test_tab_in_a_tag_does_not_break_its_key() -> None:
    observer = metrics()
    served(observer, Seen(endpoint=endpoint(component="a\tb")))

    assert counts(observer)["total_requests\ta b"] == 1
