"""Identities from a YAML file: text in, workloads or every mistake with its line out.

Owns the form of an item, which is that of the messages on NATS with YAML's punctuation; does not own when the file
is read. One law: an address is in it once.

    workloads:
      - ip: 10.255.1.2
        app: 5d8a6f0e-0f0e-4f43-9c1d-6a3f0b7a4a51
        ports: [5000]
"""

import re
from pathlib import Path

import msgspec

from router.config.document import Mapping, Node, Scalar, Sequence, is_null
from router.config.list_file import ListFile
from router.wire.identities import IdentityError, Workload, checked

_FIELDS = Workload.__struct_encode_fields__
_FIELD = re.compile(r" - at `\$\.?(\w*).*`\Z")


def read_workloads(path: Path, contents: bytes) -> list[Workload]:
    """Return the workloads of a file.

    Args:
        path: named in the error.

    Raises:
        ConfigError: with every mistake; nothing of the file may be used.
    """
    return _IdentityFile().read(path, contents)


class _IdentityFile(ListFile[Workload]):
    def __init__(self) -> None:
        super().__init__("workloads", _FIELDS, "ip and app")
        self._lines: dict[str, int] = {}
        """By address, where it was first."""

    def item(self, node: Mapping, key: str) -> Workload | None:
        values = {name: _plain(entry.node) for name, entry in node.entries.items() if name in _FIELDS}
        try:
            workload = checked(msgspec.convert(_without_nulls(values), Workload, strict=False))
        except IdentityError as error:
            # The address is all that is checked beyond types.
            self.problem(str(error).removeprefix("ip: "), f"{key}.ip", node.entries["ip"].line)
            return None
        except msgspec.ValidationError as error:
            self._invalid(str(error), key, node)
            return None
        if workload.ip in self._lines:
            self.problem(f"{workload.ip} is in line {self._lines[workload.ip]} already", key, node.line)
        self._lines.setdefault(workload.ip, node.line)
        return workload

    def _invalid(self, text: str, key: str, node: Mapping) -> None:
        """Move the place a message ends with to where a problem has it."""
        place = _FIELD.search(text)
        name = place[1] if place else ""
        entry = node.entries.get(name)
        line = node.line if entry is None else entry.line
        self.problem(_FIELD.sub("", text), f"{key}.{name}" if name else key, line)


def _plain(node: Node) -> object:
    if isinstance(node, Scalar):
        return None if is_null(node) else node.text
    if isinstance(node, Sequence):
        return [_plain(item) for item in node.items]
    return {name: _plain(entry.node) for name, entry in node.entries.items()}


def _without_nulls(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
