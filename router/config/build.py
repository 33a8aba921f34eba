"""Nodes to a `Config`: one walk over the schema, collecting every mistake on its way.

Owns how YAML values become typed ones, in the way Go's yaml.v3 does it; does not own the rules between settings
(`validate`). The schema itself is read with `msgspec.inspect`, so a key is written down in one place only.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NoReturn

from msgspec import NODEFAULT, inspect

from router.config.document import Mapping, Node, Scalar, Sequence, is_null
from router.config.durations import parse_duration
from router.config.problems import Problem
from router.config.schema import Config

MAX_VALUES = 1_000_000
"""Values one document may hold after its aliases are followed."""

_INTEGER = re.compile(r"[-+]?(0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+|[0-9]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TRUE = ("true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON")
_FALSE = ("false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF")
_BOOLEANS = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
_STRICT_BOOLEANS = {"true", "True", "TRUE", "false", "False", "FALSE"}


@dataclass(slots=True)
class Built:
    """A `Config` and where its values came from; the rules and notes are made from it."""

    config: Config = field(default_factory=Config)
    given: dict[str, Any] = field(default_factory=dict)
    """Key path to value as written, for every single setting of the file, whole lists counting as one."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Key path to default value, for the same settings."""
    lines: dict[str, int] = field(default_factory=dict)
    """Key path to line, sections and list items included."""
    unknown: dict[str, Collection[str]] = field(default_factory=dict)
    """Key path of each unknown key to the names its section does have."""
    problems: list[Problem] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)
    """Settings that hold their default because what was written is a mistake; no rule should judge them."""


class _Mistake(Exception):
    """A value that cannot be used; caught where the setting's default takes its place."""


class _TooManyValues(Exception):
    pass


def build(root: Node | None) -> Built:
    """Make the configuration a document describes.

    Mistakes end up in ``problems``, and the settings concerned keep their defaults; never raises for them.
    """
    built = Built()
    if root is None or is_null(root):
        return built
    if not isinstance(root, Mapping):
        problem = Problem(
            f"cannot unmarshal {_tag(root)} into config.Config: a mapping of keys is needed", line=root.line
        )
        built.problems.append(problem)
        return built
    try:
        built.config = _Builder(built).struct(inspect.type_info(Config), root, "")
    except _TooManyValues:
        built.problems.append(Problem("document contains excessive aliasing"))
    return built


class _Builder:
    """Walks schema and nodes side by side; lives for one document."""

    def __init__(self, built: Built) -> None:
        self._built = built
        self._values = 0

    def struct(self, kind: inspect.Type, node: Mapping, path: str) -> Any:
        assert isinstance(kind, inspect.StructType)
        fields = {known.encode_name: known for known in kind.fields}
        values: dict[str, Any] = {}
        for name, entry in node.entries.items():
            key = f"{path}.{name}" if path else name
            self._built.lines[key] = entry.line
            if name not in fields:
                self._built.unknown[key] = fields.keys()
            elif not is_null(entry.node):
                self._setting(fields[name], entry.node, key, values)
        return kind.cls(**values)

    def _setting(self, known: inspect.Field, node: Node, key: str, values: dict[str, Any]) -> None:
        default = known.default if known.default_factory is NODEFAULT else known.default_factory()
        try:
            values[known.name] = self._value(known.type, node, key)
        except _Mistake as mistake:
            # The line of the value, which for a block list is below the key's.
            self._built.problems.append(Problem(str(mistake), key, node.line))
            self._built.bad.add(key)
            return
        if not isinstance(known.type, inspect.StructType) and "[" not in key:
            self._built.given[key] = values[known.name]
            self._built.defaults[key] = default

    def _value(self, kind: inspect.Type, node: Node, key: str) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _TooManyValues
        extra = {}
        if isinstance(kind, inspect.Metadata):
            extra, kind = kind.extra or {}, kind.type
        if isinstance(kind, inspect.StructType):
            if not isinstance(node, Mapping):
                _refuse(node, f"config.{kind.cls.__name__}", "a mapping of keys is needed")
            return self.struct(kind, node, key)
        if isinstance(kind, inspect.ListType) and "separator" not in extra:
            return self._list(kind, node, key)
        return _scalar(kind, extra, node)

    def _list(self, kind: inspect.ListType, node: Node, key: str) -> list[Any]:
        go_type = f"[]{_go_name(kind.item_type)}"
        if not isinstance(node, Sequence):
            _refuse(node, go_type, "a list is needed")
        items = []
        for index, item in enumerate(node.items):
            path = f"{key}[{index}]"
            self._built.lines[path] = item.line
            try:
                if is_null(item):
                    raise _Mistake("empty list item")
                items.append(self._value(kind.item_type, item, path))
            except _Mistake as mistake:
                self._built.problems.append(Problem(str(mistake), path, item.line))
                self._built.bad.update((path, key))
        return items


