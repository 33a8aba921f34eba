"""Being told by a signal to stop, also while something is still under way, or to read the configuration anew."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
"""The last comes when a terminal is closed, which must not leave routes behind either."""

TERMINAL = "/dev/tty"


def stop_on_signals(reload: Callable[[], object] | None = None) -> asyncio.Event:
    """Return an event that the first of `SIGNALS` sets; the second ends the process at once.

    Args:
        reload: called at SIGHUP instead, unless that is the end of the terminal the process was started from.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    had_terminal = has_terminal()

    def told() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    def hung_up() -> None:
        if reload is None or (had_terminal and not has_terminal()):
            told()
        else:
            reload()

    for number in SIGNALS:
        loop.add_signal_handler(number, hung_up if number == signal.SIGHUP else told)
    return stop


def has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open(TERMINAL, os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


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
