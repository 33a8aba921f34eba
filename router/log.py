"""The component log: one JSON object a line on stdout, unbuffered (GOROUTER.md §1.2).

Owns the line's shape and the level filter; does not own the access log. Processes inherit one stdout, so a line
is written by a single ``os.write``: lines of several processes never mix as long as the pipe takes them whole.
"""

import os
import sys
import time
from collections.abc import Callable
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

_encode = msgspec.json.Encoder(enc_hook=str).encode


def rfc3339_nanoseconds(now_ns: int) -> str:
    """Format nanoseconds since the epoch as local time with nine digits and a literal Z (GOROUTER.md §1.2)."""
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(seconds))}.{nanoseconds:09d}Z"


def write_stdout(line: bytes) -> None:
    """Write one line whole. A closed stdout is not a reason to stop serving, so its errors end here."""
    view = memoryview(line)
    try:
        while view:
            view = view[os.write(1, view) :]
    except OSError:
        pass


class Threshold:
    """The least severe level that is written; one object for all loggers of a process, so that it can change."""

    __slots__ = ("level",)

    def __init__(self, level: int) -> None:
        self.level = level


class Logger:
    """Writes lines of one component. Cheap to make; children share the level and the sink.

    Args:
        source: ``gorouter.stdout`` by default, or the value of ``logging.syslog``; `child` appends to it.
        level: lines below are dropped before anything is formatted.
        rfc3339: timestamps as text; otherwise float seconds since the epoch.
    """

    def __init__(
        self,
        source: str = "gorouter.stdout",
        level: int | Threshold = INFO,
        *,
        rfc3339: bool = True,
        sink: Callable[[bytes], None] = write_stdout,
    ) -> None:
        self.source = source
        self._threshold = level if isinstance(level, Threshold) else Threshold(level)
        self._rfc3339 = rfc3339
        self._sink = sink

    @property
    def level(self) -> int:
        """Setting it changes the level of this logger's whole family."""
        return self._threshold.level

    @level.setter
    def level(self, level: int) -> None:
        self._threshold.level = level

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
        self._sink(text + b"\n")


def fatal(logger: Logger, message: str, **data: Any) -> None:
    """Log at error level and leave the process with status 1; only for errors of the start."""
    logger.error(message, **data)
    sys.exit(1)
