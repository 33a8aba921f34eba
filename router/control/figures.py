"""All figures of this router, gathered from their owners: workers, registry, control's parts, the processes.

Owns their names and how those of several workers become one; does not own how they are published (`prometheus`,
`metron`). One law: an owner that fails costs its own figures alone, and is counted.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from router.control.registry_log import RegistryTally
from router.control.totals import Totals
from router.log import Logger
from router.log_limit import LogLimit
from router.metrics import split_series
from router.routing.registry import Registry

Source = Callable[[], Mapping[str, float]]
"""Returns figures by name, at any time."""


@dataclass(slots=True)
class Reading:
    """All figures at one moment.

    Attributes:
        counters: those without labels, by name.
        labelled: counters by name, then by the value of their one label.
        histograms: by name, then by the value of their label (empty if they have none), then by part: the upper
            bound of a bucket, or ``sum``.
        registered: uris registered, by component and action.
        gauges: by name.
        worker_gauges: by process id, then by name.
    """

    counters: dict[str, float] = field(default_factory=dict)
    labelled: dict[str, dict[str, float]] = field(default_factory=dict)
    histograms: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    registered: dict[tuple[str, str], float] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    worker_gauges: dict[int, dict[str, int]] = field(default_factory=dict)

    def add_series(self, figures: Iterable[tuple[str, float]]) -> None:
        """Add figures under the keys of `metrics.series`."""
        for key, value in figures:
            name, label, part = split_series(key)
            if part:
                self.histograms.setdefault(name, {}).setdefault(label, {})[part] = value
            elif name != key:
                self.labelled.setdefault(name, {})[label] = value
            else:
                self.counters[name] = value


class Figures:
    """Gathers figures whenever they are asked for.

    Args:
        pids: returns the process ids of the workers.
        counters: further sources of what only grows.
        gauges: further sources of what is at present.
        clock: monotonic seconds, the registry's.

    Attributes:
        failures: sources that could not be read, since the start.
    """

    def __init__(
        self,
        registry: Registry,
        tally: RegistryTally,
        totals: Totals,
        pids: Callable[[], Sequence[int]],
        logger: Logger,
        *,
        counters: Sequence[Source] = (),
        gauges: Sequence[Source] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures = 0
        self._registry = registry
        self._tally = tally
        self._totals = totals
        self._pids = pids
        self._logger = logger.child("metricsreporter")
        self._counters = tuple(counters)
        self._gauges = tuple(gauges)
        self._clock = clock
        self._limit = LogLimit()

    @property
    def pids(self) -> list[int]:
        """Process ids of this router: control's first, then those of the workers."""
        return [os.getpid(), *self._pids()]

    def read(self) -> Reading:
        """Return all figures as they are now."""
        reading = Reading()
        reading.add_series(self._totals.counters().items())
        reading.add_series(self._tally.latency.figures())
        reading.worker_gauges = self._totals.gauges_by_worker()
        self._read_registry(reading)
        reading.gauges["file_descriptors"] = open_descriptors(self.pids)
        reading.gauges["workers"] = len(self.pids) - 1
        for source in self._counters:
            for name, value in self._ask(source).items():
                reading.counters[name] = reading.counters.get(name, 0) + value
        for source in self._gauges:
            reading.gauges.update(self._ask(source))
        return reading

    def _read_registry(self, reading: Reading) -> None:
        counters = self._registry.counters
        reading.registered = dict(counters.registered)
        reading.labelled["unregistry_message"] = dict(counters.unregistered)
        reading.counters["routes_pruned"] = counters.pruned
        reading.counters["routes_registered"] = self._tally.routes_registered
        reading.counters["routes_unregistered"] = self._tally.routes_unregistered
        reading.gauges["total_routes"] = self._registry.total_routes
        age_s = None if counters.updated_at is None else self._clock() - counters.updated_at
        reading.gauges["ms_since_last_registry_update"] = -1 if age_s is None else int(age_s * 1000)

    def _ask(self, source: Source) -> Mapping[str, float]:
        try:
            return source()
        except Exception as error:
            self.failures += 1
            if self._limit.admit(self._clock()):
                self._logger.error(
                    "metrics-source-failed",
                    source=getattr(source, "__qualname__", repr(source)),
                    error=f"{type(error).__name__}: {error}",
                    suppressed=self._limit.take_suppressed(),
                )
            return {}


def open_descriptors(pids: Iterable[int]) -> int:
    """Return how many files these processes have open; one that has just ended has none."""
    count = 0
    for pid in pids:
        try:
            count += len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue
    return count
