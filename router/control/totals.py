"""What the workers count, summed: cumulative over workers that have gone, so no counter ever falls.

Owns the last figures of each worker; does not own their meaning or how they are published.
"""

from collections.abc import Mapping

from router.sync import Stats


class Totals:
    """Figures by worker; lives as long as control."""

    def __init__(self) -> None:
        self._gone: dict[str, int | float] = {}
        self._latest: dict[int, Stats] = {}

    def update(self, worker_id: int, stats: Stats) -> None:
        """Take a worker's newest figures, which count from its own start."""
        self._latest[worker_id] = stats

    def retire(self, worker_id: int) -> None:
        """The worker is gone: what it counted stays, its gauges end."""
        stats = self._latest.pop(worker_id, None)
        if stats is not None:
            _add(self._gone, stats.counters)

    def counters(self) -> dict[str, int | float]:
        """Return the sum over all workers there ever were, by name."""
        sums = dict(self._gone)
        for stats in self._latest.values():
            _add(sums, stats.counters)
        return sums

    def gauges(self) -> dict[str, int]:
        """Return the sum over the living workers, by name."""
        sums: dict[str, int] = {}
        for stats in self._latest.values():
            for name, value in stats.gauges.items():
                sums[name] = sums.get(name, 0) + value
        return sums

    def gauges_by_worker(self) -> dict[int, dict[str, int]]:
        """Return the gauges of each living worker."""
        return {worker_id: stats.gauges for worker_id, stats in self._latest.items()}


def _add(sums: dict[str, int | float], counters: Mapping[str, int | float]) -> None:
    for name, value in counters.items():
        sums[name] = sums.get(name, 0) + value
