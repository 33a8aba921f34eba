"""Reading a mapping of a document key by key, so that everything wrong with it is told at once.

Owns types and places; does not own what the values mean. Keys are found in any case, as Go finds them.
"""

import reprlib
from collections.abc import Iterator

from router.config.durations import parse_duration


class Section:
    """A mapping of a document; notes what is wrong with its values, and which keys nobody asked for.

    Args:
        value: what stands there; None counts as an empty mapping.
        where: its place in the document, e.g. ``routes[0] "api"``; empty for the document itself.
        problems: gets one line for each mistake.
    """

    def __init__(self, value: object, where: str, problems: list[str]) -> None:
        self.where = where
        self._problems = problems
        self._asked: set[str] = set()
        if value is not None and not isinstance(value, dict):
            self.complain("a mapping is needed here")
        entries = value.items() if isinstance(value, dict) else ()
        self._values = {str(key).lower(): entry for key, entry in entries if entry is not None}

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def complain(self, text: str) -> None:
        self._problems.append(f"{self.where}: {text}" if self.where else text)

    def ignore(self, *keys: str) -> None:
        """Count some keys as read, or all without any."""
        self._asked.update(keys or self._values)

    def unasked(self) -> list[str]:
        """Return the keys that were not read, each with its place."""
        return [self._place(key) for key in self._values if key not in self._asked]

    def text(self, key: str, default: str = "") -> str:
        value = self._get(key, default)
        if isinstance(value, str):
            return value
        self.complain(f"{key}: {shown(value)} is not text")
        return default

    def secret(self, key: str) -> str:
        """Return a text that is shown to nobody, not even if it is none."""
        value = self._get(key, "")
        if isinstance(value, str):
            return value
        self.complain(f"{key}: must be text; a number is written in quotes")
        return ""

    def flag(self, key: str) -> bool:
        value = self._get(key, False)
        if not isinstance(value, bool):
            self.complain(f"{key}: {shown(value)} is neither true nor false")
        return value is True

    def number(self, key: str, default: int, lowest: int, highest: int) -> int:
        value = self._get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        if key in self._values:
            self.complain(f"{key}: {shown(value)} is not a number between {lowest} and {highest}")
        return default

    def port(self, key: str) -> int:
        """Return a port number; 0 if it is absent, or wrong, which is told."""
        return self.number(key, 0, 1, 65535)

    def duration_s(self, key: str, default_s: float) -> float:
        """Return the seconds of a Go duration like ``10s``, which must be above 0."""
        if key not in self._values:
            self._asked.add(key)
            return default_s
        text = self.text(key, "?")
        try:
            if (seconds := parse_duration(text)) > 0:
                return seconds
            self.complain(f"invalid {key}: {text!r} is not above 0")
        except ValueError as error:
            if text != "?":
                self.complain(f"invalid {key}: {error}")
        return default_s

    def items(self, key: str) -> list[object]:
        value = self._get(key, [])
        if isinstance(value, list):
            return value
        self.complain(f"{key}: a list is needed here")
        return []

    def texts(self, key: str) -> list[str]:
        values = self.items(key)
        if wrong := [value for value in values if not isinstance(value, str)]:
            self.complain(f"{key}: {shown(wrong[0])} is not text")
        return [value for value in values if isinstance(value, str)]

    def pairs(self, key: str) -> dict[str, str]:
        """Return a mapping of text to text, such as tags."""
        value = self._get(key, {})
        if not isinstance(value, dict):
            self.complain(f"{key}: a mapping is needed here")
            return {}
        if wrong := [
            name for name, entry in value.items() if not isinstance(name, str) or not isinstance(entry, str)
        ]:
            self.complain(f"{key}: {shown(wrong[0])} and its value must be text")
        return {name: entry for name, entry in value.items() if isinstance(name, str) and isinstance(entry, str)}

    def section(self, key: str) -> "Section":
        return Section(self._get(key, None), self._place(key), self._problems)

    def sections(self, key: str) -> Iterator["Section"]:
        """Yield a section for each entry of a list; one with a ``name`` is called by it too."""
        for index, value in enumerate(self.items(key)):
            name = value.get("name") if isinstance(value, dict) else None
            called = f" {name!r}" if isinstance(name, str) and name else ""
            yield Section(value, f"{self._place(key)}[{index}]{called}", self._problems)

    def _get(self, key: str, default: object) -> object:
        self._asked.add(key)
        return self._values.get(key, default)

    def _place(self, key: str) -> str:
        return f"{self.where}: {key}" if self.where else key


def shown(value: object) -> str:
    """Return a value for people: short, however deep a document's aliases nest it."""
    brief = reprlib.Repr()
    brief.maxlevel, brief.maxlist, brief.maxdict, brief.maxstring = 2, 3, 3, 80
    return brief.repr(value)
