"""Gives back to the system what a flood of connections leaves behind.

A connection over TLS takes some 21 KB, in pieces of all sizes. When it ends, glibc keeps them for the next ones:
by itself it returns memory only from the end of its heap, where something is nearly always in use. So the resident
size of a worker stays at its highest mark for ever, and who watches it takes that for a leak. Asked to, glibc
returns every whole page that nobody uses, 5 MB or more in a millisecond.

Owns when that is worth it. One law: it is asked for after many connections have gone and no more are going, so it
never falls into a flood, and while a few come and a few go it is not asked for at all.
"""

import ctypes
from collections.abc import Callable

MANY = 1000
"""Connections gone since the last time: some 20 MB."""

PAUSE_S = 30.0
"""Least time between two times."""


class MemoryReturn:
    """Decides; lives as long as its worker.

    Args:
        give_back: makes the allocator return what it can.
    """

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back = give_back
        self._most = 0
        self._last = 0
        self._not_before_s = 0.0

    def look(self, connections: int, now_s: float) -> None:
        """Take note of how many connections there are; called once a second.

        Args:
            now_s: monotonic seconds.
        """
        are_going, self._last = connections < self._last, connections
        self._most = max(self._most, connections)
        if self._most - connections >= MANY and not are_going and now_s >= self._not_before_s:
            self._most = connections
            self._not_before_s = now_s + PAUSE_S
            self._give_back()


def allocator_trim() -> Callable[[], None]:
    """Return what makes the allocator give back unused pages; it does nothing if the allocator is not glibc's."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda: None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int

    def give_back() -> None:
        trim(0)

    return give_back
