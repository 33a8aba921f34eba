"""Which metrics there are for Prometheus, their names, kinds and labels (GOROUTER.md §10.4).

Owns the translation of a reading into families: Gorouter's under Gorouter's names, everything else there is to
know under names that begin with ``router_``. One law: no figure that is read is left out.
"""

from collections.abc import Iterator, Mapping, Sequence

from router.config.sections import Meters
from router.control.exposition import COUNTER, GAUGE, HISTOGRAM, Family, Sample, histogram, metric_name
from router.control.figures import Reading

GOROUTER_COUNTERS = {
    "routes_pruned": "Endpoints dropped because nothing was heard of them.",
    "routes_registered": "Routes that have come.",
    "routes_unregistered": "Routes whose last endpoint was unregistered.",
    "rejected_requests": "Look-ups that ended in 400 or 404.",
    "bad_gateways": "Responses 502 because of backends.",
    "empty_content_length_header": "Requests with an empty Content-Length.",
    "backend_invalid_id": "Backends whose certificate is for another instance.",
    "backend_invalid_tls_cert": "Backends whose certificate is not trusted.",
    "backend_tls_handshake_failed": "TLS handshakes with backends that failed.",
    "backend_exhausted_conns": "Requests refused because all endpoints had as many as they may.",
    "websocket_upgrades": "Tunnels begun.",
    "websocket_failures": "Upgrades that failed.",
}
"""Counters without labels; 0 from the start."""

GOROUTER_GAUGES = {
    "total_routes": "Routes in the table.",
    "ms_since_last_registry_update": "Milliseconds since an announcement was heard; -1 before any.",
    "file_descriptors": "Files that control and workers have open.",
    "buffered_messages": "NATS messages that wait for being handled.",
    "total_dropped_messages": "NATS messages lost because too many waited.",
}

PROCESS_TEXTS = {
    "process_cpu_seconds_total": "Processor time of control and all workers there were, in seconds.",
    "process_max_fds": "Files that control and workers may have open.",
    "process_open_fds": "Files that control and workers have open.",
    "process_resident_memory_bytes": "Resident memory of control and workers.",
    "process_start_time_seconds": "Start of control, in seconds since the epoch.",
    "process_virtual_memory_bytes": "Virtual memory of control and workers.",
}

_GROUPS = ("2xx", "3xx", "4xx", "5xx", "xxx")
_RENAMED = {"total_requests": "attempts"}
"""Counters whose name is that of a labelled metric."""


def families(reading: Reading, meters: Meters, processes: Mapping[str, float], failures: int) -> Iterator[Family]:
    """Return all metrics of the router.

    Args:
        processes: of `Processes.read`.
        failures: sources of figures that could not be read, since the start.
    """
    yield from _gorouters(reading, meters)
    yield from _own(reading)
    errors = [("", [("cause", "encoding")], 0.0), ("", [("cause", "gathering")], float(failures))]
    name = "promhttp_metric_handler_errors_total"
    yield Family(name, COUNTER, "Errors while gathering metrics.", errors)
    for process, value in processes.items():
        kind = COUNTER if process.endswith("_total") else GAUGE
        yield Family(process, kind, PROCESS_TEXTS.get(process, process), [("", (), value)])


def _gorouters(reading: Reading, meters: Meters) -> Iterator[Family]:
    for name, text in GOROUTER_COUNTERS.items():
        yield Family(name, COUNTER, text, [("", (), reading.counters.get(name, 0.0))])
    for name, text in GOROUTER_GAUGES.items():
        yield Family(name, GAUGE, text, [("", (), reading.gauges.get(name, 0.0))])
    registered: list[Sample] = [
        ("", (("action", action), ("component", component)), count)
        for (component, action), count in sorted(reading.registered.items())
    ]
    yield Family("registry_message", COUNTER, "Uris registered, by what became of it.", registered)
    yield _labelled("unregistry_message", "Uris unregistered.", "component", reading)
    yield _labelled("total_requests", "Attempts at backends.", "component", reading)
    counts = [(group, reading.counters.get(f"responses_{group}", 0.0)) for group in _GROUPS]
    responses: list[Sample] = [("", (("status_group", group),), count) for group, count in counts if count]
    yield Family("responses", COUNTER, "Responses of requests for which there was an endpoint.", responses)
    yield from _histograms(reading, meters)


def _labelled(name: str, text: str, label: str, reading: Reading) -> Family:
    values = sorted(reading.labelled.get(name, {}).items())
    return Family(name, COUNTER, text, [("", ((label, value),), count) for value, count in values])


def _histograms(reading: Reading, meters: Meters) -> Iterator[Family]:
    latency = meters.routing_response_latency_histogram_buckets
    registration = meters.route_registration_latency_histogram_buckets
    for name, text, bounds in (
        ("route_lookup_time", "Nanoseconds to look up a route.", meters.route_lookup_time_histogram_buckets),
        ("gorouter_time", "Seconds of a request before its first attempt.", latency),
        ("route_registration_latency", "Milliseconds from the platform's decision to the table.", registration),
    ):
        parts = reading.histograms.get(name, {}).get("", {})
        yield Family(name, HISTOGRAM, text, histogram((), parts, bounds))
    sources = meters.http_latency_histogram_buckets
    yield _by_label("latency", "Milliseconds from request to the response's end.", "component", latency, reading)
    yield _by_label("http_latency_seconds", "The same in seconds, by app.", "source_id", sources, reading)


def _by_label(name: str, text: str, label: str, bounds: Sequence[float], reading: Reading) -> Family:
    samples: list[Sample] = []
    for value, parts in sorted(reading.histograms.get(name, {}).items()):
        samples += histogram([(label, value)], parts, bounds)
    return Family(name, HISTOGRAM, text, samples)


# What Gorouter does not have.


def _own(reading: Reading) -> Iterator[Family]:
    yield _by_component(reading)
    for name, value in reading.counters.items():
        if name not in GOROUTER_COUNTERS and not name.startswith("responses_"):
            known = metric_name(f"router_{_RENAMED.get(name, name)}_total")
            yield Family(known, COUNTER, _plain(name), [("", (), value)])
    for name, value in reading.gauges.items():
        if name not in GOROUTER_GAUGES:
            yield Family(metric_name(f"router_{name}"), GAUGE, _plain(name), [("", (), value)])
    yield from _by_worker(reading.worker_gauges)


def _by_component(reading: Reading) -> Family:
    samples: list[Sample] = [
        ("", (("component", component), ("status_group", group)), count)
        for group in _GROUPS
        for component, count in sorted(reading.labelled.get(f"responses_{group}", {}).items())
        if count
    ]
    return Family("router_component_responses_total", COUNTER, "The same as responses, by component", samples)


def _by_worker(gauges: Mapping[int, Mapping[str, int]]) -> Iterator[Family]:
    for name in sorted({name for each in gauges.values() for name in each}):
        samples: list[Sample] = [
            ("", (("pid", str(pid)),), each[name]) for pid, each in sorted(gauges.items()) if name in each
        ]
        yield Family(metric_name(f"router_{name}"), GAUGE, f"{_plain(name)}, by worker", samples)


def _plain(name: str) -> str:
    return name.replace("_", " ").capitalize()
