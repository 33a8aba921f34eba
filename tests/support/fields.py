"""How tests look at the header fields of a message."""


class Headed:
    """A message with header fields; names are compared without regard to case."""

    __slots__ = ()
    headers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The only value of a field, or None. Two lines of it are an assertion error."""
        found = self.values(name)
        assert len(found) < 2, f"{name} came {len(found)} times: {found}"
        return found[0] if found else None
