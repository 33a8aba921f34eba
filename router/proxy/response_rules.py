"""``http_rewrite``: response header lines an operator wants away or added (GOROUTER.md §5.5)."""

import re

from router.wire.header_lines import line_name

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FRAMING = frozenset({"connection", "content-length", "keep-alive", "trailer", "transfer-encoding", "upgrade"})
"""What says where a message ends is written by the frontend alone; a second say would let messages be cut
differently by different readers."""
_LINE_ENDS = str.maketrans("\r\n", "  ")


class ResponseRules:
    """Rules for the lines of one response: first remove, then add what is not there.

    Args:
        add: names and values. All values of a name are added if the response has none of that name.
        remove: names, in any case.

    Raises:
        ValueError: a name to add is no header name, or is one that frames the message.
    """

    __slots__ = ("_added", "_mentioned", "_removed")

    def __init__(self, add: list[tuple[str, str]], remove: list[str]) -> None:
        self._removed = frozenset(name.lower().encode() for name in remove)
        self._added: dict[bytes, list[bytes]] = {}
        for name, value in add:
            self._added.setdefault(_checked(name).lower().encode(), []).append(_line(name, value))
        self._mentioned = self._removed | self._added.keys()

    def apply(self, lines: list[bytes]) -> list[bytes]:
        """Return the lines as the client gets them."""
        kept = []
        present = set()
        for line in lines:
            name = line_name(line)
            if name in self._mentioned:
                if name in self._removed:
                    continue
                present.add(name)
            kept.append(line)
        for name, added in self._added.items():
            if name not in present:
                kept += added
        return kept


def _checked(name: str) -> str:
    key = "http_rewrite.responses.add_headers_if_not_present"
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{key}: {name!r} is not a header name")
    if name.lower() in _FRAMING:
        raise ValueError(f"{key}: {name!r} frames the message and is the router's to write")
    return name


def _line(name: str, value: str) -> bytes:
    return f"{name}: {value.translate(_LINE_ENDS).strip()}".encode()
