"""The shared memory that workers find each other's turns and counts in (`routing.board`).

Owns the memory and which worker has which row; does not own what is written there. One law: a row is empty when it
is given to a worker, whatever the one before it left behind, and however that one ended.
"""

import mmap
import os

from router.routing.board import row_range, size_bytes

ROWS_PER_SLOT = 4
"""A reload's new worker begins before the old one ends, which a WebSocket may keep for several reloads."""


class BoardMemory:
    """Lives as long as control.

    Args:
        slots: workers that serve at a time.

    Attributes:
        descriptor: to be inherited by workers; -1 if there is but one of them and nothing to share.
        rows: workers that can have one at a time.
    """

    def __init__(self, slots: int) -> None:
        self.rows = slots * ROWS_PER_SLOT if slots > 1 else 0
        self.descriptor = -1
        self._memory: mmap.mmap | None = None
        self._free = list(range(self.rows))
        if self.rows:
            self.descriptor = os.memfd_create("router-board", os.MFD_CLOEXEC)
            os.ftruncate(self.descriptor, size_bytes(self.rows))
            self._memory = mmap.mmap(self.descriptor, 0)

    def take_row(self) -> int:
        """Return an empty row for a new worker; -1 if none is left, and then it counts for itself."""
        if not self._free or self._memory is None:
            return -1
        return self._free.pop(0)

    def give_back(self, row: int) -> None:
        """A worker is gone, and so is whatever it had in flight."""
        if row >= 0 and self._memory is not None:
            # Gives the pages back, which then read as zeros.
            self._memory.madvise(mmap.MADV_REMOVE, *row_range(row))
            self._free.append(row)

    def close(self) -> None:
        """Let go of the memory; workers that live on keep it."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
            os.close(self.descriptor)
            self.descriptor = -1
            self.rows = 0
