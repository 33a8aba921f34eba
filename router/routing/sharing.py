"""One object for equal values, because most of what endpoints announce of themselves is the same words again.

Owns a bounded memo; does not own the values. One law: what comes back equals what was given.
"""

MAX_SHARED = 20_000
"""Beyond this the memo starts anew: values that are still common come back at once, the others cost nothing."""


class Tags:
    """A small mapping of texts that takes a third of the memory of a dict: its names are shared by all that have
    the same ones, as the instances announced by one agent do."""

    __slots__ = ("names", "values")

    def __init__(self, names: tuple[str, ...], values: tuple[str, ...]) -> None:
        self.names = names
        self.values = values

    def get(self, name: str, default: str = "") -> str:
        """Return the value of a tag."""
        return self.values[self.names.index(name)] if name in self.names else default

    def as_dict(self) -> dict[str, str]:
        return dict(zip(self.names, self.values, strict=True))


NO_TAGS = Tags((), ())


class Shared:
    """Returns the first of all equal texts, and of all equal tag mappings, it was given."""

    __slots__ = ("_names", "_tags", "_texts")

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._texts: dict[str, str] = {}
        self._tags: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def text(self, text: str) -> str:
        if len(self._texts) > MAX_SHARED:
            self._texts.clear()
        return self._texts.setdefault(text, text)

    def tags(self, tags: dict[str, str]) -> dict[str, str]:
        if len(self._tags) > MAX_SHARED:
            self._tags.clear()
        items = tuple(tags.items())
        shared = self._tags.get(items)
        if shared is None:
            shared = {self.text(name): self.text(value) for name, value in items}
            self._tags[tuple(shared.items())] = shared
        return shared

    def packed(self, tags: dict[str, str]) -> Tags:
        """Return tags for keeping: names and common values shared."""
        if not tags:
            return NO_TAGS
        if len(self._names) > MAX_SHARED:
            self._names.clear()
        names = tuple(tags)
        return Tags(self._names.setdefault(names, names), tuple(map(self.text, tags.values())))
