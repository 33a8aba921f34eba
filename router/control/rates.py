"""Figures over the last while, from totals that only grow: rates, busiest apps, percentiles.

Owns the arithmetic; does not own clocks nor where totals come from. One law: times are arguments, in seconds of
one monotonic clock.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence

MINUTES = (1, 5, 15)
WINDOW_S = 60.0


class Meter:
    """Events a second, averaged over 1, 5 and 15 minutes as ``uptime`` has it: weights fall with age."""

    def __init__(self) -> None:
        self.rates = [0.0, 0.0, 0.0]
        """Events a second, by `MINUTES`."""
        self._total = 0.0
        self._at: float | None = None

    def update(self, total: float, now: float) -> None:
        """Take the number of events there ever were."""
        before, self._at = self._at, now
        happened, self._total = total - self._total, total
        if before is None or now <= before:
            return
        rate = happened / (now - before)
        for place, minutes in enumerate(MINUTES):
            weight = 1.0 - math.exp((before - now) / (60.0 * minutes))
            self.rates[place] += weight * (rate - self.rates[place])


class BusyApps:
    """Requests by app during the last minute."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, Mapping[str, int]]] = deque()
        self._sums: Counter[str] = Counter()

    def add(self, requests: Mapping[str, int], now: float) -> None:
        """Count requests by app that came since the last call."""
        self._counts.append((now, dict(requests)))
        self._sums.update(requests)
        self._forget(now)

    def top(self, count: int, now: float) -> list[tuple[str, int]]:
        """Return the apps with the most requests, most first, equal ones by name."""
        self._forget(now)
        return heapq.nsmallest(count, self._sums.items(), key=lambda item: (-item[1], item[0]))

    def _forget(self, now: float) -> None:
        while self._counts and now - self._counts[0][0] >= WINDOW_S:
            _, old = self._counts.popleft()
            for app, requests in old.items():
                self._sums[app] -= requests
                if self._sums[app] <= 0:
                    del self._sums[app]


def percentile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """Estimate the value that this share of all values does not exceed; 0 if there are none.

    Args:
        buckets: inclusive upper bound and number of values of each, ascending; the last bound may be infinite.
        share: between 0 and 1.
    """
    wanted = share * sum(count for _, count in buckets)
    lower = passed = 0.0
    for bound, count in buckets:
        if count and passed + count >= wanted:
            return lower if math.isinf(bound) else lower + (bound - lower) * (wanted - passed) / count
        lower, passed = bound, passed + count
    return 0.0
