"""Template text to pieces: literal text, and actions as tokens (Go text/template's lexical grammar)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BLANK = " \t\r\n"
_COMMENT_END = re.compile(r"\*/(?:([ \t\r\n]-)?\}\})?")
_TOKEN = re.compile(
    r"""(?P<end>(?P<trim>[ \t\r\n]+-)?\}\})
    |(?P<space>[ \t\r\n]+)
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<raw>`[^`]*`)
    |(?P<char>'(?:[^'\\\n]|\\.[^'\n]*)')
    |(?P<number>[+-]?[0-9][\w.]*)
    |(?P<field>\.[^\W\d]\w*)
    |(?P<variable>\$\w*)
    |(?P<word>[^\W\d]\w*)
    |(?P<symbol>:=|[=|(),.])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"'])|x([0-9A-Fa-f]{2})|([0-7]{3})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.|$))"
)
_SHORT = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class TemplateError(Exception):
    """The template cannot be parsed, or does not work.

    Attributes:
        line: counted from 1.
        reason: what is wrong there.
    """

    def __init__(self, name: str, line: int, reason: str) -> None:
        super().__init__(f"template: {name}:{line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Token:
    """A word of an action.

    Attributes:
        kind: ``space``, ``string``, ``char``, ``number``, ``field``, ``variable``, ``word`` or ``symbol``.
        text: as written; of strings what they stand for, of fields the name.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text, trimmed as the actions beside it ask."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """What stands between ``{{`` and ``}}``, without spaces around it."""

    line: int
    tokens: list[Token]


def pieces(source: str, name: str) -> Iterator[Text | Action]:
    """Split a template. Raises `TemplateError`."""
    return _Lexer(source, name).pieces()


class _Lexer:
    def __init__(self, source: str, name: str) -> None:
        self._source = source
        self._name = name
        self._position = 0
        self._trims = False

    def pieces(self) -> Iterator[Text | Action]:
        source = self._source
        while True:
            line = self._line()
            start = source.find("{{", self._position)
            text = source[self._position : start if start >= 0 else len(source)]
            if self._trims:
                text = text.lstrip(_BLANK)
            inside = start + 2
            if start >= 0 and source[inside : inside + 1] == "-" and source[inside + 1 : inside + 2].strip() == "":
                text = text.rstrip(_BLANK)
                inside += 2
            if text:
                yield Text(line, text)
            if start < 0:
                return
            self._position = inside
            line = self._line()
            if source.startswith("/*", inside):
                self._skip_comment()
            else:
                yield Action(line, self._tokens())

    def _line(self) -> int:
        return self._source.count("\n", 0, self._position) + 1

    def _skip_comment(self) -> None:
        match = _COMMENT_END.search(self._source, self._position + 2)
        if match is None:
            raise self._error("unclosed comment")
        if not match[0].endswith("}}"):
            raise self._error("comment ends before closing delimiter")
        self._trims = match[1] is not None
        self._position = match.end()

    def _tokens(self) -> list[Token]:
        tokens: list[Token] = []
        opened = self._position
        while True:
            match = _TOKEN.match(self._source, self._position)
            if match is None:
                raise self._unreadable(opened)
            kind = match.lastgroup or ""
            if match["end"] is not None:
                self._trims = match["trim"] is not None
                self._position = match.end()
                return tokens[:-1] if tokens and tokens[-1].kind == "space" else tokens
            if kind != "space" or tokens:
                tokens.append(self._token(kind, match[0]))
            self._position = match.end()

    def _token(self, kind: str, text: str) -> Token:
        if kind == "raw":
            return Token("string", text[1:-1])
        if kind in ("string", "char"):
            value = self._unescaped(text[1:-1], octets=kind == "string")
            if kind == "char" and len(value) != 1:
                raise self._error(f"malformed character constant: {text}")
            return Token(kind, value)
        return Token(kind, text[1:] if kind == "field" else text)

    def _unescaped(self, text: str, *, octets: bool) -> str:
        def replaced(match: re.Match[str]) -> str:
            short, hexadecimal, octal, four, eight, other = match.groups()
            if other is not None:
                raise self._error(f"invalid escape \\{other} in a string")
            if short is not None:
                return _SHORT.get(short, short)
            code = int(octal, 8) if octal is not None else int(hexadecimal or four or eight, 16)
            one = octal is not None or hexadecimal is not None
            if code > (0xFF if one else 0x10FFFF) or 0xD800 <= code <= 0xDFFF:
                raise self._error(f"invalid character {match[0]} in a string")
            # In a string these two stand for a byte and not for a character.
            return chr(code + 0xDC00 if one and octets and code > 0x7F else code)

        return _ESCAPE.sub(replaced, text)

    def _unreadable(self, opened: int) -> TemplateError:
        found = self._source[self._position : self._position + 1]
        if not found:
            self._position = opened
            return self._error("unclosed action")
        if found in "\"'`":
            return self._error("unterminated quoted string")
        if found == "{":
            return self._error("unexpected {{ in an action")
        return self._error(f"unexpected {found!r} in an action")

    def _error(self, reason: str) -> TemplateError:
        return TemplateError(self._name, self._line(), reason)
