"""The component log: one JSON object a line on stdout, unbuffered (GOROUTER.md §1.2).

Owns the line's shape and the level filter; does not own the access log. Processes inherit one stdout, so a line
is written by a single ``os.write``: lines of several processes never mix as long as the pipe takes them whole. One
law: whoever collects the lines cannot stop the router by not reading them.
"""

import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

DEBUG, INFO, WARN, ERROR = 0, 1, 2, 3
LEVELS = {
    "debug": DEBUG,
    "info": INFO,
    "warn": WARN,
    "error": ERROR,
    "dpanic": ERROR,
    "panic": ERROR,
    "fatal": ERROR,
}
"""Accepted values of ``logging.level``, any case; those above error only silence what is below them."""

_NAMES = ("debug", "info", "warn", "error")
_PATIENCE_MS = 1000

_encode = msgspec.json.Encoder(enc_hook=str).encode


def rfc3339_nanoseconds(now_ns: int) -> str:
    """Format nanoseconds since the epoch as local time with nine digits and a literal Z (GOROUTER.md §1.2)."""
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(seconds))}.{nanoseconds:09d}Z"


class Stdout:
    """Writes lines to stdout, each whole.

    A line that nobody takes within `_PATIENCE_MS` is lost, and so, at once, is every further one until somebody
    reads again: only the first of a stall holds this process up.
    """

    def __init__(self) -> None:
        self._stalled = False

    def __call__(self, line: bytes) -> bool:
        """Write a line and return whether it was taken. A closed stdout is no reason to stop serving, so its
        errors end here."""
        stdout = select.poll()
        stdout.register(1, select.POLLOUT)
        self._stalled = not stdout.poll(0 if self._stalled else _PATIENCE_MS)
        if self._stalled:
            return False
        view = memoryview(line)
        try:
            while view:
                view = view[os.write(1, view) :]
        except OSError:
            pass
        return True


class Threshold:
    """The least severe level that is written; one object for all loggers of a process, so that it can change.

    Attributes:
        lost: lines that the sink did not take since it last took one.
        counts: lines written so far, by the name of their level.
    """

    __slots__ = ("counts", "level", "lost")

    def __init__(self, level: int) -> None:
        self.level = level
        self.lost = 0
        self.counts: dict[str, int] = {}


class Logger:
    """Writes lines of one component. Cheap to make; children share the level and the sink.

    Args:
        source: ``gorouter.stdout`` by default, or the value of ``logging.syslog``; `child` appends to it.
        level: lines below are dropped before anything is formatted.
        rfc3339: timestamps as text; otherwise float seconds since the epoch.
        sink: takes each line; returns False if it lost it. How many were lost is told when it takes one again.
    """

    def __init__(
        self,
        source: str = "gorouter.stdout",
        level: int | Threshold = INFO,
        *,
        rfc3339: bool = True,
        sink: Callable[[bytes], bool | None] | None = None,
    ) -> None:
        self.source = source
        self._threshold = level if isinstance(level, Threshold) else Threshold(level)
        self._rfc3339 = rfc3339
        self._sink = sink or Stdout()

    @property
    def level(self) -> int:
        """Setting it changes the level of this logger's whole family."""
        return self._threshold.level

    @level.setter
    def level(self, level: int) -> None:
        self._threshold.level = level

    @property
    def counts(self) -> Mapping[str, int]:
        """Lines that this logger's whole family has written, by the name of their level."""
        return self._threshold.counts

    def child(self, component: str) -> "Logger":
        """Return a logger for a component: ``source`` grows by ``.component``."""
        return Logger(f"{self.source}.{component}", self._threshold, rfc3339=self._rfc3339, sink=self._sink)

    def debug(self, message: str, **data: Any) -> None:
        if self._threshold.level <= DEBUG:
            self._write(DEBUG, message, data)

    def info(self, message: str, **data: Any) -> None:
        if self._threshold.level <= INFO:
            self._write(INFO, message, data)

    def warn(self, message: str, **data: Any) -> None:
        if self._threshold.level <= WARN:
            self._write(WARN, message, data)

    def error(self, message: str, **data: Any) -> None:
        self._write(ERROR, message, data)

    def _write(self, level: int, message: str, data: dict[str, Any]) -> None:
        counts = self._threshold.counts
        counts[_NAMES[level]] = counts.get(_NAMES[level], 0) + 1
        now_ns = time.time_ns()
        line = {
            "log_level": level,
            "timestamp": rfc3339_nanoseconds(now_ns) if self._rfc3339 else now_ns / 1e9,
            "message": message,
            "source": self.source,
            "data": data,
        }
        try:
            text = _encode(line)
        except (TypeError, ValueError, UnicodeEncodeError):
            line["data"] = {name: repr(value) for name, value in data.items()}
            text = _encode(line)
        if self._sink(text + b"\n") is False:
            self._threshold.lost += 1
        elif self._threshold.lost:
            lost, self._threshold.lost = self._threshold.lost, 0
            self._write(WARN, "log-lines-lost", {"lines": lost})


def fatal(logger: Logger, message: str, **data: Any) -> None:
    """Log at error level and leave the process with status 1; only for errors of the start."""
    logger.error(message, **data)
    sys.exit(1)
