"""Pieces of a template to nodes (Go text/template's grammar).

Left out: ``define``, ``block`` and ``template``, since a page is one file, ``break`` and ``continue``, and numbers
that are no integers. Each of them is an error that says so.
"""

import re

from router.proxy.template.functions import FUNCTIONS
from router.proxy.template.lexer import Action, TemplateError, Text, Token, pieces
from router.proxy.template.nodes import (
    Assignment,
    Block,
    Call,
    Command,
    Constant,
    Dot,
    Expression,
    Field,
    If,
    Literal,
    Node,
    Output,
    Pipeline,
    Range,
    Variable,
    With,
)

_BLOCKS: dict[str, type[Block]] = {"if": If, "with": With, "range": Range}
_UNSUPPORTED = frozenset({"define", "block", "template", "break", "continue"})
_CONSTANTS = {"true": True, "false": False}
_INTEGER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[1-9][0-9_]*|0)")
_LONGEST_INTEGER = 20
_DEEPEST = 100


def parse(source: str, name: str) -> list[Node]:
    """Parse a template. Raises `TemplateError`."""
    return _Parser(source, name).page()


class _Parser:
    def __init__(self, source: str, name: str) -> None:
        self._name = name
        self._pieces = list(pieces(source, name))
        self._next = 0
        self._line = 1
        self._tokens: list[Token] = []
        self._place = 0
        self._variables = ["$"]
        self._depth = 0

    # Nodes.

    def page(self) -> list[Node]:
        nodes, ended = self._body()
        if ended:
            raise self._error(f"unexpected {{{{{ended}}}}}")
        return nodes

    def _body(self) -> tuple[list[Node], str]:
        """Read nodes to the next ``else`` or ``end``, or to the end of the text; return which."""
        nodes: list[Node] = []
        known = len(self._variables)
        while self._next < len(self._pieces):
            piece = self._pieces[self._next]
            self._next += 1
            if isinstance(piece, Text):
                nodes.append(Literal(piece.line, piece.text))
                continue
            self._open(piece)
            word = self._keyword()
            if word in ("else", "end"):
                del self._variables[known:]
                return nodes, word
            nodes.append(self._block(word) if word in _BLOCKS else self._statement())
        return nodes, ""

    def _open(self, action: Action) -> None:
        self._line, self._tokens, self._place = action.line, action.tokens, 0
        if not self._tokens:
            raise self._error("missing value for command")

    def _keyword(self) -> str:
        """Take a keyword, if the action begins with one."""
        token = self._peek()
        if token is None or token.kind != "word":
            return ""
        if token.text in _UNSUPPORTED:
            raise self._error(f"{{{{{token.text}}}}} is not supported in error pages")
        if token.text in _BLOCKS or token.text in ("else", "end"):
            self._place += 1
            self._skip_space()
            return token.text
        return ""

    def _block(self, word: str) -> Node:
        line, known = self._line, len(self._variables)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("too deeply nested")
        pipeline = self._pipeline(word)
        body, ended = self._body()
        otherwise: list[Node] = []
        if ended == "else":
            inner = self._keyword()
            if inner and (inner != word or inner == "range"):
                raise self._error(f"unexpected {{{{else {inner}}}}}")
            if inner:
                otherwise = [self._block(inner)]
                ended = "end"
            else:
                self._finish("else")
                otherwise, ended = self._body()
        if ended != "end":
            reason = (
                "unexpected {{else}}" if ended else f"unexpected EOF: {{{{{word}}}}} of line {line} has no end"
            )
            raise self._error(reason)
        self._finish("end")
        self._depth -= 1
        del self._variables[known:]
        return _BLOCKS[word](line, pipeline, body, otherwise)

    def _statement(self) -> Node:
        pipeline = self._pipeline("command")
        if pipeline.variables:
            return Assignment(self._line, pipeline)
        return Output(self._line, pipeline)

    def _finish(self, where: str) -> None:
        self._skip_space()
        token = self._peek()
        if token is not None:
            raise self._error(f"unexpected {token.text!r} in {where}")

    # Expressions.

    def _pipeline(self, where: str) -> Pipeline:
        """Read a pipeline to the end of the action, with the variables it is given to."""
        variables, declares = self._targets(where == "range")
        commands = self._commands(where)
        self._finish(where)
        if declares:
            self._variables += variables
        output = where == "command" and not variables
        for command in commands[:-1] if output else commands:
            self._check_escaper(command)
        return Pipeline(commands, variables, declares)

    def _check_escaper(self, command: Command) -> None:
        if command.first == Call("html"):
            raise self._error('predefined escaper "html" may only stand last in what is put out')

    def _targets(self, many: bool) -> tuple[list[str], bool]:
        """Take ``$x :=``, ``$x =`` or, in range, ``$key, $value :=`` if the pipeline begins with it."""
        start = self._place
        names: list[str] = []
        while (token := self._peek()) is not None and token.kind == "variable":
            names.append(token.text)
            self._place += 1
            self._skip_space()
            mark = self._peek()
            if mark is None or mark.kind != "symbol" or mark.text not in (":=", "=", ","):
                break
            self._place += 1
            self._skip_space()
            if mark.text != ",":
                return self._checked_targets(names, mark.text == ":=", many)
        self._place = start
        return [], False

    def _checked_targets(self, names: list[str], declares: bool, many: bool) -> tuple[list[str], bool]:
        if len(names) > (2 if many else 1):
            raise self._error("too many declarations")
        for name in names:
            if name == "$" or (not declares and name not in self._variables):
                raise self._error(f"undefined variable {name!r}" if name != "$" else "$ cannot be assigned")
        return names, declares

    def _commands(self, where: str) -> list[Command]:
        commands: list[Command] = []
        while True:
            self._skip_space()
            operands = self._operands()
            if not operands:
                raise self._error(f"missing value for {where}")
            if commands and not isinstance(operands[0], Call | Field):
                raise self._error(f"non executable command in pipeline stage {len(commands) + 1}")
            if isinstance(operands[0], Constant) and operands[0].constant is None:
                raise self._error("nil is not a command")
            commands.append(Command(operands[0], operands[1:]))
            if not self._take("|"):
                return commands

    def _operands(self) -> list[Expression]:
        operands: list[Expression] = []
        while (token := self._peek()) is not None and not (token.kind == "symbol" and token.text in "|)"):
            operand = self._operand()
            while (member := self._peek()) is not None and member.kind == "field":
                self._place += 1
                operand = Field(operand, member.text)
            operands.append(operand)
            after = self._peek()
            if after is not None and after.kind != "space" and not (after.kind == "symbol" and after.text in "|)"):
                raise self._error(f"unexpected {after.text!r} after an operand")
            self._skip_space()
        return operands

    def _operand(self) -> Expression:
        token = self._tokens[self._place]
        self._place += 1
        if token.kind == "string":
            return Constant(token.text)
        if token.kind == "char":
            return Constant(ord(token.text))
        if token.kind == "number":
            return Constant(self._number(token.text))
        if token.kind == "field":
            return Field(Dot(), token.text)
        if token.kind == "variable":
            if token.text not in self._variables:
                raise self._error(f"undefined variable {token.text!r}")
            return Variable(token.text)
        if token.kind == "word":
            return self._word(token.text)
        return self._symbol(token.text)

    def _number(self, text: str) -> int:
        if _INTEGER.fullmatch(text) is None or len(text) > _LONGEST_INTEGER:
            raise self._error(f"bad number syntax: {text!r}; only integers are supported")
        digits = text.lower().lstrip("+-")
        try:
            number = int(digits, 0) if digits[1:2] in tuple("xbo") else int(digits, 8 if digits[0] == "0" else 10)
        except ValueError:
            raise self._error(f"bad number syntax: {text!r}") from None
        return -number if text[0] == "-" else number

    def _word(self, word: str) -> Expression:
        if word in _CONSTANTS:
            return Constant(_CONSTANTS[word])
        if word == "nil":
            return Constant(None)
        if word not in FUNCTIONS:
            raise self._error(f"function {word!r} not defined")
        return Call(word)

    def _symbol(self, symbol: str) -> Expression:
        if symbol == ".":
            return Dot()
        if symbol != "(":
            raise self._error(f"unexpected {symbol!r} in an operand")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("too deeply nested")
        commands = self._commands("parenthesized pipeline")
        for command in commands:
            self._check_escaper(command)
        if not self._take(")"):
            raise self._error("unclosed left paren")
        self._depth -= 1
        return Pipeline(commands)

    # Tokens.

    def _peek(self) -> Token | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _take(self, symbol: str) -> bool:
        token = self._peek()
        if token is None or token.kind != "symbol" or token.text != symbol:
            return False
        self._place += 1
        return True

    def _skip_space(self) -> None:
        token = self._peek()
        if token is not None and token.kind == "space":
            self._place += 1

    def _error(self, reason: str) -> TemplateError:
        return TemplateError(self._name, self._line, reason)
