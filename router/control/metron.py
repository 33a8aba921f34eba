"""What control tells the platform's metrics agent over dropsonde: counters, values, up time (GOROUTER.md §10.5).

Owns names, units and rhythm; does not own the encoding (`wire.dropsonde`) nor the socket (`metrics.Agent`). What
belongs to a single request is told by the workers. One law: a counter is told by its growth, and what grew while
no agent listened is not told later, when it would look like a burst.
"""

import asyncio
import time
from collections.abc import Callable, Iterator

from router.control.figures import Figures, Reading
from router.metrics import Agent
from router.wire.dropsonde import Encoder

ORIGIN = "gorouter"
UPTIME_S = 1.0
REPORT_S = 5.0

STEADY = (
    "backend_exhausted_conns",
    "backend_invalid_id",
    "backend_invalid_tls_cert",
    "backend_tls_handshake_failed",
    "bad_gateways",
    "empty_content_length_header",
    "rejected_requests",
    "routes_pruned",
    "subscribe_events_errors",
    "token_fetch_errors",
    "total_requests",
    "websocket_failures",
    "websocket_upgrades",
)
"""Counters told under their own name, growth of 0 included."""

VALUES = {
    "total_routes": "",
    "ms_since_last_registry_update": "ms",
    "file_descriptors": "file",
    "buffered_messages": "message",
    "total_dropped_messages": "message",
}
"""Gauges that are told, and their units."""

_GROUPS = ("2xx", "3xx", "4xx", "5xx", "xxx")


class Metron:
    """Tells the agent; `run` does so until it is cancelled.

    Args:
        agent: belongs to this from now on.
        clock: monotonic seconds.
        wall_ns: nanoseconds since the epoch.
    """

    def __init__(
        self,
        figures: Figures,
        agent: Agent,
        encoder: Encoder,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._figures = figures
        self._agent = agent
        self._encoder = encoder
        self._clock = clock
        self._wall_ns = wall_ns
        self._told: dict[str, int] = {}
        self._started = self._next_report = clock()
        self._next_report += REPORT_S

    async def run(self) -> None:
        """Tell on time, for ever."""
        while True:
            self.tick()
            await asyncio.sleep(UPTIME_S)

    def tick(self) -> None:
        """Tell what is due; called every `UPTIME_S`."""
        now = self._clock()
        self._value("uptime", int(now - self._started), "seconds")
        if now >= self._next_report:
            # Not this time plus the interval: ticks are late by a little, and that would add up.
            self._next_report = max(self._next_report, now - REPORT_S) + REPORT_S
            self._report()

    def registration_latency(self, latency_ms: float) -> None:
        """Tell how long a registration took to get here; see `RegistryTally.on_latency`."""
        self._value("route_registration_latency", latency_ms, "ms")

    def figures(self) -> dict[str, int]:
        """Return what became of the datagrams, for metrics."""
        return {"metron_datagrams_sent": self._agent.sent, "metron_datagrams_lost": self._agent.lost}

    def close(self) -> None:
        self._agent.close()

    def _report(self) -> None:
        reading = self._figures.read()
        for name, total in counters(reading):
            growth = total - self._told.get(name, 0)
            self._told[name] = total
            self._send(self._encoder.counter(name, max(growth, 0), self._wall_ns()))
        for name, unit in VALUES.items():
            self._value(name, reading.gauges.get(name, 0.0), unit)

    def _value(self, name: str, value: float, unit: str) -> None:
        self._send(self._encoder.value(name, value, unit, self._wall_ns()))

    def _send(self, datagram: bytes) -> None:
        self._agent.send(datagram, self._clock())


def counters(reading: Reading) -> Iterator[tuple[str, int]]:
    """Return the counters that are told, and how far they have come."""
    for name in STEADY:
        yield name, int(reading.counters.get(name, 0))
    requests = reading.labelled.get("total_requests", {})
    for component, count in requests.items():
        if component:
            yield f"requests.{component}", int(count)
    yield "routed_app_requests", int(sum(n for component, n in requests.items() if component.startswith("dea-")))
    groups = {group: int(reading.counters.get(f"responses_{group}", 0)) for group in _GROUPS}
    yield "responses", sum(groups.values())
    for group, count in groups.items():
        yield f"responses.{group}", count
    yield from _messages("registry_message", _by_component(reading))
    yield from _messages("unregistry_message", reading.labelled.get("unregistry_message", {}))


def _by_component(reading: Reading) -> dict[str, float]:
    sums: dict[str, float] = {}
    for (component, _), count in reading.registered.items():
        sums[component] = sums.get(component, 0) + count
    return sums


def _messages(name: str, by_component: dict[str, float]) -> Iterator[tuple[str, int]]:
    """Return a counter of messages: those with a component under its name, the others without."""
    yield name, int(by_component.get("", 0))
    for component, count in by_component.items():
        if component:
            yield f"{name}.{component}", int(count)
