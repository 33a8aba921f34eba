"""Files with routes that come, change and go: ``dynamic_config_globs``, looked at again and again.

Owns which files there are and what changed; does not own what is announced. One law: a file that cannot be read,
or an entry that is malformed, costs nobody else anything, and is told once until the file changes. What was there
before such a file goes on, for somebody may just be writing it.
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from router.registrar.service_config import ConfigProblems, ConfiguredRoute, Defaults
from router.registrar.service_reader import read_routes

POLL_INTERVAL_S = 10.0

_UNREAD = (0, 0, 0)


class Seen(NamedTuple):
    """A file as it was when it was read."""

    stamp: tuple[int, int, int]
    """Device-wide number, size and time of the last change: another one means it must be read again."""
    routes: list[ConfiguredRoute]


class Look(NamedTuple):
    """What one look at the files found."""

    routes: dict[Path, list[ConfiguredRoute]]
    """All good routes there are now, of every file."""
    problems: list[str]
    """Of the files that are new or changed, one line for each."""


class RouteFiles:
    """The files that some globs match.

    Args:
        globs: as the shell knows them; ``**`` stands for folders within folders.
        defaults: for routes that do not say everything.
    """

    def __init__(self, globs: Sequence[str], defaults: Defaults) -> None:
        self._globs = globs
        self._defaults = defaults
        self._seen: dict[Path, Seen] = {}

    def look(self) -> Look:
        """Read what is new or changed. Blocks for as long as the file system takes."""
        problems: list[str] = []
        seen: dict[Path, Seen] = {}
        for file in self._matching():
            try:
                stamp = _stamp(file)
            except OSError:
                # Gone since it was listed: that is the same as not having been there.
                continue
            known = self._seen.get(file)
            if known is None or known.stamp != stamp:
                known = Seen(stamp, self._read(file, known.routes if known else [], problems))
            seen[file] = known
        self._seen = seen
        return Look({file: each.routes for file, each in seen.items()}, problems)

    def successor(self, globs: Sequence[str], defaults: Defaults) -> "RouteFiles":
        """Return what reads all files anew, under other globs and defaults, and knows what they were."""
        files = RouteFiles(globs, defaults)
        files._seen = {file: Seen(_UNREAD, seen.routes) for file, seen in self._seen.items()}
        return files

    def _matching(self) -> list[Path]:
        names = {name for pattern in self._globs for name in glob.glob(pattern, recursive=True)}
        return [path for path in map(Path, sorted(names)) if path.is_file()]

    def _read(self, file: Path, before: list[ConfiguredRoute], problems: list[str]) -> list[ConfiguredRoute]:
        try:
            routes, found = read_routes(file, self._defaults)
        except ConfigProblems as error:
            problems += error.problems
            return before
        problems += found
        return routes


def _stamp(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
