import pytest

from router.proxy.template.values import (
    Failure,
    Header,
    RenderError,
    Value,
    canonical,
    field,
    is_true,
    method,
    quoted,
    shown,
    type_name,
)

HEADER = Header([b"x-a: 1", b"X-A:2 ", b"b: \xff"])
FAILURE = Failure(404, "Not Found", "m", HEADER)


def test_header_is_kept_by_canonical_name_in_order() -> None:
    assert HEADER.fields == {"X-A": ["1", "2"], "B": ["\ufffd"]}
    assert canonical("X-CF-RouterError") == "X-Cf-Routererror"


def test_methods_of_the_header_find_names_in_any_case() -> None:
    assert method(HEADER, "Get", ["x-A"]) == "1"
    assert method(HEADER, "Get", ["none"]) == ""
    assert method(HEADER, "Values", ["X-a"]) == ["1", "2"]
    assert method(HEADER, "Values", ["none"]) == []


@pytest.mark.parametrize("arguments", [[], ["a", "b"], [1], [None]])
def test_methods_take_one_string(arguments: list[Value]) -> None:
    with pytest.raises(RenderError, match=r"expected string|want 1"):
        method(HEADER, "Get", arguments)


def test_fields_of_the_error_and_of_the_header() -> None:
    assert [field(FAILURE, name) for name in ("Status", "StatusText", "Message")] == [404, "Not Found", "m"]
    assert field(FAILURE, "Header") is HEADER
    assert field(HEADER, "B") == ["\ufffd"]
    assert field(HEADER, "None") is None


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (FAILURE, "error page"),
        ("a", "string"),
        (1, "int"),
        (True, "bool"),
        (None, "<nil>"),
        (["a"], r"\[\]string"),
    ],
)
def test_other_fields_do_not_exist(value: Value, name: str) -> None:
    with pytest.raises(RenderError, match=f"can't evaluate field Nope in type {name}"):
        field(value, "Nope")


def test_zero_and_empty_are_false() -> None:
    false: list[Value] = [None, False, 0, "", [], Header([])]
    true: list[Value] = [True, -1, " ", [""], HEADER, FAILURE]
    assert [is_true(value) for value in false + true] == [False] * 6 + [True] * 6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "<nil>"),
        (True, "true"),
        (-3, "-3"),
        ("a", "a"),
        (["a", "b"], "[a b]"),
        (HEADER, "map[B:[\ufffd] X-A:[1 2]]"),
        (FAILURE, "{404 Not Found m map[B:[\ufffd] X-A:[1 2]]}"),
    ],
)
def test_values_are_shown_as_go_prints_them(value: Value, text: str) -> None:
    assert shown(value) == text


def test_quoting_and_type_names_are_gos() -> None:
    assert quoted('a"\n') == '"a\\"\\n"'
    assert quoted("") == '""'
    assert type_name(HEADER) == "http.Header"
