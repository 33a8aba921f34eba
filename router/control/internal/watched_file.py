"""A file that is read again whenever it has changed.

Owns noticing a change; does not own what the file means. One law: a file that is being written is not read, unless
it was put in place whole, by renaming.
"""

import os
from pathlib import Path

Fingerprint = tuple[int, int, int, int]


class WatchedFile:
    """One path, to be looked at every half second or so; the look may block, so it belongs in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: Fingerprint | None = None
        self._seen: Fingerprint | None = None
        self._missing = False

    def look(self) -> bytes | None:
        """Return the contents if they are new, None if they are not or are still being written.

        Raises:
            OSError: the file cannot be read; told once, until it can be or has changed.
        """
        try:
            found = self._fingerprint()
        except OSError:
            known, self._missing = self._missing, True
            self._read = self._seen = None
            if known:
                return None
            raise
        self._missing = False
        before, self._seen = self._seen, found
        # Written in place: what changed since the last look may change again before it is whole.
        if found == self._read or (before is not None and before[0] == found[0] and before != found):
            return None
        self._read = found
        contents = self.path.read_bytes()
        if self._fingerprint() != found:
            self._read = None
            return None
        return contents

    def _fingerprint(self) -> Fingerprint:
        state = os.stat(self.path)
        return state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size
