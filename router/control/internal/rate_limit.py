"""How often each source may ask.

Owns one token bucket a source; does not own what happens to the queries that are too many. One law: memory is
bounded whatever addresses appear, and a source that has been quiet is like one never seen.
"""

from collections import OrderedDict


class RateLimit:
    """Allows each source a burst of one second's worth, then a steady rate.

    A bucket is one number: the time at which it is full again (the generic cell rate algorithm).

    Args:
        per_second: 0 is no limit.
        sources: buckets kept; the one used longest ago goes when there are more.
    """

    def __init__(self, per_second: float, sources: int = 65_536) -> None:
        self._interval = 1.0 / per_second if per_second else 0.0
        self._sources = sources
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """By source, the one used longest ago first."""

    def __len__(self) -> int:
        return len(self._full_at)

    def admit(self, source: str, now: float) -> bool:
        """Whether the source may ask once more. ``now`` is seconds of one monotonic clock."""
        if not self._interval:
            return True
        full_at = max(self._full_at.pop(source, now), now)
        # The last of a burst must not fall to the rounding of the sum of all before it.
        admitted = full_at + self._interval * 0.999 <= now + 1.0
        self._full_at[source] = full_at + self._interval if admitted else full_at
        self._forget(now)
        return admitted

    def _forget(self, now: float) -> None:
        """Drop what is too much, and of the rest a full bucket if the one used longest ago is full."""
        oldest = next(iter(self._full_at))
        if len(self._full_at) > self._sources or self._full_at[oldest] <= now:
            del self._full_at[oldest]
