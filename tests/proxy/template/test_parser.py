import pytest

from router.proxy.template.lexer import TemplateError
from router.proxy.template.nodes import (
    Call,
    Command,
    Constant,
    Dot,
    Expression,
    Field,
    If,
    Literal,
    Output,
    Pipeline,
    Variable,
)
from router.proxy.template.parser import parse

A = Field(Dot(), "A")


def command(first: Expression, *rest: Expression) -> Command:
    return Command(first, list(rest))


def pipeline(text: str) -> Pipeline:
    (node,) = parse("{{" + text + "}}", "t")
    assert isinstance(node, Output)
    return node.pipeline


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        (".", [command(Dot())]),
        (".Status", [command(Field(Dot(), "Status"))]),
        ("$.Header.Get `a`", [command(Field(Field(Variable("$"), "Header"), "Get"), Constant("a"))]),
        ("eq .A 1", [command(Call("eq"), A, Constant(1))]),
        (".A | print 1 | len", [command(A), command(Call("print"), Constant(1)), command(Call("len"))]),
        ("not (eq 1 2)", [command(Call("not"), Pipeline([command(Call("eq"), Constant(1), Constant(2))]))]),
        ("(.A).B", [command(Field(Pipeline([command(A)]), "B"))]),
        ("print true false nil", [command(Call("print"), Constant(True), Constant(False), Constant(None))]),
        ("print 'a' 0x1f 0b11 0o17 017 -1 1_000 0",
         [command(Call("print"), *map(Constant, [97, 31, 3, 15, 15, -1, 1000, 0]))]),
    ],
)  # fmt: skip
def test_pipelines_are_parsed(text: str, commands: list[Command]) -> None:
    assert pipeline(text).commands == commands


def test_blocks_nest_and_else_if_is_an_if_in_the_else() -> None:
    (block,) = parse("{{if 1}}a{{else if 2}}b{{else}}c{{end}}", "t")
    assert isinstance(block, If)
    assert block.body == [Literal(1, "a")]
    (inner,) = block.otherwise
    assert isinstance(inner, If)
    assert (inner.body, inner.otherwise) == ([Literal(1, "b")], [Literal(1, "c")])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{}}", "missing value for command"),
        ("{{/* c */}}{{ }}", "missing value for command"),
        ("{{if}}{{end}}", "missing value for if"),
        ("{{if 1}}", "{{if}} of line 1 has no end"),
        ("{{if 1}}{{else}}", "has no end"),
        ("{{if 1}}{{else}}{{else}}{{end}}", "unexpected {{else}}"),
        ("{{with 1}}{{else if 2}}{{end}}", "unexpected {{else if}}"),
        ("{{if 1}}{{else 2}}{{end}}", "unexpected '2' in else"),
        ("{{if 1}}{{end 2}}", "unexpected '2' in end"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{nope}}", "function 'nope' not defined"),
        ("{{$x}}", "undefined variable '$x'"),
        ("{{$x = 1}}", "undefined variable '$x'"),
        ("{{$ := 1}}", "$ cannot be assigned"),
        ("{{if 1}}{{$x := 1}}{{end}}{{$x}}", "undefined variable '$x'"),
        ("{{with $x := 1}}{{end}}{{$x}}", "undefined variable '$x'"),
        ("{{$x := $x}}", "undefined variable '$x'"),
        ("{{$a, $b := 1}}", "too many declarations"),
        ("{{range $a, $b, $c := .}}{{end}}", "too many declarations"),
        ("{{1 | 2}}", "non executable command in pipeline stage 2"),
        ("{{1 |}}", "missing value"),
        ("{{| print}}", "missing value"),
        ("{{nil}}", "nil is not a command"),
        ("{{(1}}", "unclosed left paren"),
        ("{{1)}}", "unexpected ')'"),
        ("{{print 1,2}}", "unexpected ','"),
        ("{{print = 2}}", "unexpected '='"),
        ('{{print"a"}}', "unexpected 'a' after an operand"),
        ("{{1.5}}", "only integers"),
        ("{{08}}", "bad number syntax"),
        ("{{1__0}}", "bad number syntax"),
        ("{{999999999999999999999}}", "bad number syntax"),
        ("{{.A | html | print}}", "predefined escaper"),
        ("{{print (html .A)}}", "predefined escaper"),
        ("{{$x := html .A}}", "predefined escaper"),
        ('{{define "a"}}{{end}}', "{{define}} is not supported"),
        ("{{break}}", "{{break}} is not supported"),
        ("{{if 1}}" * 101 + "{{end}}" * 101, "too deeply nested"),
        ("{{" + "(" * 101 + "1" + ")" * 101 + "}}", "too deeply nested"),
    ],
)
def test_what_go_does_not_parse_is_refused(source: str, reason: str) -> None:
    with pytest.raises(TemplateError) as refused:
        parse("\n" + source, "t")
    assert reason.replace("line 1", "line 2") in refused.value.reason
    assert refused.value.line == 2
