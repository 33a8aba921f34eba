"""Waiting for a condition instead of sleeping for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long a test waits for what must come: only a broken product takes so long, not a machine that stalls."""


def wait_until(
    condition: Callable[[], T | None], what: str, *, timeout_s: float = PATIENCE_S, every_s: float = 0.005
) -> T:
    """Return the first true value of the condition; `AssertionError` naming ``what`` if there is none in time.

    The time-out is a safety net for a broken product, never a measurement.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain: {what}")
        time.sleep(every_s)
