"""Policies from a YAML file: text in, policies or every mistake with its line out.

Owns the file's form; does not own when it is read. One law: a file is taken whole or not at all. An empty one is a
mistake, since half-written files look like that.

    policies:
      - source: 5d8a6f0e-0f0e-4f43-9c1d-6a3f0b7a4a51
        destination: 0f3b7c52-6c1c-4f0e-8f8e-1f8f4c0e7b11
        protocol: tcp          # or udp; tcp if left out
        ports: 5000            # or a range: 5000-5010
"""

from pathlib import Path

from router.config.document import DocumentError, Entry, Mapping, Node, Scalar, Sequence, decode, parse_document
from router.config.problems import ConfigError, Problem
from router.routing.access import TCP, UDP
from router.routing.internal_records import Policy
from router.routing.ports import parse_ports

FIELDS = ("source", "destination", "protocol", "ports")
MAX_ID_LENGTH = 255
"""Characters of an app GUID, as in the policy API."""


def read_policies(path: Path, contents: bytes) -> list[Policy]:
    """Return the policies of a file, in its order; one that is there twice comes once.

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
    policies = _Reader(problems).policies(root)
    if problems:
        raise ConfigError(path, sorted(problems, key=lambda problem: problem.line or 0))
    return list(dict.fromkeys(policies))


class _Reader:
    """Turns nodes into policies; lives for one file."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems

    def policies(self, root: Node | None) -> list[Policy]:
        if not isinstance(root, Mapping):
            self._problem("a list `policies` is needed; an empty one, `policies: []`, means none", "", root)
            return []
        self._check_keys(root, ("policies",), "")
        entry = root.entries.get("policies", Entry(root.line, root))
        if not isinstance(entry.node, Sequence):
            self._problem("a list is needed", "policies", entry.node)
            return []
        return [self._policy(node, f"policies[{index}]") for index, node in enumerate(entry.node.items)]

    def _policy(self, node: Node, key: str) -> Policy:
        """Return a policy; whatever of it is noted as a problem has no meaning."""
        if not isinstance(node, Mapping):
            self._problem("a mapping with source, destination and ports is needed", key, node)
            return Policy("", "", TCP, 1, 1)
        self._check_keys(node, FIELDS, f"{key}.")
        protocol = self._text(node, "protocol", key, TCP)
        if protocol not in (TCP, UDP):
            self._problem(f"tcp or udp is needed, not {protocol!r}", f"{key}.protocol", node)
        return Policy(
            self._id(node, "source", key), self._id(node, "destination", key), protocol, *self._ports(node, key)
        )

    def _id(self, node: Mapping, name: str, key: str) -> str:
        text = self._text(node, name, key)
        if text and (len(text) > MAX_ID_LENGTH or not text.isprintable()):
            self._problem(f"must be printable and at most {MAX_ID_LENGTH} characters", f"{key}.{name}", node)
        return text

    def _ports(self, node: Mapping, key: str) -> tuple[int, int]:
        text = self._text(node, "ports", key)
        try:
            return parse_ports(text) if text else (1, 1)
        except ValueError as error:
            self._problem(str(error), f"{key}.ports", node.entries["ports"].node)
            return 1, 1

    def _text(self, node: Mapping, name: str, key: str, default: str = "") -> str:
        """Return a field; a problem is noted if it is missing without a default, or is no text."""
        entry = node.entries.get(name)
        if entry is None:
            if not default:
                self._problem("is missing", f"{key}.{name}", node)
            return default
        if not isinstance(entry.node, Scalar) or not entry.node.text.strip():
            self._problem("a text is needed", f"{key}.{name}", entry.node)
            return default
        return entry.node.text

    def _check_keys(self, node: Mapping, known: tuple[str, ...], prefix: str) -> None:
        for name, entry in node.entries.items():
            if name not in known:
                text = f"unknown key; there are {', '.join(known)}"
                self._problems.append(Problem(text, f"{prefix}{name}", entry.line))

    def _problem(self, message: str, key: str, node: Node | None) -> None:
        self._problems.append(Problem(message, key, None if node is None else node.line))
