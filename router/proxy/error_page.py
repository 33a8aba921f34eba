"""``html_error_template_file``: an operator's page for the errors the router itself answers (GOROUTER.md §5.6).

A page is parsed and its escaping settled once, at the start; an error page costs one walk over its nodes then.
"""

from router.proxy.template.contexts import TEXT, Context, ContextError, advance, escaper, join, unsure
from router.proxy.template.lexer import TemplateError
from router.proxy.template.nodes import Block, Literal, Node, Output, Range, Scope
from router.proxy.template.parser import parse
from router.proxy.template.values import Failure, Header, RenderError, octets

__all__ = ["ErrorPage", "TemplateError"]


class ErrorPage:
    """A parsed page.

    Attributes:
        problem: why no page can ever be rendered, for a warning at the start; None if all is well. Gorouter
            starts with such a page, too, and answers in plain text.
    """

    __slots__ = ("_name", "_nodes", "problem")

    def __init__(self, name: str, nodes: list[Node], problem: TemplateError | None) -> None:
        self._name = name
        self._nodes = nodes
        self.problem = problem

    @classmethod
    def read(cls, path: str) -> "ErrorPage":
        """Read a template's file. Raises `OSError`, and `TemplateError` as `parse` does."""
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return cls.parse(file.read(), path)

    @classmethod
    def parse(cls, text: str, name: str) -> "ErrorPage":
        """Read a template.

        Args:
            name: of the file, for messages.

        Raises:
            TemplateError: it breaks the grammar, or uses what `template.parser` leaves out.
        """
        nodes = parse(text, name)
        try:
            end = _settle(nodes, Context())
            if end.state != TEXT:
                raise _Unsettled(text.count("\n") + 1, f"the page ends inside of: {end.state}")
        except _Unsettled as unsettled:
            return cls(name, nodes, TemplateError(name, unsettled.line, str(unsettled)))
        return cls(name, nodes, None)

    def render(self, status: int, status_text: bytes, message: bytes, lines: list[bytes]) -> bytes:
        """Return the page for one error.

        Args:
            message: what went wrong, for people.
            lines: header lines of the response, for ``.Header``.

        Raises:
            TemplateError: the template asks for something that does not work; answer in plain text.
        """
        if self.problem is not None:
            raise self.problem.with_traceback(None)
        scope = Scope(Failure(status, _text(status_text), _text(message), Header(lines)))
        out: list[str] = []
        try:
            for node in self._nodes:
                node.write(scope, out)
        except RenderError as error:
            raise TemplateError(self._name, error.line, str(error)) from error
        return octets("".join(out))


class _Unsettled(ContextError):
    """A `ContextError` whose line is known."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _settle(nodes: list[Node], context: Context) -> Context:
    """Choose the escaping of every output, and what is sent of every text; return where the nodes lead to."""
    for node in nodes:
        if isinstance(node, Literal | Output | Block):
            try:
                context = _settle_one(node, context)
            except _Unsettled:
                raise
            except ContextError as error:
                raise _Unsettled(node.line, str(error)) from error
    return context


def _settle_one(node: Literal | Output | Block, context: Context) -> Context:
    if isinstance(node, Literal):
        context, node.text = advance(context, node.text)
        return context
    if isinstance(node, Output):
        node.escape, context = escaper(context)
        return context
    if isinstance(node, Range):
        context = unsure(context)
    body = _settle(node.body, context)
    if isinstance(node, Range) and unsure(body) != context:
        raise ContextError(f"a range must end where it began, in: {context.state}")
    return join(body, _settle(node.otherwise, context))
