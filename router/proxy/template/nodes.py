"""A parsed template: expressions that have a value, and nodes that write text."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from router.proxy.template import functions
from router.proxy.template.values import METHODS, Header, RenderError, Value, is_true, type_name
from router.proxy.template.values import field as member
from router.proxy.template.values import method as call_method


class Scope:
    """Dot and variables while a template runs; ``$`` is the error the page is about."""

    __slots__ = ("dot", "variables")

    def __init__(self, root: Value) -> None:
        self.dot = root
        self.variables: list[tuple[str, Value]] = [("$", root)]

    def lookup(self, name: str) -> Value:
        return self.variables[self._place(name)][1]

    def assign(self, name: str, value: Value) -> None:
        self.variables[self._place(name)] = (name, value)

    def _place(self, name: str) -> int:
        for place in range(len(self.variables) - 1, -1, -1):
            if self.variables[place][0] == name:
                return place
        raise RenderError(f"undefined variable: {name}")


class Expression(ABC):
    """Something with a value. Operands come after it in its command, the piped value last."""

    __slots__ = ()

    @abstractmethod
    def value(self, scope: Scope, operands: list["Expression"], piped: list[Value]) -> Value:
        """Return it. Raises `RenderError`."""


def _evaluated(scope: Scope, operands: list[Expression], piped: list[Value]) -> list[Value]:
    return [operand.value(scope, [], []) for operand in operands] + piped


def _refuse(what: str, operands: list[Expression], piped: list[Value]) -> None:
    if operands or piped:
        raise RenderError(f"can't give argument to non-function {what}")


@dataclass(frozen=True, slots=True)
class Constant(Expression):
    constant: Value

    def value(self, scope: Scope, operands: list[Expression], piped: list[Value]) -> Value:
        _refuse(repr(self.constant), operands, piped)
        return self.constant


@dataclass(frozen=True, slots=True)
class Dot(Expression):
    def value(self, scope: Scope, operands: list[Expression], piped: list[Value]) -> Value:
        _refuse(".", operands, piped)
        return scope.dot


@dataclass(frozen=True, slots=True)
class Variable(Expression):
    name: str

    def value(self, scope: Scope, operands: list[Expression], piped: list[Value]) -> Value:
        _refuse(self.name, operands, piped)
        return scope.lookup(self.name)


@dataclass(frozen=True, slots=True)
class Field(Expression):
    """``base.Name``; the name may be that of a method."""

    base: Expression
    name: str

    def value(self, scope: Scope, operands: list[Expression], piped: list[Value]) -> Value:
        base = self.base.value(scope, [], [])
        arguments = _evaluated(scope, operands, piped)
        if isinstance(base, Header) and self.name in METHODS:
            return call_method(base, self.name, arguments)
        found = member(base, self.name)
        if arguments:
            raise RenderError(f"{self.name} has arguments but cannot be invoked as function")
        return found


@dataclass(frozen=True, slots=True)
class Call(Expression):
    """A function; its arguments are its command's operands."""

    name: str

    def value(self, scope: Scope, operands: list[Expression], piped: list[Value]) -> Value:
        if self.name in functions.LAZY:
            return self._lazily(scope, operands, piped)
        return functions.call(self.name, _evaluated(scope, operands, piped))

    def _lazily(self, scope: Scope, operands: list[Expression], piped: list[Value]) -> Value:
        """Return the first operand that decides, or the last."""
        decides = self.name == "or"
        value: Value = None
        constants: Iterable[Expression] = map(Constant, piped)
        every = [*operands, *constants]
        if not every:
            raise RenderError(f"wrong number of args for {self.name}: want at least 1 got 0")
        for operand in every:
            value = operand.value(scope, [], [])
            if is_true(value) is decides:
                break
        return value


@dataclass(frozen=True, slots=True)
class Command(Expression):
    """An expression with its operands."""

    first: Expression
    rest: list[Expression]

    def value(self, scope: Scope, operands: list[Expression], piped: list[Value]) -> Value:
        return self.first.value(scope, self.rest, piped)


