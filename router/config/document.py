"""YAML text to a tree of nodes that know their lines: all of YAML that a configuration needs.

Owns syntax: documents, aliases, merge keys, duplicate keys; does not own what the values mean (`build`). One law:
the work is bounded by the size of the text. Nesting is limited, an alias is a reference and never a copy, and
merging has a budget. The parser's events are used, not PyYAML's own composer: that one recurses in C and dies
of a few thousand open brackets.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import yaml

from router.config.problems import Problem

MAX_DEPTH = 64
MAX_MERGED_ENTRIES = 100_000
"""Entries all merge keys of a document may copy together."""

_PREFIX = "tag:yaml.org,2002:"
_NULL = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Scalar:
    text: str
    line: int
    plain: bool
    """Written without quotes, so that ``80`` is a number and ``~`` is null."""
    tag: str = ""
    """An explicit tag in its short form, e.g. ``!!str``."""


@dataclass(frozen=True, slots=True)
class Sequence:
    items: list["Node"]
    line: int


@dataclass(frozen=True, slots=True)
class Entry:
    line: int
    """Line of the key."""
    node: "Node"


@dataclass(frozen=True, slots=True)
class Mapping:
    entries: dict[str, Entry]
    line: int


Node = Scalar | Sequence | Mapping
Report = Callable[[Problem], None]


def is_null(node: Node) -> bool:
    """Whether it stands for no value at all."""
    return isinstance(node, Scalar) and (node.tag == "!!null" or (node.plain and node.text in _NULL))


class DocumentError(Exception):
    """The text is not YAML; reading could not go on. Carries the one problem."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(message, line=line)


def decode(raw: bytes) -> str:
    """Decode the file's bytes, UTF-8 with or without a byte order mark.

    Raises:
        DocumentError: with the line of the first byte that is not UTF-8.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DocumentError(f"not UTF-8: byte 0x{raw[error.start]:02x}", line) from None


def parse_document(text: str, error: Report, warn: Report) -> Node | None:
    """Return the first document of the text as nodes, None if there is none.

    Args:
        error: called for each mistake that does not stop the reading, i.e. duplicate and unusable keys.
        warn: called when the text goes on after the first document, the rest of which is ignored.

    Raises:
        DocumentError: the text is not YAML or needs too much work.
    """
    try:
        return _Composer(text, error).compose(warn)
    except yaml.reader.ReaderError as fault:
        line = _line_of_position(text, fault.position)
        raise DocumentError(f"character #x{_code(fault.character):04x} is not allowed in YAML", line) from None
    except yaml.MarkedYAMLError as fault:
        raise DocumentError(_explain(text, fault), _mark_line(fault)) from None


def _code(character: object) -> int:
    return character if isinstance(character, int) else ord(str(character))


def _line_of_position(text: str, position: int) -> int:
    # libyaml counts bytes; a control character is never part of a longer one, so decoding may lose the tail.
    return text.encode()[:position].count(b"\n") + 1


def _mark_line(fault: yaml.MarkedYAMLError) -> int | None:
    mark = fault.problem_mark or fault.context_mark
    return mark.line + 1 if mark else None


def _explain(text: str, fault: yaml.MarkedYAMLError) -> str:
    """Say what libyaml found, and what it means where its words do not help."""
    message = ", ".join(part for part in (fault.context, fault.problem) if part)
    mark = fault.problem_mark
    lines = text.split("\n")
    if mark and mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1]:
        return f"{message}; a tab cannot be used for indentation"
    return message


class _Composer:
    """Turns the parser's events into nodes; lives for one text."""

    def __init__(self, text: str, error: Report) -> None:
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=yaml.CBaseLoader))
        self._error = error
        self._anchors: dict[str, Node] = {}
        self._merged = 0

    def compose(self, warn: Report) -> Node | None:
        root = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                root = self._node(next(self._events), 0, "")
                break
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                warn(Problem("a second document begins here; it is ignored", line=_line(event)))
                break
        return root

    def _node(self, event: yaml.Event, depth: int, path: str) -> Node:
        if depth > MAX_DEPTH:
            raise DocumentError(f"nested deeper than {MAX_DEPTH} levels", _line(event))
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, depth + 1, path)
        else:
            node = self._mapping(event, depth + 1, path)
        # Only now, so that a node which contains itself cannot be written.
        if anchor := getattr(event, "anchor", None):
            self._anchors[anchor] = node
        return node

    def _aliased(self, event: yaml.AliasEvent) -> Node:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            raise DocumentError(f"unknown anchor '{event.anchor}' referenced", _line(event))
        return node

    def _sequence(self, start: yaml.Event, depth: int, path: str) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth, f"{path}[{len(items)}]"))
        return Sequence(items, _line(start))

    def _mapping(self, start: yaml.Event, depth: int, path: str) -> Mapping:
        entries: dict[str, Entry] = {}
        merges: list[Entry] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, line = self._node(event, depth, path), _line(event)
            name = key.text if isinstance(key, Scalar) else "?"
            key_path = f"{path}.{name}" if path else name
            entry = Entry(line, self._node(next(self._events), depth, key_path))
            if not isinstance(key, Scalar):
                self._error(Problem("a mapping key must be a plain name", path, line))
            elif name == "<<" and key.plain:
                merges.append(entry)
            elif name in entries:
                first = entries[name].line
                self._error(Problem(f'mapping key "{name}" already defined at line {first}', key_path, line))
            else:
                entries[name] = entry
        for merge in merges:
            self._merge(entries, merge, path)
        return Mapping(entries, _line(start))

    def _merge(self, entries: dict[str, Entry], merge: Entry, path: str) -> None:
        sources = merge.node.items if isinstance(merge.node, Sequence) else [merge.node]
        for source in sources:
            if not isinstance(source, Mapping):
                self._error(Problem("map merge requires map or sequence of maps as the value", path, merge.line))
                return
            self._merged += len(source.entries)
            if self._merged > MAX_MERGED_ENTRIES:
                raise DocumentError("document contains excessive aliasing", merge.line)
            for name, entry in source.entries.items():
                entries.setdefault(name, entry)


def _scalar(event: yaml.ScalarEvent) -> Scalar:
    tag = (event.tag or "").replace(_PREFIX, "!!")
    return Scalar(event.value, _line(event), plain=event.implicit[0] and event.style in (None, ""), tag=tag)


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.line + 1
