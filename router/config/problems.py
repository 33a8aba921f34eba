"""What can be wrong with a configuration, and how it is told."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple


class Problem(NamedTuple):
    """One finding in a configuration file: an error, or a warning of the same shape."""

    message: str
    """Gorouter's own text wherever it has one; empty if the key says it all."""
    key: str = ""
    """Key path such as ``tls_pem[0].cert_chain``; empty if the file as a whole is meant."""
    line: int | None = None
    """Line in the file, from 1; None if there is none to point at."""

    def located(self, path: Path) -> str:
        """``FILE:LINE: key.path: message``, the form compilers use and editors jump to."""
        place = f"{path}:{self.line}" if self.line else str(path)
        return ": ".join(part for part in (place, self.key, self.message) if part)

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.key, f"line {self.line}" if self.line else "") if part)
        return f"{self.message} ({place})" if place else self.message


def in_file_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sort by line; those that have none, and so concern the file as a whole, come first."""
    return sorted(problems, key=lambda problem: problem.line or 0)


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` holds every reason, in file order."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        super().__init__(path, problems)
        self.path = path
        self.problems = list(problems)

    def __str__(self) -> str:
        count = len(self.problems)
        head = f"{self.path}: " if count == 1 else f"{self.path}: {count} problems: "
        return head + "; ".join(str(problem) for problem in self.problems)
