"""A YAML file with one list: text in, its items or every mistake with its line out.

Owns the frame of such a file; does not own what an item is. One law: a file is taken whole or not at all. An empty
one is a mistake, since half-written files look like that.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

from router.config.document import DocumentError, Entry, Mapping, Node, Sequence, decode, parse_document
from router.config.problems import ConfigError, Problem, in_file_order

Item = TypeVar("Item")


class ListFile(ABC, Generic[Item]):
    """Reads one file; lives as long as that takes.

    Args:
        name: the one key of the file, under which the list is.
        fields: the keys an item may have.
        needed: what an item is, for whoever wrote something else.
    """

    def __init__(self, name: str, fields: tuple[str, ...], needed: str) -> None:
        self._name = name
        self._fields = fields
        self._needed = needed
        self._problems: list[Problem] = []

    def read(self, path: Path, contents: bytes) -> list[Item]:
        """Return the items in their order.

        Args:
            path: named in the error.

        Raises:
            ConfigError: with every mistake; nothing of the file may be used.
        """
        try:
            root = parse_document(decode(contents), self._problems.append, self._problems.append)
        except DocumentError as error:
            raise ConfigError(path, [error.problem]) from None
        found = [self._item(node, f"{self._name}[{index}]") for index, node in enumerate(self._nodes(root))]
        if self._problems:
            raise ConfigError(path, in_file_order(self._problems))
        return [item for item in found if item is not None]

    @abstractmethod
    def item(self, node: Mapping, key: str) -> Item | None:
        """Return an item; where `problem` was called, what is returned has no meaning.

        Args:
            node: keys that are not fields are told already, and to be passed over.
            key: the item's key path.
        """

    def problem(self, message: str, key: str, line: int | None) -> None:
        """Take note of a mistake."""
        self._problems.append(Problem(message, key, line))

    def _nodes(self, root: Node | None) -> list[Node]:
        name = self._name
        if not isinstance(root, Mapping):
            line = None if root is None else root.line
            self.problem(f"a list `{name}` is needed; an empty one, `{name}: []`, means none", "", line)
            return []
        self._check_keys(root, (name,), "")
        node = root.entries.get(name, Entry(root.line, root)).node
        if not isinstance(node, Sequence):
            self.problem("a list is needed", name, node.line)
            return []
        return node.items

    def _item(self, node: Node, key: str) -> Item | None:
        if not isinstance(node, Mapping):
            self.problem(f"a mapping with {self._needed} is needed", key, node.line)
            return None
        self._check_keys(node, self._fields, f"{key}.")
        return self.item(node, key)

    def _check_keys(self, node: Mapping, known: tuple[str, ...], prefix: str) -> None:
        for name, entry in node.entries.items():
            if name not in known:
                self.problem(f"unknown key; there are {', '.join(known)}", f"{prefix}{name}", entry.line)
