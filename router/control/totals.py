"""What the workers count, summed: cumulative over workers that have gone, so no counter ever falls.

Owns the last figures of each worker; does not own their meaning or how they are published.
"""

from collections import Counter

from router.sync import Stats


class Totals:
    """Figures by worker; lives as long as control."""

    def __init__(self) -> None:
        self._gone: Counter[str] = Counter()
        self._latest: dict[int, Stats] = {}

    def update(self, worker_id: int, stats: Stats) -> None:
        """Take a worker's newest figures, which count from its own start."""
        self._latest[worker_id] = stats

    def retire(self, worker_id: int) -> None:
        """The worker is gone: what it counted stays, its gauges end."""
        stats = self._latest.pop(worker_id, None)
        if stats is not None:
            self._gone.update(stats.counters)

    def counters(self) -> dict[str, int]:
        """Return the sum over all workers there ever were, by name."""
        sums = Counter(self._gone)
        for stats in self._latest.values():
            sums.update(stats.counters)
        return dict(sums)

    def gauges(self) -> dict[str, int]:
        """Return the sum over the living workers, by name."""
        sums: Counter[str] = Counter()
        for stats in self._latest.values():
            sums.update(stats.gauges)
        return dict(sums)
