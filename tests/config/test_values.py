"""Plain values of YAML: what scalars stand for, and texts that would be the end of PyYAML's own loader."""

from typing import Any

import pytest

from router.config.document import DocumentError
from router.config.values import parse_values


def parsed(text: str) -> Any:
    problems: list[str] = []
    value = parse_values(text, lambda problem: problems.append(str(problem)))
    assert problems == []
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("80", 80),
        ("-1", -1),
        ("'80'", "80"),
        ("!!str 80", "80"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("22:22", "22:22"),
        ("2026-01-01", "2026-01-01"),
        ("1.5", 1.5),
        ("1e3", "1e3"),
        ("9" * 40, "9" * 40),
        ("true", True),
        ("No", False),
        ("ON", True),
        ("tRue", "tRue"),
        ("~", None),
        ("''", ""),
        ("", None),
        ("[a, {b: 1}]", ["a", {"b": 1}]),
        ("a: &x {k: 1}\nb: {<<: *x, l: 2}", {"a": {"k": 1}, "b": {"k": 1, "l": 2}}),
    ],
)
def test_value_is_what_people_mean(text: str, value: object) -> None:
    found = parsed(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "[", "a: b: c", "\x00", "*x"])
def test_text_that_is_no_yaml_or_too_deep_is_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        parsed(text)


def test_aliases_are_not_copied() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 50))]
    value = parsed("\n".join(lines))
    assert value["a49"][0] is value["a48"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2", 'mapping key "a" already defined at line 1 (a, line 2)'),
        ("a: 1\n---\nb: 2", "a second document begins here; it is ignored (line 2)"),
        ("a: !!binary eA==", "tag !!binary is not allowed here (line 1)"),
        ("? [a]\n: 1", "a mapping key must be a plain name (line 1)"),
    ],
)
def test_mistake_that_does_not_stop_the_reading_is_reported(text: str, told: str) -> None:
    problems: list[str] = []
    parse_values(text, lambda problem: problems.append(str(problem)))
    assert problems == [told]
