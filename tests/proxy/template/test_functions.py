import pytest

from router.proxy.template.functions import FUNCTIONS, LAZY, call
from router.proxy.template.values import Header, RenderError, Value

HEADER = Header([b"A: 1", b"A: 2"])


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("eq", [1, 1], True),
        ("eq", [1, 2, 1], True),
        ("eq", ["a", "b", "c"], False),
        ("eq", [True, True], True),
        ("ne", [1, 2], True),
        ("lt", [1, 2], True),
        ("lt", ["Z", "a"], True),
        ("lt", ["\uffff", "\U00010000"], True),
        ("le", [2, 2], True),
        ("gt", [2, 2], False),
        ("gt", [3, 2], True),
        ("ge", [2, 2], True),
        ("ge", [1, 2], False),
        ("not", [0], True),
        ("len", ["é"], 2),
        ("len", [["a", "b"]], 2),
        ("len", [HEADER], 1),
        ("index", [["a", "b"], 1], "b"),
        ("index", [HEADER, "A"], ["1", "2"]),
        ("index", [HEADER, "A", 1], "2"),
        ("index", [HEADER, "None"], []),
        ("index", [1], 1),
        ("print", [], ""),
        ("print", [1, 2, "a", 3, True], "1 2a3 true"),
        ("println", ["a", 1], "a 1\n"),
        ("html", ["<", 1], "<1"),
        ("js", ["a'\"<>&=\\\n"], "a\\'\\\"\\u003C\\u003E\\u0026\\u003D\\\\\\u000A"),
        ("urlquery", ["a b&é"], "a+b%26%C3%A9"),
    ],
)
def test_functions_do_what_gos_do(name: str, arguments: list[Value], result: Value) -> None:
    assert call(name, arguments) == result


@pytest.mark.parametrize(
    ("template", "arguments", "text"),
    [
        ("%d %s %v %q %t", [404, "a", "b", 'c"', True], '404 a b "c\\"" true'),
        ("%x %X %x %o %b %c", [255, 255, "é", 8, 5, 65], "ff FF c3a9 10 101 A"),
        ("%5d|%-5d|%05d|%+d", [1, 2, 3, 4], "    1|2    |00003|+4"),
        ("%5s|%-3s|%.2s", ["a", "b", "cde"], "    a|b  |cd"),
        ("%v %s", [["a", "b"], ["c"]], "[a b] [c]"),
        ("100%%", [], "100%"),
        ("%T", [HEADER], "http.Header"),
        ("%d %s", ["a", 1], "%!d(string=a) %!s(int=1)"),
        ("%d %d", [1], "1 %!d(MISSING)"),
        ("%d", [1, "a", 2], "1%!(EXTRA string=a, int=2)"),
        ("%t %d", ["a", True], "%!t(string=a) %!d(bool=true)"),
        ("100%", [], "100%!(NOVERB)"),
        ("%s", [None], "%!s(<nil>=<nil>)"),
    ],
)
def test_printf_formats_as_gos_fmt_does(template: str, arguments: list[Value], text: str) -> None:
    assert call("printf", [template, *arguments]) == text


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("eq", [1], "want at least 2 got 1"),
        ("ne", [1, 2, 3], "want 2 got 3"),
        ("not", [], "want 1 got 0"),
        ("eq", [1, "1"], "incompatible types for comparison: int and string"),
        ("eq", [1, True], "incompatible types for comparison: int and bool"),
        ("eq", [["a"], ["a"]], r"invalid type for comparison: \[\]string"),
        ("lt", [True, False], "invalid type for comparison: bool"),
        ("len", [1], "len of type int"),
        ("index", [["a"], 1], "index out of range: 1"),
        ("index", [["a"], -1], "index out of range: -1"),
        ("index", [["a"], True], "can't index"),
        ("index", ["abc", 1], "can't index string with int"),
        ("printf", [1], "expected string; got int"),
    ],
)
def test_functions_refuse_what_gos_refuse(name: str, arguments: list[Value], reason: str) -> None:
    with pytest.raises(RenderError, match=reason):
        call(name, arguments)


def test_lazy_functions_are_not_called_with_values() -> None:
    assert set(FUNCTIONS) > LAZY
    with pytest.raises(RenderError):
        call("and", [True])
