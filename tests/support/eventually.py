"""Waiting for a condition inside an event loop."""

import asyncio
from collections.abc import Callable

from tests.support.waiting import PATIENCE_S


async def eventually(condition: Callable[[], object], what: str, *, timeout_s: float = PATIENCE_S) -> None:
    """Return once the condition is true; `AssertionError` naming ``what`` if that does not happen in time.

    The time-out is a safety net for a broken product, never a measurement.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain: {what}")
        await asyncio.sleep(0.005)
