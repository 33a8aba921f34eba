"""Files with routes that come, change and go: ``dynamic_config_globs``, looked at again and again.

Owns which files there are and what changed; does not own what is announced. One law: a file with a mistake takes
nothing away. Its good entries count; what it held before and is not among them goes on as it was until the file is
without mistakes, or gone: what cannot be read does not say that a route is to be withdrawn, and somebody may just
be writing it. Mistakes are told once until the file changes.
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from router.registrar.service_config import ConfigProblems, ConfiguredRoute, Defaults
from router.registrar.service_reader import DynamicRoutes, read_routes

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
    """Mistakes in the files that are new or changed, one line for each."""
    notes: list[str]
    """What else should be known about these files."""


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
        look = Look({}, [], [])
        seen: dict[Path, Seen] = {}
        mistaken: list[Path] = []
        for file in self._matching():
            try:
                stamp = _stamp(file)
            except OSError:
                # Gone since it was listed: that is the same as not having been there.
                continue
            known = self._seen.get(file)
            if known is not None and known.stamp == stamp:
                seen[file] = known
                continue
            read = self._read(file)
            look.problems.extend(read.problems)
            look.notes.extend(read.notes)
            seen[file] = Seen(stamp, read.routes)
            if read.problems and known is not None:
                mistaken.append(file)
        for file in mistaken:
            self._keep(file, seen, look.notes)
        self._seen = seen
        look.routes.update((file, each.routes) for file, each in seen.items())
        return look

    def successor(self, globs: Sequence[str], defaults: Defaults) -> "RouteFiles":
        """Return what reads all files anew, under other globs and defaults, and knows what they were."""
        files = RouteFiles(globs, defaults)
        files._seen = {file: Seen(_UNREAD, seen.routes) for file, seen in self._seen.items()}
        return files

    def _matching(self) -> list[Path]:
        names = {name for pattern in self._globs for name in glob.glob(pattern, recursive=True)}
        return [path for path in map(Path, sorted(names)) if path.is_file()]

    def _read(self, file: Path) -> DynamicRoutes:
        try:
            return read_routes(file, self._defaults)
        except ConfigProblems as error:
            return DynamicRoutes([], error.problems, [])

    def _keep(self, file: Path, seen: dict[Path, Seen], notes: list[str]) -> None:
        """Add to a file's routes those that it held before, but what has moved to another file."""
        names = {route.name for route in seen[file].routes}
        elsewhere = [route for other, each in seen.items() if other != file for route in each.routes]
        kept = [route for route in self._seen[file].routes if route.name not in names and route not in elsewhere]
        if kept:
            seen[file].routes.extend(kept)
            as_they_were = ", ".join(route.name for route in kept)
            notes.append(f"{file}: until that is mended, these go on as they were: {as_they_were}")


def _stamp(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
