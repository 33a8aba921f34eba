"""Memory of recent unregistrations, so that a register which they overtook does not revive the route.

Owns how long an unregistration is remembered; does not own the table. One law: only announcements that carry a
time of change are held back, and only if that time is not after the unregistered one's.
"""

from collections import OrderedDict

LIFETIME_S = 10.0
"""Longer than a message can linger in a NATS cluster or an agent's socket, shorter than a heartbeat interval."""

MAX_TOMBSTONES = 100_000
"""Beyond this the oldest go first: a flood of unregistrations must not take unbounded memory."""


class Tombstones:
    """Unregistered endpoints by route key and address."""

    __slots__ = ("_graves",)

    def __init__(self) -> None:
        # In the order of their end, since all live equally long. A plain dict would search past what was taken
        # from its front each time: expiring 99,000 took five seconds.
        self._graves: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._graves)

    def bury(self, key: str, address: str, updated_at_ns: int, now: float) -> None:
        """Remember an endpoint that is unregistered as of this time of change; 0 is unknown and does nothing."""
        self._expire(now)
        if updated_at_ns <= 0:
            return
        place = key, address
        known = self._graves.pop(place, None)
        if known is not None:
            updated_at_ns = max(updated_at_ns, known[0])
        self._graves[place] = updated_at_ns, now + LIFETIME_S

    def cover(self, key: str, address: str, updated_at_ns: int, now: float) -> bool:
        """Whether a registration with this time of change was overtaken by its unregistration."""
        if not self._graves or updated_at_ns <= 0:
            return False
        buried_ns, end = self._graves.get((key, address), (0, 0.0))
        return updated_at_ns <= buried_ns and now < end

    def _expire(self, now: float) -> None:
        graves = self._graves
        while graves:
            oldest = next(iter(graves))
            if len(graves) < MAX_TOMBSTONES and now < graves[oldest][1]:
                break
            graves.popitem(last=False)
