from pathlib import Path

import pytest

from router.config.problems import ConfigError, Problem

FILE = Path("router.yml")


@pytest.mark.parametrize(
    ("problem", "located", "text"),
    [
        (Problem("no", "a.b", 3), "router.yml:3: a.b: no", "no (a.b, line 3)"),
        (Problem("no", "a.b"), "router.yml: a.b: no", "no (a.b)"),
        (Problem("no", line=3), "router.yml:3: no", "no (line 3)"),
        (Problem("no"), "router.yml: no", "no"),
        (Problem("", "a", 3), "router.yml:3: a", " (a, line 3)"),
    ],
)
def test_a_problem_says_where_it_is(problem: Problem, located: str, text: str) -> None:
    assert problem.located(FILE) == located
    assert str(problem) == text


def test_an_error_says_all_its_problems_on_one_line() -> None:
    error = ConfigError(FILE, [Problem("no", "a", 1), Problem("never")])
    assert str(error) == "router.yml: 2 problems: no (a, line 1); never"


def test_an_error_with_one_problem_does_not_count() -> None:
    assert str(ConfigError(FILE, [Problem("no", "a", 1)])) == "router.yml: no (a, line 1)"
