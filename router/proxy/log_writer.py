"""Writes log lines to a file, off the event loop, in batches.

Owns one file and one thread. One law: a slow or full disk never holds up a request; when too much is waiting,
lines are dropped and counted.
"""

import os
import queue
import threading
from collections.abc import Callable

_BATCH_BYTES = 64 * 1024
_WAITING_BYTES = 32 * 1024 * 1024


class LogWriter:
    """Appends lines to a file.

    Args:
        path: appended to, made with mode 0644 if it does not exist.
        failed: called, from the writing thread, with what went wrong when lines were lost or a reopen failed.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str, failed: Callable[[str], None]) -> None:
        self.dropped = 0
        """Lines lost so far."""
        self._path = path
        self._failed = failed
        self._descriptor = _open(path)
        self._lines: list[bytes] = []
        self._size = 0
        self._waiting = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[list[bytes] | str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
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

    def reopen(self) -> None:
        """Open the path anew, after everything written so far has gone to the old file (log rotation)."""
        self.flush()
        self._queue.put("reopen")

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left, then stop; waits at most ``timeout_s``."""
        self.flush()
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                os.close(self._descriptor)
                return
            if isinstance(item, str):
                self._reopen()
            else:
                self._write(item)

    def _write(self, lines: list[bytes]) -> None:
        batch = b"".join(lines)
        view = memoryview(batch)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self.dropped += len(lines)
            self._failed(f"{self._path}: {error.strerror}; {len(lines)} lines lost")
        finally:
            with self._lock:
                self._waiting -= len(batch)

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
