"""YAML text to plain Python values, for files whose keys are not Gorouter's: routes to announce, `router docker`.

Owns which values scalars stand for; does not own syntax (`document`, whose law holds here too: the work is bounded
by the size of the text). Differs from PyYAML's own loader where that surprises: a date, ``010`` and ``22:22`` stay
text.
"""

import re

from router.config.document import Mapping, Node, Report, Scalar, Sequence, is_null, parse_document
from router.config.problems import Problem

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,30})\Z")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,30}\.[0-9]{0,30}|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,3})?\Z")


def parse_values(text: str, report: Report) -> object:
    """Return what the first document of the text holds, None if there is none.

    A list or mapping that is aliased is one object in all its places.

    Args:
        report: called for each mistake that does not stop the reading: keys that are there twice or are no names,
            tags, a second document.

    Raises:
        DocumentError: the text is not YAML or needs too much work.
    """
    root = parse_document(text, report, report)
    return None if root is None else _Values(report).value(root)


class _Values:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._made: dict[int, object] = {}

    def value(self, node: Node) -> object:
        if isinstance(node, Scalar):
            return self._scalar(node)
        # By identity: an alias is the node it stands for, and must not be followed more than once.
        if id(node) not in self._made:
            self._made[id(node)] = self._collection(node)
        return self._made[id(node)]

    def _collection(self, node: Mapping | Sequence) -> object:
        if isinstance(node, Sequence):
            return [self.value(item) for item in node.items]
        return {name: self.value(entry.node) for name, entry in node.entries.items()}

    def _scalar(self, node: Scalar) -> object:
        if is_null(node):
            return None
        if node.tag not in ("", "!!str"):
            self._report(Problem(f"tag {node.tag[:40]} is not allowed here", line=node.line))
        return node.text if node.tag or not node.plain else _plain(node.text)


def _plain(text: str) -> object:
    if text in (text.lower(), text.title(), text.upper()) and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if _INTEGER.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text
