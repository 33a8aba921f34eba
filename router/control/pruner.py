"""The clock of prune passes.

Owns when a pass takes place and that it never holds up anything else; does not own what is dropped (`Registry`).
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator


class Pruner:
    """Makes a pass every interval; `run` is a task that lives as long as control.

    Args:
        steps: begins a pass and returns it, to be run to its end; between its steps the loop goes on.
        on_passed: called after each pass.
        interval_s: seconds between the end of a pass and the next; 0 for none.
    """

    def __init__(
        self, steps: Callable[[], Iterator[None]], on_passed: Callable[[], None], interval_s: float
    ) -> None:
        self._steps = steps
        self._on_passed = on_passed
        self._interval_s = interval_s
        self._changed = asyncio.Event()

    def set_interval(self, interval_s: float) -> None:
        """Count anew, with this interval, if it is a new one."""
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self._changed.set()

    async def run(self) -> None:
        while True:
            if await self._interval_passes():
                for _ in self._steps():
                    await asyncio.sleep(0)
                self._on_passed()

    async def _interval_passes(self) -> bool:
        """Wait; return False if the interval was changed meanwhile."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), self._interval_s or None)
        return not self._changed.is_set()