@dataclass(frozen=True, slots=True)
class Pipeline(Expression):
    """Commands, each given the value of the one before it.

    Attributes:
        variables: that get the value; more than one only in ``range``.
        declares: the variables are new ones.
    """

    commands: list[Command]
    variables: list[str] = field(default_factory=list)
    declares: bool = False

    def value(self, scope: Scope, operands: list[Expression], piped: list[Value]) -> Value:
        _refuse("a pipeline", operands, piped)
        values: list[Value] = []
        for command in self.commands:
            values = [command.value(scope, [], values)]
        return values[0]

    def store(self, scope: Scope, values: list[Value]) -> None:
        """Give the last of some values to the variables, one each."""
        for name, value in zip(self.variables, values[-len(self.variables) :], strict=True):
            if self.declares:
                scope.variables.append((name, value))
            else:
                scope.assign(name, value)

    def run(self, scope: Scope, line: int) -> Value:
        """Return the value; an error says in which line it is."""
        try:
            return self.value(scope, [], [])
        except RenderError as error:
            error.line = line
            raise

    def stored(self, scope: Scope, line: int) -> Value:
        """Return the value after giving it to the variable, if there is one."""
        value = self.run(scope, line)
        if self.variables:
            self.store(scope, [value])
        return value


class Node(ABC):
    """Something that writes text."""

    __slots__ = ()

    @abstractmethod
    def write(self, scope: Scope, out: list[str]) -> None:
        """Append it to ``out``. Raises `RenderError`."""


@dataclass(slots=True)
class Literal(Node):
    """Text; what is written of it is settled when the context is known."""

    line: int
    text: str

    def write(self, scope: Scope, out: list[str]) -> None:
        out.append(self.text)


@dataclass(slots=True)
class Output(Node):
    """A pipeline whose value is written, escaped for the place it stands in."""

    line: int
    pipeline: Pipeline
    escape: Callable[[Value], str] | None = None

    def write(self, scope: Scope, out: list[str]) -> None:
        value = self.pipeline.run(scope, self.line)
        assert self.escape is not None, "a page is settled before it is rendered"
        out.append(self.escape(value))


@dataclass(slots=True)
class Assignment(Node):
    line: int
    pipeline: Pipeline

    def write(self, scope: Scope, out: list[str]) -> None:
        self.pipeline.stored(scope, self.line)


@dataclass(slots=True)
class Block(Node):
    """``if``, ``with`` or ``range``; all of them have two bodies."""

    line: int
    pipeline: Pipeline
    body: list[Node]
    otherwise: list[Node]

    def run(self, nodes: list[Node], scope: Scope, out: list[str], dot: Value) -> None:
        """Write nodes with a dot of their own; variables they declare end with them."""
        outer, count = scope.dot, len(scope.variables)
        scope.dot = dot
        for node in nodes:
            node.write(scope, out)
        scope.dot = outer
        del scope.variables[count:]


class If(Block):
    __slots__ = ()

    def write(self, scope: Scope, out: list[str]) -> None:
        count = len(scope.variables)
        holds = is_true(self.pipeline.stored(scope, self.line))
        self.run(self.body if holds else self.otherwise, scope, out, scope.dot)
        del scope.variables[count:]


class With(Block):
    __slots__ = ()

    def write(self, scope: Scope, out: list[str]) -> None:
        count = len(scope.variables)
        value = self.pipeline.stored(scope, self.line)
        if is_true(value):
            self.run(self.body, scope, out, value)
        else:
            self.run(self.otherwise, scope, out, scope.dot)
        del scope.variables[count:]


class Range(Block):
    __slots__ = ()

    def write(self, scope: Scope, out: list[str]) -> None:
        items = _items(self.pipeline, scope, self.line)
        for key, value in items:
            count = len(scope.variables)
            if self.pipeline.variables:
                self.pipeline.store(scope, [key, value])
            self.run(self.body, scope, out, value)
            del scope.variables[count:]
        if not items:
            self.run(self.otherwise, scope, out, scope.dot)


def _items(pipeline: Pipeline, scope: Scope, line: int) -> list[tuple[Value, Value]]:
    value = pipeline.run(scope, line)
    if value is None:
        return []
    if isinstance(value, list):
        return [(place, each) for place, each in enumerate(value)]
    if isinstance(value, Header):
        return [(name, value.fields[name]) for name in sorted(value.fields)]
    error = RenderError(f"range can't iterate over {type_name(value)}")
    error.line = line
    raise error