def _scalar(kind: inspect.Type, extra: dict[str, Any], node: Node) -> Any:
    go_type = extra.get("go") or _go_name(kind)
    if not isinstance(node, Scalar) or node.tag not in ("", "!!str", "!!int", "!!float", "!!bool"):
        _refuse(node, go_type)
    if go_type == "time.Duration":
        return _duration(kind, node)
    if "separator" in extra:
        return [part for part in node.text.split(extra["separator"]) if part]
    return _READERS[type(kind)](kind, go_type, node)


def _string(_kind: inspect.Type, _go_type: str, node: Scalar) -> str:
    # yaml.v3 gives a number or a boolean to a string key as it is written: trace_key: 22.
    return node.text


def _boolean(_kind: inspect.Type, go_type: str, node: Scalar) -> bool:
    value = _BOOLEANS.get(node.text) if node.plain or node.tag == "!!bool" else None
    if value is None:
        _refuse(node, go_type)
    return value


def _integer(kind: inspect.Type, go_type: str, node: Scalar) -> int:
    assert isinstance(kind, inspect.IntType)
    # Tools that know one kind of number alone write 3.0, which yaml.v3 takes for 3.
    whole = _tag(node) == "!!float" and float(node.text.replace("_", "")).is_integer()
    if _tag(node) != "!!int" and not whole:
        _refuse(node, go_type)
    number = int(float(node.text.replace("_", ""))) if whole else _parse_integer(node.text)
    low, high = kind.ge or 0, kind.le or 0
    if number is None or not low <= number <= high:
        name = "uint" if low == 0 and go_type == "int" else go_type
        _refuse(node, name, f"{low} to {high} is allowed")
    return number


def _parse_integer(text: str) -> int | None:
    digits = text.replace("_", "")
    if len(digits) > 70:
        return None
    # yaml.v3 still reads a leading zero as octal.
    octal = re.fullmatch(r"[-+]?0[0-7]+", digits)
    try:
        return int(digits, 8) if octal else int(digits, 0)
    except ValueError:
        return None


def _float(_kind: inspect.Type, go_type: str, node: Scalar) -> float:
    if _tag(node) not in ("!!int", "!!float"):
        _refuse(node, go_type)
    return float(node.text.replace("_", ""))


def _duration(kind: inspect.Type, node: Scalar) -> float:
    assert isinstance(kind, inspect.FloatType)
    if _tag(node) != "!!str":
        hint = f'write it with a unit, for example "{node.text}s"' if _tag(node) == "!!int" else ""
        _refuse(node, "time.Duration", hint)
    try:
        seconds = parse_duration(node.text)
    except ValueError:
        _refuse(node, "time.Duration", 'a duration looks like "30s", "1m30s" or "500ms"')
    if kind.ge is not None and seconds < kind.ge:
        raise _Mistake(f"negative duration: {node.text}")
    return seconds


_READERS: dict[type[inspect.Type], Callable[[inspect.Type, str, Scalar], Any]] = {
    inspect.StrType: _string,
    inspect.BoolType: _boolean,
    inspect.IntType: _integer,
    inspect.FloatType: _float,
}

_GO_NAMES: dict[type[inspect.Type], str] = {
    inspect.StrType: "string",
    inspect.BoolType: "bool",
    inspect.IntType: "int",
    inspect.FloatType: "float64",
}


def _go_name(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.StructType):
        return f"config.{kind.cls.__name__}"
    if isinstance(kind, inspect.Metadata):
        return str((kind.extra or {}).get("go") or _go_name(kind.type))
    return _GO_NAMES[type(kind)]


def _tag(node: Node) -> str:
    """Say what a value is, as YAML 1.2 with yaml.v3's liberties sees it."""
    if isinstance(node, Mapping):
        return "!!map"
    if isinstance(node, Sequence):
        return "!!seq"
    if node.tag or not node.plain:
        return node.tag or "!!str"
    text = node.text.replace("_", "")
    if text in _STRICT_BOOLEANS:
        return "!!bool"
    if _INTEGER.fullmatch(text):
        return "!!int"
    return "!!float" if _FLOAT.fullmatch(text) else "!!str"


def _refuse(node: Node, go_type: str, hint: str = "") -> NoReturn:
    """Raise the mistake in yaml.v3's words, with the value, as far as it is short, and what would be right."""
    message = f"cannot unmarshal {_tag(node)} into {go_type}"
    if isinstance(node, Scalar):
        # A long text is likely to be a key or a certificate pasted into the wrong place.
        shown = node.text if len(node.text) <= 20 else node.text[:10] + "..."
        message += f": `{shown.replace(chr(10), ' ')}`"
    raise _Mistake(f"{message}; {hint}" if hint else message)
