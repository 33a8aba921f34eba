import msgspec
import pytest

from loadtest.bench import Measurement, Plan, results
from loadtest.report import comparison_chart, comparison_figures, comparison_table, disturbance
from loadtest.wrk import Summary

LOAD = Summary(
    requests=1000,
    duration_us=1_000_000,
    connect_errors=0,
    read_errors=0,
    write_errors=0,
    status_errors=0,
    timeouts=0,
    p50_us=1000,
    p99_us=2000,
    max_us=3000,
)


def measurement(proxy: str, number: int, cpu_us: float, scheme: str = "http", busy: float = 1.0) -> Measurement:
    return Measurement(
        proxy=proxy, scheme=scheme, round=number, load=LOAD, cpu_us=cpu_us, control_cpu_us=0.0, busy=busy
    )


def test_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # The machine is half as fast in round 2; taken over all rounds the medians would give 40 / 20.
    measurements = [
        measurement("nginx", 1, 20.0),
        measurement("router", 1, 30.0),
        measurement("nginx", 2, 40.0),
        measurement("router", 2, 60.0),
        measurement("nginx", 3, 20.0),
        measurement("router", 3, 40.0),
    ]
    nginx, router = results(measurements)
    assert nginx.ratio == 1.0
    assert router.ratio == 1.5
    assert router.cpu_us == 40.0


def test_without_the_reference_there_is_no_ratio() -> None:
    (router,) = results([measurement("router", 1, 30.0)])
    assert router.ratio is None
    assert comparison_figures([router]) == []


def test_schemes_are_not_mixed() -> None:
    found = results([measurement("nginx", 1, 20.0), measurement("router", 1, 50.0, "https")])
    assert [(one.scheme, one.proxy, one.ratio) for one in found] == [
        ("http", "nginx", 1.0),
        ("https", "router", None),
    ]


@pytest.mark.parametrize(("cpu_us", "kept"), [(40.0, True), (40.1, False)])
def test_router_over_http_may_cost_twice_the_reference(cpu_us: float, kept: bool) -> None:
    found = results([measurement("nginx", 1, 20.0), measurement("router", 1, cpu_us)])
    (figure,) = comparison_figures(found)
    assert figure.kept is kept


def test_proxy_that_did_not_get_its_core_is_a_reason_for_doubt() -> None:
    warning = disturbance(results([measurement("nginx", 1, 20.0), measurement("router", 1, 30.0, busy=0.3)]))
    assert warning is not None
    assert "30%" in warning


def test_saturated_proxies_raise_no_doubt() -> None:
    assert disturbance(results([measurement("nginx", 1, 20.0, busy=0.97)])) is None


def test_table_has_a_row_for_each_result() -> None:
    found = results([measurement("nginx", 1, 20.0), measurement("router", 1, 30.0)])
    assert comparison_table("http", found).row_count == 2


def test_chart_groups_by_scheme() -> None:
    plan = Plan(proxies=["nginx"], schemes=["http", "https"], rounds=1, seconds=1, connections=64)
    chart = comparison_chart(results([measurement("nginx", 1, 20.0)]), plan)
    assert ">HTTP<" in chart
    assert ">HTTPS<" in chart


def test_measurements_survive_json() -> None:
    one = measurement("nginx", 1, 20.0)
    assert msgspec.json.decode(msgspec.json.encode(one), type=Measurement) == one
