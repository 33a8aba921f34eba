"""Being told to stop by a signal, also while something is still under way."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
"""The last comes when a terminal is closed, which must not leave routes behind either."""


def stop_on_signals() -> asyncio.Event:
    """Return an event that the first of `SIGNALS` sets; the second ends the process at once."""
    stop = asyncio.Event()

    def told() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, told)
    return stop


async def unless_stopped(entering: Coroutine[Any, Any, object], stop: asyncio.Event) -> bool:
    """Wait for a coroutine, or for the event; true if the coroutine came first. What it raises is raised."""
    loop = asyncio.get_running_loop()
    task, stopped = loop.create_task(entering), loop.create_task(stop.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.wait([task], timeout=1)
    return False
