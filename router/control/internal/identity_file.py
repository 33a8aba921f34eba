"""Identities from a YAML file: text in, workloads or every mistake with its line out.

Owns the file's form, which is that of the messages on NATS with YAML's punctuation; does not own when it is read.
One law: a file is taken whole or not at all. An empty one is a mistake, since half-written files look like that.

    workloads:
      - ip: 10.255.1.2
        app: 5d8a6f0e-0f0e-4f43-9c1d-6a3f0b7a4a51
        ports: [5000]
"""

import re
from pathlib import Path

import msgspec

from router.config.document import DocumentError, Entry, Mapping, Node, Scalar, Sequence, decode, parse_document
from router.config.problems import ConfigError, Problem
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
    problems: list[Problem] = []
    try:
        root = parse_document(decode(contents), problems.append, problems.append)
    except DocumentError as error:
        raise ConfigError(path, [error.problem]) from None
    workloads = _Reader(problems).workloads(root)
    if problems:
        raise ConfigError(path, sorted(problems, key=lambda problem: problem.line or 0))
    return workloads


class _Reader:
    """Turns nodes into workloads; lives for one file."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self._lines: dict[str, int] = {}
        """By address, where it was first."""

    def workloads(self, root: Node | None) -> list[Workload]:
        if not isinstance(root, Mapping):
            self._problem("a list `workloads` is needed; an empty one, `workloads: []`, means none", "", root)
            return []
        for name, entry in root.entries.items():
            if name != "workloads":
                self._problems.append(Problem("unknown key", name, entry.line))
        entry = root.entries.get("workloads", Entry(root.line, root))
        if not isinstance(entry.node, Sequence):
            self._problem("a list is needed", "workloads", entry.node)
            return []
        found = [self._workload(node, f"workloads[{number}]") for number, node in enumerate(entry.node.items)]
        return [workload for workload in found if workload is not None]

    def _workload(self, node: Node, key: str) -> Workload | None:
        if not isinstance(node, Mapping):
            self._problem("a mapping with ip and app is needed", key, node)
            return None
        for name, entry in node.entries.items():
            if name not in _FIELDS:
                self._problems.append(
                    Problem(f"unknown key; there are {', '.join(_FIELDS)}", f"{key}.{name}", entry.line)
                )
        values = {name: _plain(entry.node) for name, entry in node.entries.items() if name in _FIELDS}
        try:
            workload = checked(msgspec.convert(_without_nulls(values), Workload, strict=False))
        except IdentityError as error:
            # The address is all that is checked beyond types.
            problem = Problem(str(error).removeprefix("ip: "), f"{key}.ip", node.entries["ip"].line)
            self._problems.append(problem)
            return None
        except msgspec.ValidationError as error:
            self._problems.append(_located(error, key, node))
            return None
        return self._first(workload, key, node)

    def _first(self, workload: Workload, key: str, node: Node) -> Workload | None:
        line = self._lines.setdefault(workload.ip, node.line)
        if line != node.line:
            self._problem(f"{workload.ip} is in line {line} already", key, node)
            return None
        return workload

    def _problem(self, message: str, key: str, node: Node | None) -> None:
        self._problems.append(Problem(message, key, None if node is None else node.line))


def _located(error: msgspec.ValidationError, key: str, node: Mapping) -> Problem:
    """Move the place a message ends with to where a problem has it."""
    text = str(error)
    place = _FIELD.search(text)
    name = place[1] if place else ""
    entry = node.entries.get(name)
    message = _FIELD.sub("", text)
    return Problem(message, f"{key}.{name}" if name else key, node.line if entry is None else entry.line)


def _plain(node: Node) -> object:
    if isinstance(node, Scalar):
        return None if node.plain and node.text in ("", "~", "null", "Null", "NULL") else node.text
    if isinstance(node, Sequence):
        return [_plain(item) for item in node.items]
    return {name: _plain(entry.node) for name, entry in node.entries.items()}


def _without_nulls(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
