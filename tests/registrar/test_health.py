"""From rows of results to what is said of a route."""

import pytest

from router.registrar.health import Health, Verdict

SAID = {Verdict.ANNOUNCE: "A", Verdict.UNREGISTER: "U", Verdict.NOTHING: "."}


def said(results: str, *, success: int = 1, failure: int = 1, limit: int = 5) -> str:
    """Return what is said after each result: ``+`` healthy, ``-`` not."""
    health = Health(success, failure, limit)
    return "".join(SAID[health.after(result == "+")] for result in results)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ("+++", "A.."),
        ("-", "U"),
        ("+-", "AU"),
        ("+-+-", "AUAU"),
        ("-------", "UUUUU.."),
        ("------+-----", "UUUUU.AUUUUU"),
    ],
)
def test_without_thresholds_every_result_counts_up_to_the_limit(results: str, expected: str) -> None:
    assert said(results) == expected


def test_one_slow_check_does_not_take_a_route_away() -> None:
    assert said("+--+--+---", failure=3) == "A........U"


def test_route_comes_back_after_enough_successes_in_a_row() -> None:
    assert said("-++-+++", success=3) == "U..U..A"


def test_single_success_while_up_resets_the_row_of_failures() -> None:
    assert said("+-+-+-", failure=2) == "A....."


def test_limit_counts_each_row_of_failures_anew() -> None:
    assert said("+---+---", limit=1) == "AU..AU.."


def test_health_tells_whether_it_is_up() -> None:
    health = Health(1, 2, 5)
    assert not health.up
    health.after(True)
    health.after(False)
    assert health.up
    health.after(False)
    assert not health.up
