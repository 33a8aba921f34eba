"""One object for equal values, because most of what endpoints announce of themselves is the same words again.

Owns a bounded memo; does not own the values. One law: what comes back equals what was given.
"""

MAX_SHARED = 20_000
"""Beyond this the memo starts anew: values that are still common come back at once, the others cost nothing."""


class Shared:
    """Returns the first of all equal texts, and of all equal tag mappings, it was given."""

    __slots__ = ("_tags", "_texts")

    def __init__(self) -> None:
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
