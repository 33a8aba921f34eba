"""Signals of the control process: which one calls what.

Owns their registration with the loop; does not own what they mean (`shutdown`, `reload`).
"""

import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType

QUIT_STATUS = 2
"""Exit status after SIGQUIT, as a Go program's."""


class Signals:
    """The handlers in force; use as a context manager inside the running loop, once in a process.

    Afterwards all these signals are ignored.

    Args:
        handlers: called by the loop, between two of its callbacks.
        before_quit: called by SIGQUIT before the process dumps its stacks and ends.
    """

    def __init__(
        self, handlers: Mapping[signal.Signals, Callable[[], object]], before_quit: Callable[[], None]
    ) -> None:
        self._handlers = handlers
        self._before_quit = before_quit
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> "Signals":
        for number, handler in self._handlers.items():
            self._loop.add_signal_handler(number, handler)
        # Not through the loop: it is asked for most when the loop hangs.
        signal.signal(signal.SIGQUIT, self._quit)
        # The command line holds them back until here.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._handlers)
        return self

    def __exit__(self, *_: object) -> None:
        # What comes from here on is too late to mean anything. By default it would end the process, with another
        # status than the one it has earned: drain scripts repeat SIGUSR1 until the process is gone.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._handlers)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        for number in self._handlers:
            self._loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def _quit(self, number: int, frame: FrameType | None) -> None:
        faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
        for task in asyncio.all_tasks(self._loop):
            task.print_stack(file=sys.__stderr__)
        self._before_quit()
        os._exit(QUIT_STATUS)
