"""Writes log lines to a file, off the event loop, in batches.

Owns one destination and one thread. One law: a slow or full disk, or a log server that is away, never holds up a
request; when too much is waiting, lines are dropped and counted.
"""

import os
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

_BATCH_BYTES = 64 * 1024
_WAITING_BYTES = 32 * 1024 * 1024


class LineWriter(ABC):
    """Gathers lines and hands them, batch by batch, to a thread of its own.

    Args:
        name: of the thread.
        failed: called, from the writing thread, with what went wrong when lines were lost.
    """

    def __init__(self, name: str, failed: Callable[[str], None]) -> None:
        self.dropped = 0
        """Lines lost so far."""
        self._failed = failed
        self._lines: list[bytes] = []
        self._size = 0
        self._waiting = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[list[bytes] | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Take a line; it reaches the file with the next flush."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what was gathered to the thread; called by the worker's timer."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        size, self._size = self._size, 0
        with self._lock:
            if self._waiting + size > _WAITING_BYTES:
                self.dropped += len(lines)
                return
            self._waiting += size
        self._queue.put(lines)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left, then stop; waits at most ``timeout_s``."""
        self.flush()
        self._queue.put(None)
        self._thread.join(timeout_s)

    @abstractmethod
    def deliver(self, lines: list[bytes]) -> None:
        """Write lines; runs in the thread. Raises `OSError`."""

    @abstractmethod
    def end(self) -> None:
        """Let go of the destination; the last that runs in the thread."""

    def order(self, step: Callable[[], None]) -> None:
        """Have something done, in the thread, once everything taken so far is written."""
        self.flush()
        self._queue.put(step)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                self.end()
                return
            if isinstance(item, list):
                self._deliver(item)
            else:
                item()

    def _deliver(self, lines: list[bytes]) -> None:
        try:
            self.deliver(lines)
        except OSError as error:
            self.dropped += len(lines)
            self._failed(
                f"{error.filename or ''}: {error.strerror or error}; {len(lines)} lines lost".lstrip(": ")
            )
        finally:
            with self._lock:
                self._waiting -= sum(map(len, lines))


class LogWriter(LineWriter):
    """Appends lines to a file.

    Args:
        path: appended to, made with mode 0644 if it does not exist.
        failed: called, from the writing thread, with what went wrong when lines were lost or a reopen failed.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str, failed: Callable[[str], None]) -> None:
        self._path = path
        self._descriptor = _open(path)
        super().__init__("access-log", failed)

    def reopen(self) -> None:
        """Open the path anew, after everything written so far has gone to the old file (log rotation)."""
        self.order(self._reopen)

    def deliver(self, lines: list[bytes]) -> None:
        view = memoryview(b"".join(lines))
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            error.filename = self._path
            raise

    def end(self) -> None:
        os.close(self._descriptor)

    def _reopen(self) -> None:
        try:
            descriptor = _open(self._path)
        except OSError as error:
            self._failed(f"{self._path}: {error.strerror}; still writing to the old file")
            return
        os.close(self._descriptor)
        self._descriptor = descriptor


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
