"""Which instance of its app a container is: 0, 1, 2 in the order of scaling.

Pure. One law: as long as a container runs its index stays, and no two running containers of an app share one,
unless labels say so.
"""


class Numbering:
    """Indexes of running containers, by app."""

    def __init__(self) -> None:
        self._given: dict[str, tuple[str, int]] = {}
        self._taken: dict[str, set[int]] = {}

    def index(self, container: str, app: str, wanted: int | None = None) -> int:
        """Return a container's index: the one it has, else ``wanted`` if it is free, else the lowest free one."""
        known = self._given.get(container)
        if known is not None and known[0] == app:
            return known[1]
        self.forget(container)
        taken = self._taken.setdefault(app, set())
        index = wanted if wanted is not None and wanted not in taken else _lowest_not_in(taken)
        taken.add(index)
        self._given[container] = app, index
        return index

    def forget(self, container: str) -> None:
        """Free the index of a container that is gone; unknown ones are passed over."""
        app, index = self._given.pop(container, ("", -1))
        taken = self._taken.get(app, set())
        taken.discard(index)
        if app and not taken:
            self._taken.pop(app, None)


def _lowest_not_in(taken: set[int]) -> int:
    index = 0
    while index in taken:
        index += 1
    return index
