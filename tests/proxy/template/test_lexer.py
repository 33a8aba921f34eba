import pytest

from router.proxy.template.lexer import Action, TemplateError, Text, Token, pieces


def texts(source: str) -> list[str]:
    return [piece.text if isinstance(piece, Text) else "{{}}" for piece in pieces(source, "t")]


def tokens(action: str) -> list[Token]:
    (piece,) = pieces("{{" + action + "}}", "t")
    assert isinstance(piece, Action)
    return piece.tokens


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", []),
        ("a } b {", ["a } b {"]),
        ("a {{.}} b", ["a ", "{{}}", " b"]),
        ("a \n{{- . -}}\t b", ["a", "{{}}", "b"]),
        ("a {{- .}}{{. -}} b", ["a", "{{}}", "{{}}", "b"]),
        ("a {{-1}} b", ["a ", "{{}}", " b"]),
        (" {{- . -}} ", ["{{}}"]),
        ("a {{/* }} */}} b", ["a ", " b"]),
        ("a {{- /* x\ny */ -}} b", ["a", "b"]),
    ],
)
def test_text_is_what_lies_between_actions_trimmed_where_they_ask(source: str, expected: list[str]) -> None:
    assert texts(source) == expected


def test_lines_are_counted_across_text_and_actions() -> None:
    found = list(pieces("a\n{{.\n}}{{/*\n*/}}\n{{.}}", "t"))
    assert [piece.line for piece in found] == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (" .A.B ", [("field", "A"), ("field", "B")]),
        ("$x:=.", [("variable", "$x"), ("symbol", ":="), ("symbol", ".")]),
        ('f "a}}b"', [("word", "f"), ("space", " "), ("string", "a}}b")]),
        ("`a\\n`|f", [("string", "a\\n"), ("symbol", "|"), ("word", "f")]),
        ("-12 'x'", [("number", "-12"), ("space", " "), ("char", "x")]),
        ("(\n1)", [("symbol", "("), ("space", "\n"), ("number", "1"), ("symbol", ")")]),
    ],
)
def test_action_is_split_into_tokens(action: str, expected: list[tuple[str, str]]) -> None:
    assert [(token.kind, token.text) for token in tokens(action)] == expected


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r'"\a\b\f\n\r\t\v\\\""', '\a\b\f\n\r\t\v\\"'),
        (r'"\x41\101\u00e9\U0001F600"', "AAé😀"),
        (r"'\n'", "\n"),
        (r"'\''", "'"),
        (r"'\u00e9'", "é"),
        (r"'\xe9'", "é"),
        (r'"\xc3\251"', "\udcc3\udca9"),
    ],
)
def test_strings_stand_for_what_go_takes_them_for(written: str, meant: str) -> None:
    assert tokens(written)[0].text == meant


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("\n{{", 2, "unclosed action"),
        ("{{ .A \n\n", 1, "unclosed action"),
        ("\n{{/* ", 2, "unclosed comment"),
        ("{{/* */ x}}", 1, "comment ends before closing delimiter"),
        ('{{ "a }}', 1, "unterminated quoted string"),
        ('{{ "a\nb" }}', 1, "unterminated quoted string"),
        ("{{ `a }}", 1, "unterminated quoted string"),
        ("{{ {{ }}", 1, "unexpected {{"),
        ("{{ a + b }}", 1, "unexpected '+'"),
        (r'{{ "\q" }}', 1, r"invalid escape \q"),
        (r'{{ "\ud800" }}', 1, "invalid character"),
        (r'{{ "\777" }}', 1, "invalid character"),
        (r'{{ "\U00110000" }}', 1, "invalid character"),
        (r"{{ '\x4' }}", 1, r"invalid escape \x"),
    ],
)
def test_what_is_no_template_is_refused_by_line(source: str, line: int, reason: str) -> None:
    with pytest.raises(TemplateError) as refused:
        list(pieces(source, "t"))
    assert refused.value.line == line
    assert reason in refused.value.reason
