from prometheus_client.parser import text_string_to_metric_families

from router.config.sections import Meters
from router.control.exposition import render
from router.control.families import families
from router.metrics import Counters
from router.proxy.request_metrics import MetricOptions, RequestMetrics
from tests.control.reporting import Reporting
from tests.proxy.observed import Seen, endpoint

Samples = dict[str, float]
METERS = Meters()


def request_metrics() -> RequestMetrics:
    return RequestMetrics(
        MetricOptions(
            True,
            True,
            tuple(METERS.route_lookup_time_histogram_buckets),
            tuple(METERS.routing_response_latency_histogram_buckets),
            tuple(METERS.http_latency_histogram_buckets),
        )
    )


def exposed(reporting: Reporting) -> tuple[dict[str, str], Samples]:
    """Return the types by name, and the samples by name with labels."""
    text = render(families(reporting.figures.read(), METERS, {}, 0)).decode()
    types = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    assert list(text_string_to_metric_families(text))
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return types, {name: float(value) for name, value in samples.items()}


def test_names_and_types_are_gorouters() -> None:
    reporting = Reporting()
    observer = request_metrics()
    observer.attempted(Seen(), False, 100.01)
    observer.finished(Seen(), 100.03)
    reporting.worker(1, {**Counters().as_dict(), **observer.figures(), "responses_2xx": 1})
    reporting.register("a.test", "route-emitter")
    types, _ = exposed(reporting)

    counters = """
        backend_exhausted_conns backend_invalid_id backend_invalid_tls_cert backend_tls_handshake_failed
        bad_gateways empty_content_length_header promhttp_metric_handler_errors_total registry_message
        rejected_requests responses routes_pruned routes_registered routes_unregistered total_requests
        websocket_failures websocket_upgrades
    """
    gauges = "buffered_messages file_descriptors ms_since_last_registry_update total_dropped_messages total_routes"
    histograms = "gorouter_time http_latency_seconds latency route_lookup_time route_registration_latency"
    expected = {
        **dict.fromkeys(counters.split(), "counter"),
        **dict.fromkeys(gauges.split(), "gauge"),
        **dict.fromkeys(histograms.split(), "histogram"),
    }
    assert {name: kind for name, kind in types.items() if not name.startswith("router_")} == expected


def test_before_anything_happened_only_unlabelled_metrics_show() -> None:
    types, samples = exposed(Reporting())

    assert not {"responses", "total_requests", "latency", "registry_message"} & set(types)
    assert (samples["bad_gateways"], samples["ms_since_last_registry_update"]) == (0, -1)
    assert samples['route_lookup_time_bucket{le="10000"}'] == 0


def test_labels_are_gorouters() -> None:
    reporting = Reporting()
    observer = request_metrics()
    for exchange in (Seen(), Seen(endpoint=endpoint(source_id="app-1"))):
        observer.attempted(exchange, False, 100.01)
        observer.finished(exchange, 100.03)
    reporting.worker(1, {**observer.figures(), "responses_2xx": 1, "responses_xxx": 1})
    reporting.register("a.test", "route-emitter")
    _, samples = exposed(reporting)

    assert samples['total_requests{component="route-emitter"}'] == 1
    assert samples['total_requests{component=""}'] == 1
    assert samples['responses{status_group="2xx"}'] == samples['responses{status_group="xxx"}'] == 1
    assert samples['registry_message{action="added",component="route-emitter"}'] == 1
    assert samples['latency_bucket{component="",le="20"}'] == 0
    assert samples['latency_bucket{component="",le="40"}'] == 1
    assert samples['http_latency_seconds_count{source_id="app-1"}'] == 1
    assert samples['http_latency_seconds_count{source_id="gorouter"}'] == 1
    assert samples['gorouter_time_bucket{le="1"}'] == 2


def test_buckets_are_gorouters() -> None:
    _, samples = exposed(Reporting())

    def bounds(name: str) -> list[str]:
        return [key.split('"')[1] for key in samples if key.startswith(f"{name}_bucket")]

    assert bounds("gorouter_time") == [
        "1",
        "2",
        "4",
        "6",
        "8",
        "10",
        "20",
        "40",
        "50",
        "100",
        "500",
        "1000",
        "+Inf",
    ]
    assert bounds("route_registration_latency") == ["0.1", "0.5", "1", "1.5", "2", "2.5", "3", "3.5", "4", "+Inf"]
    assert bounds("route_lookup_time") == [*(str(step * 10_000) for step in range(1, 11)), "+Inf"]


def test_counters_do_not_fall_when_a_worker_is_replaced() -> None:
    reporting = Reporting()
    observer = request_metrics()
    observer.attempted(Seen(), False, 100.01)
    observer.finished(Seen(), 100.03)
    reporting.worker(1, {"bad_gateways": 4, **observer.figures()}, routes=2)
    _, before = exposed(reporting)
    reporting.totals.retire(1)
    reporting.worker(2, {"bad_gateways": 1}, routes=2)
    _, after = exposed(reporting)

    assert (before["bad_gateways"], after["bad_gateways"]) == (4, 5)
    labelled = [name for name in before if name.startswith(("latency", "total_requests"))]
    assert {name: after[name] for name in labelled} == {name: before[name] for name in labelled}


def test_what_gorouter_does_not_count_has_names_of_our_own() -> None:
    reporting = Reporting(
        counters=(lambda: {"internal_dns_answered": 7},), gauges=(lambda: {"nats_connected": 1},)
    )
    reporting.worker(77, {**Counters().as_dict(), "total_requests": 5, "retries": 2}, active_exchanges=3)
    types, samples = exposed(reporting)

    assert (samples["router_attempts_total"], samples["router_retries_total"]) == (5, 2)
    assert samples["router_internal_dns_answered_total"] == 7
    assert (samples["router_nats_connected"], samples["router_workers"]) == (1, 0)
    assert samples['router_active_exchanges{pid="77"}'] == 3
    assert (types["router_attempts_total"], types["router_active_exchanges"]) == ("counter", "gauge")
