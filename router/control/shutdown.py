"""What the operator's signals say about ending: whether, how gently, and how soon.

Owns the wishes and how they add up; does not own the ending (`run`). One law: a later signal can only hasten.

========== ===================================== ==================================================
signal     first                                 again
========== ===================================== ==================================================
USR1       drain: ``drain_wait``, then           within `IMPATIENCE_S`: skip the rest of
           ``drain_timeout`` for what is in      ``drain_wait``; later: nothing
           flight
TERM, INT  no more requests, `STOP_S` for what   cut what is in flight
           is in flight
========== ===================================== ==================================================

The BOSH drain script sends USR1 every 5 s until the process is gone, to a Gorouter that ignores all but the first.
That must not cut its drain short, so only a USR1 that follows faster than any script's counts as impatience.
"""

import asyncio
from collections.abc import Callable

STOP_S = 3.0
"""Seconds that TERM leaves to what is in flight: with all else there is to end, less than 5."""

IMPATIENCE_S = 3.0


class Shutdown:
    """The wishes so far; lives as long as control.

    Args:
        clock: monotonic seconds.
        on_hasten: called with the seconds left to what is in flight whenever they become fewer.

    Attributes:
        begun: set by the first signal.
        gentle: whether it was a drain that was asked for, and nothing harsher since.
    """

    def __init__(self, clock: Callable[[], float], on_hasten: Callable[[float], None]) -> None:
        self.begun = asyncio.Event()
        self.gentle = True
        self._clock = clock
        self._on_hasten = on_hasten
        self._wait_is_over = asyncio.Event()
        self._last_drain: float | None = None
        self._limit_s: float | None = None

    def drain(self) -> bool:
        """USR1. Returns whether it had any effect."""
        previous, self._last_drain = self._last_drain, self._clock()
        if not self.begun.is_set():
            self.begun.set()
            return True
        if previous is None or self._last_drain - previous > IMPATIENCE_S or self._wait_is_over.is_set():
            return False
        self._wait_is_over.set()
        return True

    def stop(self) -> bool:
        """TERM or INT. Returns whether it had any effect."""
        if self._limit_s == 0.0:
            return False
        self._limit_s = STOP_S if self._limit_s is None else 0.0
        self.gentle = False
        self.begun.set()
        self._wait_is_over.set()
        self._on_hasten(self._limit_s)
        return True

    async def wait(self, drain_wait_s: float) -> None:
        """Wait before the listeners close, as long as there is patience for it."""
        try:
            await asyncio.wait_for(self._wait_is_over.wait(), drain_wait_s)
        except TimeoutError:
            self._wait_is_over.set()

    def limit_s(self, drain_timeout_s: float) -> float:
        """Return the seconds that what is in flight may take."""
        return drain_timeout_s if self._limit_s is None else min(self._limit_s, drain_timeout_s)
