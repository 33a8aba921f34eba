"""When each announcement is due again: one heap for all of them, no timer and no task each.

Pure: the time (seconds of any monotonic clock) and the randomness are arguments. One law: an item is never
scheduled later than one interval from now, so jitter spreads load without letting a route grow stale.
"""

import heapq
import random
from collections.abc import Callable
from typing import Generic, TypeVar

DEFAULT_INTERVAL_S = 20.0
"""Gorouter's own default for ``start_response_delay_interval``, which is what it tells announcers to use."""

JITTER = 0.2
"""Greatest part of the interval by which an item may be early."""

SHORTEST_INTERVAL_S = 0.5

Item = TypeVar("Item")


def interval_from_router(
    minimum_s: float, prune_threshold_s: float, default_s: float = DEFAULT_INTERVAL_S
) -> float:
    """Return how often to register, in seconds, with a router that greeted with these two figures.

    Gorouter sends its start delay as the minimum, which is 0 where that is switched off, and need not be below
    the age at which it prunes: two lost messages out of three must still leave a route alive.
    """
    interval_s = minimum_s if minimum_s > 0 else default_s
    if prune_threshold_s > 0:
        interval_s = min(interval_s, prune_threshold_s / 3)
    return max(interval_s, SHORTEST_INTERVAL_S)


class Schedule(Generic[Item]):
    """Items and the time each is due. Adding and taking cost O(log n); an item may be in it once.

    Args:
        interval_of: says in seconds how often an item is due; asked again each time.
        rng: spreads items over their intervals.
    """

    def __init__(self, interval_of: Callable[[Item], float], rng: random.Random) -> None:
        self._interval_of = interval_of
        self._rng = rng
        self._order = 0
        self._due: dict[Item, float] = {}
        # Entries whose time is no longer the item's in `_due` are leftovers, and dropped when they come up.
        self._heap: list[tuple[float, int, Item]] = []

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, item: Item) -> bool:
        return item in self._due

    def items(self) -> list[Item]:
        """Return all items, in the order they were added."""
        return list(self._due)

    def add(self, item: Item, due: float) -> None:
        """Schedule an item; one that is there already gets the new time."""
        self._due[item] = due
        self._order += 1
        heapq.heappush(self._heap, (due, self._order, item))

    def remove(self, item: Item) -> bool:
        """Forget an item. False if it was not there."""
        return self._due.pop(item, None) is not None

    def take_due(self, now: float, limit: int) -> list[Item]:
        """Return at most ``limit`` items that are due, longest due first, and schedule them again."""
        taken: list[Item] = []
        while len(taken) < limit and (due := self.next_due()) is not None and due <= now:
            item = heapq.heappop(self._heap)[2]
            self.add(item, self.again(item, now))
            taken.append(item)
        return taken

    def again(self, item: Item, now: float) -> float:
        """Return a time one interval of the item's from now, less some jitter."""
        return now + self._interval_of(item) * (1 - JITTER * self._rng.random())

    def next_due(self) -> float | None:
        """Return when the next item is due; None without items."""
        heap = self._heap
        while heap and self._due.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def bring_forward(self, now: float, which: Callable[[Item], bool]) -> None:
        """Make due now those items for which ``which`` is true."""
        self._rebuild({item: min(due, now) if which(item) else due for item, due in self._due.items()})

    def intervals_shortened(self, now: float) -> None:
        """Let intervals that are shorter than they were hold from now; longer ones do from each next time on."""
        self._rebuild({item: min(due, self.again(item, now)) for item, due in self._due.items()})

    def _rebuild(self, due: dict[Item, float]) -> None:
        self._due = due
        self._heap = [(when, order, item) for order, (item, when) in enumerate(due.items())]
        self._order = len(self._heap)
        heapq.heapify(self._heap)
