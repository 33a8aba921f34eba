"""``/varz`` and the component protocol: how platforms before Prometheus watched a router (GOROUTER.md §10.2, 3.1).

Owns the document's names and how they follow from totals; does not own the totals nor the listener (`admin`).
Only with ``status.enable_deprecated_varz_healthz_endpoints``.
"""

import asyncio
import os
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
from nats.aio.msg import Msg

from router.control.nats_link import Link, LinkError
from router.control.rates import BusyApps, Meter, percentile
from router.log import Logger
from router.metrics import SUM, split_series
from router.routing.registry import Registry

DISCOVER = "vcap.component.discover"
ANNOUNCE = "vcap.component.announce"

SAMPLE_EVERY_S = 5.0
LATENCY_SAMPLES = 60
"""So latencies are those of the last five minutes."""
SHARES = (50, 75, 90, 95, 99)
GROUPS = ("2xx", "3xx", "4xx", "5xx", "xxx")
TOP_APPS = 10

_MS = 1000.0
_encode = msgspec.json.Encoder().encode


class VarzIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while the router runs."""

    index: int
    uuid: str
    host: str
    """``address:port`` of the listener that serves the document."""
    started_s: float
    """Seconds since the epoch."""


class Requests(msgspec.Struct, kw_only=True):
    """The totals of one component, or of all."""

    requests: float = 0.0
    responses: dict[str, float] = msgspec.field(default_factory=dict)
    """By group."""
    latency_ms: Counter[float] = msgspec.field(default_factory=Counter)
    """Number of values by upper bound of their bucket."""
    latency_sum_ms: float = 0.0


class Varz:
    """Makes the document. Lives from `start` to `close`.

    Args:
        identity: of this router.
        credentials: returns user and password of the status listener, which the document shows.
        figures: returns totals of all workers: ``total_requests``, ``responses_GROUP``, ``rejected_requests``,
            ``bad_requests`` and ``bad_gateways``, and those by component as `router.metrics.series`:
            ``total_requests``, ``responses_GROUP``, ``latency`` in buckets of milliseconds.
        registry: the table.
        processes: returns what control and workers use together, as prometheus-client names it:
            ``process_resident_memory_bytes`` and ``process_cpu_seconds_total``.
        log_counts: returns how many lines were logged, by level.
        clock: monotonic seconds, the registry's.
    """

    def __init__(
        self,
        identity: VarzIdentity,
        *,
        credentials: Callable[[], tuple[str, str]],
        figures: Callable[[], Mapping[str, float]],
        registry: Registry,
        processes: Callable[[], Mapping[str, float]],
        log_counts: Callable[[], Mapping[str, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._credentials = credentials
        self._figures = figures
        self._registry = registry
        self._processes = processes
        self._log_counts = log_counts
        self._clock = clock
        self._started_at = clock()
        self._meters: defaultdict[str, Meter] = defaultdict(Meter)
        self._busy = BusyApps()
        self._past: deque[dict[str, Requests]] = deque(maxlen=LATENCY_SAMPLES)
        self._task: asyncio.Task[None] | None = None

    def add_requests(self, apps: Mapping[str, int]) -> None:
        """Take how many requests each app had since the last call; an empty name is none."""
        self._busy.add({app: count for app, count in apps.items() if app}, self._clock())

    async def start(self) -> None:
        self.sample()
        self._task = asyncio.create_task(self._run(), name="varz")

    async def close(self) -> None:
        """Follow the totals no more; again is harmless."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def sample(self) -> None:
        """Note the totals as they are now; rates and latencies come from the difference to later ones."""
        now = self._clock()
        requests = by_component(self._figures())
        for component, one in requests.items():
            self._meters[component].update(one.requests, now)
        self._past.append(requests)

    def document(self) -> Iterator[bytes]:
        """Yield the JSON text, which ends with a line feed."""
        yield _encode(self.values()) + b"\n"

    def values(self) -> dict[str, object]:
        """Return the document."""
        figures = self._figures()
        requests = by_component(figures)
        total = requests.pop("")
        return {
            **self._process_values(),
            "urls": self._registry.total_routes,
            "droplets": self._registry.count_addresses(),
            "bad_requests": int(figures.get("rejected_requests", 0) + figures.get("bad_requests", 0)),
            "bad_gateways": int(figures.get("bad_gateways", 0)),
            "requests_per_sec": self._meters[""].rates[0],
            "top10_app_requests": self._top_apps(),
            "ms_since_last_registry_update": self._registry_age_ms(),
            **self._request_values("", total),
            "tags": {
                "component": {name: self._request_values(name, requests[name]) for name in sorted(requests)},
            },
        }

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_EVERY_S)
            self.sample()

    def _process_values(self) -> dict[str, object]:
        identity = self._identity
        uptime_s = self._clock() - self._started_at
        used = self._processes()
        cpu_s = used.get("process_cpu_seconds_total", 0.0)
        return {
            "type": "Router",
            "index": identity.index,
            "host": identity.host,
            "credentials": list(self._credentials()),
            "uuid": identity.uuid,
            "start": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(identity.started_s)),
            "uptime": uptime_text(uptime_s),
            "num_cores": len(os.sched_getaffinity(0)),
            "mem": int(used.get("process_resident_memory_bytes", 0.0)) // 1024,
            "cpu": round(100.0 * cpu_s / uptime_s, 2) if uptime_s > 0 else 0.0,
            "log_counts": dict(self._log_counts()),
        }

    def _request_values(self, component: str, totals: Requests) -> dict[str, object]:
        return {
            "requests": int(totals.requests),
            "rate": list(self._meters[component].rates),
            **{f"responses_{group}": int(totals.responses.get(group, 0)) for group in GROUPS},
            "latency": self._latency(component, totals),
        }

    def _latency(self, component: str, totals: Requests) -> dict[str, float]:
        """Return percentiles and mean, in seconds, of what was measured since the oldest sample."""
        before = self._past[0].get(component, Requests()) if self._past else Requests()
        counts = [
            (bound, totals.latency_ms[bound] - before.latency_ms[bound]) for bound in sorted(totals.latency_ms)
        ]
        samples = sum(count for _, count in counts)
        total_ms = totals.latency_sum_ms - before.latency_sum_ms
        return {
            **{str(share): percentile(counts, share / 100.0) / _MS for share in SHARES},
            "value": total_ms / samples / _MS if samples else 0.0,
            "samples": samples,
        }

    def _top_apps(self) -> list[dict[str, object]]:
        return [
            {"application_id": app, "rps": requests // 60, "rpm": requests}
            for app, requests in self._busy.top(TOP_APPS, self._clock())
        ]

    def _registry_age_ms(self) -> int:
        updated_at = self._registry.counters.updated_at
        return -1 if updated_at is None else int((self._clock() - updated_at) * _MS)


class Component:
    """Announces the router as a component and answers who looks for components. Is a `LinkUser` of the subscriber.

    Args:
        document: makes the payload.
        logger: parent of this component's logger.
    """

    def __init__(self, document: Callable[[], Iterable[bytes]], logger: Logger) -> None:
        self._document = document
        self._logger = logger.child("component")
        self._link: Link | None = None

    async def begin(self, link: Link) -> None:
        """Answer on this link from now on, and announce."""
        self._link = link
        await link.subscribe(DISCOVER, self._answer)
        await link.publish(ANNOUNCE, self._payload())

    def lost(self) -> None:
        self._link = None

    async def _answer(self, message: Msg) -> None:
        if not message.reply:
            self._logger.info("component-discover-without-reply", subject=message.subject)
            return
        if self._link is None:
            return
        try:
            await self._link.publish(message.reply, self._payload())
        except LinkError as error:
            self._logger.warn("component-discover-not-answered", error=str(error))

    def _payload(self) -> bytes:
        return b"".join(self._document()).rstrip()


def by_component(figures: Mapping[str, float]) -> dict[str, Requests]:
    """Sort totals by component; under the empty name are those of all together."""
    found: defaultdict[str, Requests] = defaultdict(Requests)
    total = found[""]
    total.requests = figures.get("total_requests", 0.0)
    for group in GROUPS:
        total.responses[group] = figures.get(f"responses_{group}", 0.0)
    for key, value in figures.items():
        name, component, part = split_series(key)
        if name == "latency" and part:
            _add_latency(total, part, value)
            if component:
                _add_latency(found[component], part, value)
        elif component and name == "total_requests":
            found[component].requests = value
        elif component and name.startswith("responses_"):
            found[component].responses[name.removeprefix("responses_")] = value
    return dict(found)


def _add_latency(requests: Requests, part: str, value: float) -> None:
    if part == SUM:
        requests.latency_sum_ms += value
    else:
        requests.latency_ms[float(part)] += int(value)


def uptime_text(seconds: float) -> str:
    """Return a time as ``1d:2h:3m:4s``."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    d, h = divmod(hours, 24)
    return f"{d}d:{h}h:{m}m:{s}s"
