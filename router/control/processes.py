"""What system and interpreter say of the router's processes, under the names that dashboards of any program use.

Owns the sum over processes; does not own reading ``/proc``, which prometheus-client does. One law: processor time
of workers that are gone stays in the sum, so it never falls.
"""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector

from router.control.exposition import COUNTER, Family

CPU = "process_cpu_seconds_total"
STARTED = "process_start_time_seconds"


class Processes:
    """Reads the processes of this router, control first."""

    def __init__(self) -> None:
        self._gone_s = 0.0
        self._cpu_s: dict[int, float] = {}

    def read(self, pids: Sequence[int]) -> dict[str, float]:
        """Return the figures of all processes together; the time of start is that of the first."""
        sums: dict[str, float] = {}
        cpu_s: dict[int, float] = {}
        for pid in pids:
            for name, value in _figures(pid):
                if name == CPU:
                    cpu_s[pid] = value
                elif name != STARTED:
                    sums[name] = sums.get(name, 0.0) + value
                elif pid == pids[0]:
                    sums[name] = value
        self._gone_s += sum(value for pid, value in self._cpu_s.items() if value > cpu_s.get(pid, 0.0))
        self._cpu_s = cpu_s
        sums[CPU] = self._gone_s + sum(cpu_s.values())
        return sums


def _figures(pid: int) -> Iterator[tuple[str, float]]:
    for metric in ProcessCollector(pid=lambda: pid, registry=None).collect():
        for sample in metric.samples:
            yield sample.name, sample.value


def runtime() -> list[Family]:
    """Return what the interpreter says of itself: ``python_info``, and ``python_gc_*`` of control's collector."""
    registry = CollectorRegistry()
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return [_family(metric) for metric in registry.collect()]


def _family(metric: Metric) -> Family:
    name = f"{metric.name}_total" if metric.type == COUNTER else metric.name
    samples = [
        (sample.name.removeprefix(name), sorted(sample.labels.items()), float(sample.value))
        for sample in metric.samples
    ]
    return Family(name, metric.type, metric.documentation, samples)
