import pytest

from router.proxy.template.nodes import Output, Scope
from router.proxy.template.parser import parse
from router.proxy.template.values import Failure, Header, RenderError, shown

FAILURE = Failure(404, "Not Found", "m", Header([b"B: 3", b"A: 1", b"A: 2"]))


def written(text: str) -> str:
    """Run a template without escaping."""
    scope = Scope(FAILURE)
    out: list[str] = []
    nodes = parse(text, "t")
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if isinstance(node, Output):
            node.escape = shown
        pending += getattr(node, "body", [])
        pending += getattr(node, "otherwise", [])
    for node in nodes:
        node.write(scope, out)
    assert scope.dot is FAILURE
    return "".join(out)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("a{{.Status}}b", "a404b"),
        ("{{$.StatusText}}", "Not Found"),
        ("{{$top := .Status}}{{$top}}{{$top}}", "404404"),
        ("{{if .Status}}a{{else}}b{{end}}", "a"),
        ("{{if 0}}a{{else}}b{{end}}", "b"),
        ("{{if 0}}a{{end}}", ""),
        ("{{if 0}}a{{else if 0}}b{{else if 1}}c{{else}}d{{end}}", "c"),
        ("{{if $x := .Status}}{{$x}}{{end}}", "404"),
        ("{{with .Message}}{{.}} {{$.Status}}{{end}}", "m 404"),
        ("{{with 0}}a{{else}}{{.Status}}{{end}}", "404"),
        ("{{with 0}}a{{else with 1}}{{.}}{{end}}", "1"),
        ("{{with $x := 5}}{{$x}}{{.}}{{end}}", "55"),
        ("{{$top := 1}}{{if 1}}{{$top = 2}}{{$top := 3}}{{$top}}{{end}}{{$top}}", "32"),
        ("{{range .Header}}{{.}}{{end}}", "[1 2][3]"),
        ("{{range $k, $v := .Header}}{{$k}}={{index $v 0}};{{end}}", "A=1;B=3;"),
        ('{{range $i, $v := .Header.Values "A"}}{{$i}}:{{$v}} {{end}}', "0:1 1:2 "),
        ('{{range $v := .Header.Values "A"}}{{$v}}{{.}}{{end}}', "1122"),
        ('{{range .Header.Values "C"}}a{{else}}none {{.Status}}{{end}}', "none 404"),
        ("{{range .Header.Nope}}a{{else}}b{{end}}", "b"),
        ("{{and 1 2}}{{and 0 .Nope}}{{or 1 .Nope}}{{or 0 2}}", "2012"),
        ("{{.Status | and 1}} {{3 | or 0}}", "404 3"),
        ('{{"A" | .Header.Get}} {{.Header.Get "b"}}', "1 3"),
        ('{{(index .Header "A") | len}}', "2"),
        ('{{with $h := .Header}}{{$h.Get "A"}}{{end}}', "1"),
    ],
)
def test_templates_write_what_gos_do(text: str, result: str) -> None:
    assert written(text) == result


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{1 2}}", "can't give argument to non-function 1"),
        ("{{. 2}}", r"can't give argument to non-function \."),
        ("{{$ 2}}", r"can't give argument to non-function \$"),
        ("{{(1) 2}}", "can't give argument to non-function a pipeline"),
        ("{{.Status 2}}", "Status has arguments but cannot be invoked"),
        ("{{1 | .Status}}", "Status has arguments but cannot be invoked"),
        ("{{.Status.Foo}}", "can't evaluate field Foo in type int"),
        ("{{range 5}}{{end}}", "range can't iterate over int"),
        ("{{or}}", "wrong number of args for or"),
    ],
)
def test_what_does_not_work_raises(text: str, reason: str) -> None:
    with pytest.raises(RenderError, match=reason):
        written(text)


def test_error_knows_its_line() -> None:
    for action in ("{{.Nope}}", "{{$x := .Nope}}", "{{if .Nope}}{{end}}", "{{range 5}}{{end}}"):
        with pytest.raises(RenderError) as raised:
            written("{{if 1}}\n\n" + action + "\n{{end}}")
        assert raised.value.line == 3
