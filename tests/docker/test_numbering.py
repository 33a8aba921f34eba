"""Indexes of instances."""

from router.docker.numbering import Numbering


def test_indexes_are_given_in_order_by_app() -> None:
    numbering = Numbering()
    assert [numbering.index(each, "a") for each in ("x", "y", "z")] == [0, 1, 2]
    assert numbering.index("w", "b") == 0


def test_container_keeps_its_index() -> None:
    numbering = Numbering()
    assert [numbering.index("x", "a"), numbering.index("y", "a"), numbering.index("x", "a", 7)] == [0, 1, 0]


def test_lowest_free_index_is_given_again() -> None:
    numbering = Numbering()
    for each in ("x", "y", "z"):
        numbering.index(each, "a")
    numbering.forget("y")
    assert numbering.index("new", "a") == 1


def test_wanted_index_is_given_if_it_is_free() -> None:
    numbering = Numbering()
    assert numbering.index("x", "a", 2) == 2
    assert numbering.index("y", "a", 2) == 0


def test_container_that_changes_its_app_frees_its_index() -> None:
    numbering = Numbering()
    numbering.index("x", "a")
    assert numbering.index("x", "b") == 0
    assert numbering.index("y", "a") == 0


def test_forgetting_an_unknown_container_changes_nothing() -> None:
    numbering = Numbering()
    numbering.index("x", "a")
    numbering.forget("never")
    assert numbering.index("y", "a") == 1
