"""Policies from a YAML file: text in, policies or every mistake with its line out.

Owns the form of an item; does not own when the file is read.

    policies:
      - source: 5d8a6f0e-0f0e-4f43-9c1d-6a3f0b7a4a51
        destination: 0f3b7c52-6c1c-4f0e-8f8e-1f8f4c0e7b11
        protocol: tcp          # or udp; tcp if left out
        ports: 5000            # or a range: 5000-5010
"""

from pathlib import Path

from router.config.document import Mapping, Scalar
from router.config.list_file import ListFile
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
    return list(dict.fromkeys(_PolicyFile().read(path, contents)))


class _PolicyFile(ListFile[Policy]):
    def __init__(self) -> None:
        super().__init__("policies", FIELDS, "source, destination and ports")

    def item(self, node: Mapping, key: str) -> Policy:
        protocol = self._text(node, "protocol", key, TCP)
        if protocol not in (TCP, UDP):
            self.problem(f"tcp or udp is needed, not {protocol!r}", f"{key}.protocol", node.line)
        return Policy(
            self._id(node, "source", key), self._id(node, "destination", key), protocol, *self._ports(node, key)
        )

    def _id(self, node: Mapping, name: str, key: str) -> str:
        text = self._text(node, name, key)
        if text and (len(text) > MAX_ID_LENGTH or not text.isprintable()):
            self.problem(f"must be printable and at most {MAX_ID_LENGTH} characters", f"{key}.{name}", node.line)
        return text

    def _ports(self, node: Mapping, key: str) -> tuple[int, int]:
        text = self._text(node, "ports", key)
        try:
            return parse_ports(text) if text else (1, 1)
        except ValueError as error:
            self.problem(str(error), f"{key}.ports", node.entries["ports"].node.line)
            return 1, 1

    def _text(self, node: Mapping, name: str, key: str, default: str = "") -> str:
        """Return a field; a problem is noted if it is missing without a default, or is no text."""
        entry = node.entries.get(name)
        if entry is None:
            if not default:
                self.problem("is missing", f"{key}.{name}", node.line)
            return default
        if not isinstance(entry.node, Scalar) or not entry.node.text.strip():
            self.problem("a text is needed", f"{key}.{name}", entry.node.line)
            return default
        return entry.node.text
