"""Times and labelled counts of requests, for control's metrics (GOROUTER.md §10.4).

Owns which exchange counts in which figure; does not own how they are shown (`control.prometheus`). One law: labels
come from announcements and are bounded, so whoever announces cannot fill the router's memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from router.metrics import Histogram, series
from router.proxy.observer import Observed

MAX_COMPONENTS = 100
"""Values of the label ``component``; a platform has half a dozen."""
MAX_SOURCES = 2000
"""Values of the label ``source_id``, with per-app metrics."""
OTHER = "other"
"""What further values count under."""
NO_APP = "gorouter"
"""``source_id`` of endpoints that announce none."""

_GROUPS = ("2xx", "3xx", "4xx", "5xx", "xxx")
_INDEXES = (2, 3, 4, 5, 0)

_S_TO_NS = 1e9
_S_TO_MS = 1e3


@dataclass(frozen=True, slots=True)
class MetricOptions:
    """What is measured; bounds of buckets in the unit of the metric.

    Attributes:
        per_request: ``per_request_metrics_reporting``: the three times of every request.
        per_app: ``per_app_prometheus_http_metrics_reporting``: a histogram for each app.
        lookup_ns: ``prometheus.meters.route_lookup_time_histogram_buckets``.
        latency: ``…routing_response_latency_histogram_buckets``, of ``latency`` (ms) and ``gorouter_time`` (s).
        http_latency_s: ``…http_latency_histogram_buckets``.
    """

    per_request: bool
    per_app: bool
    lookup_ns: tuple[float, ...]
    latency: tuple[float, ...]
    http_latency_s: tuple[float, ...]


class _Component:
    """What is counted by the tag ``component``."""

    __slots__ = ("_groups", "_key", "latency", "requests", "responses")

    def __init__(self, name: str, bounds: tuple[float, ...]) -> None:
        self.requests = 0
        self.responses = [0, 0, 0, 0, 0, 0]
        """By first digit; index 0 is everything else."""
        self.latency = Histogram("latency", name, bounds)
        self._key = series("total_requests", name)
        self._groups = [series(f"responses_{group}", name) for group in _GROUPS]

    def counts(self) -> Iterable[tuple[str, int]]:
        yield self._key, self.requests
        yield from zip(self._groups, (self.responses[index] for index in _INDEXES), strict=True)


class RequestMetrics:
    """Counts the exchanges of one worker. Is an `Observer`."""

    def __init__(self, options: MetricOptions) -> None:
        self._options = options
        self._per_request = options.per_request
        self._per_app = options.per_app
        self._lookup = Histogram("route_lookup_time", "", options.lookup_ns)
        self._own = Histogram("gorouter_time", "", options.latency)
        self._components: dict[str, _Component] = {}
        self._sources: dict[str, Histogram] = {}

    def attempted(self, exchange: Observed, failed: bool, now: float) -> None:
        """Count an attempt at a backend."""
        endpoint = exchange.endpoint
        if endpoint is not None and exchange.service is None:
            self._component(endpoint.tags.get("component")).requests += 1

    def finished(self, exchange: Observed, now: float) -> None:
        """Measure an exchange. A tunnel's time is its client's affair and no latency."""
        if self._per_request and exchange.lookup_s:
            self._lookup.observe(exchange.lookup_s * _S_TO_NS)
        endpoint = exchange.endpoint
        if endpoint is None or exchange.service is not None:
            return
        if exchange.attempts and not exchange.response_started:
            # The client went away while an attempt was under way, which nobody told of.
            self.attempted(exchange, True, now)
        component = self._component(endpoint.tags.get("component"))
        digit = exchange.status // 100
        component.responses[digit if 2 <= digit <= 5 else 0] += 1
        if exchange.tunnelling:
            return
        taken = now - exchange.started
        if self._per_request:
            component.latency.observe(taken * _S_TO_MS)
            self._own.observe((exchange.proxied_at or now) - exchange.started)
        if self._per_app:
            self._source(endpoint.tags.get("source_id") or NO_APP).observe(taken)

    def figures(self) -> dict[str, float]:
        """Return everything counted since the start, by `series`."""
        figures: dict[str, float] = {}
        if self._per_request:
            figures.update(self._lookup.figures())
            figures.update(self._own.figures())
        for component in self._components.values():
            figures.update(component.counts())
            if self._per_request:
                figures.update(component.latency.figures())
        for source in self._sources.values():
            figures.update(source.figures())
        return figures

    def _component(self, name: str) -> _Component:
        found = self._components.get(name)
        if found is None:
            name = name if len(self._components) < MAX_COMPONENTS else OTHER
            found = self._components.get(name) or _Component(name, self._options.latency)
            self._components[name] = found
        return found

    def _source(self, name: str) -> Histogram:
        found = self._sources.get(name)
        if found is None:
            name = name if len(self._sources) < MAX_SOURCES else OTHER
            found = self._sources.get(name) or Histogram(
                "http_latency_seconds", name, self._options.http_latency_s
            )
            self._sources[name] = found
        return found
