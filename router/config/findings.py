"""Where the rules put what they find, with the right line, and silence where a finding would only be an echo."""

import re
from collections.abc import Iterator

from router.config.build import Built
from router.config.problems import Problem


class Findings:
    """Errors and warnings about one document; lives for one loading."""

    def __init__(self, built: Built) -> None:
        self._built = built
        self.errors: list[Problem] = list(built.problems)
        self.warnings: list[Problem] = []

    def error(self, key: str, message: str, *because: str) -> None:
        """Record an error, unless one of the settings involved is already known to be wrong.

        Args:
            key: the setting to correct; it need not be in the file.
            because: the settings that make it wrong. The first one in the file lends its line if ``key`` is not.
        """
        if not self._doubtful(key, *because):
            self.errors.append(Problem(message, key, self._line(key, *because)))

    def warn(self, key: str, message: str, *because: str) -> None:
        """Record a warning, on the same terms."""
        if not self._doubtful(key, *because):
            self.warnings.append(Problem(message, key, self._line(key, *because)))

    def _doubtful(self, *keys: str) -> bool:
        return any(part in self._built.bad for key in keys for part in _with_parents(key))

    def _line(self, *keys: str) -> int | None:
        lines = self._built.lines
        exact = (lines[key] for key in keys if key in lines)
        near = (lines[part] for key in keys for part in _with_parents(key) if part in lines)
        return next(exact, next(near, None))


def _with_parents(key: str) -> Iterator[str]:
    """Yield ``a.b[0].c``, ``a.b[0]``, ``a.b``, ``a``."""
    while key:
        yield key
        key = re.sub(r"(\.?[^.\[\]]+|\[\d+\])$", "", key)
