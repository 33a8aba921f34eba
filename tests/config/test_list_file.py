"""Files with one list: what is the same whatever the items are."""

from pathlib import Path

import pytest

from router.config.document import Mapping
from router.config.list_file import ListFile
from router.config.problems import ConfigError

PATH = Path("animals.yml")


class Animals(ListFile[str]):
    def __init__(self) -> None:
        super().__init__("animals", ("name", "legs"), "name")

    def item(self, node: Mapping, key: str) -> str | None:
        if "name" not in node.entries:
            self.problem("is missing", f"{key}.name", node.line)
            return None
        return getattr(node.entries["name"].node, "text", "")


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Animals().read(PATH, text.encode())
    assert caught.value.path == PATH
    return [f"{problem.line} {problem.key}: {problem.message}" for problem in caught.value.problems]


def test_items_come_in_the_order_of_the_file() -> None:
    assert Animals().read(PATH, b"animals:\n- name: cat\n- {name: ant, legs: 6}\n") == ["cat", "ant"]


def test_empty_list_has_no_items() -> None:
    assert Animals().read(PATH, b"animals: []\n") == []


@pytest.mark.parametrize("text", ["", "# nothing\n", "- name: cat\n", "animals\n"])
def test_file_without_its_key_is_refused_and_told_what_means_none(text: str) -> None:
    assert problems(text)[0].endswith(": a list `animals` is needed; an empty one, `animals: []`, means none")


@pytest.mark.parametrize("text", ["animals:\n", "animals: 7\n", "animals: {name: cat}\n", "other: []\n"])
def test_what_is_under_the_key_must_be_a_list(text: str) -> None:
    assert problems(text)[-1].endswith("1 animals: a list is needed")


def test_every_mistake_is_told_at_once_in_the_order_of_the_file() -> None:
    assert problems("animals:\n- legs: 4\n- dog\n- {name: cow, tail: 1}\nzoo: 1\n") == [
        "2 animals[0].name: is missing",
        "3 animals[1]: a mapping with name is needed",
        "4 animals[2].tail: unknown key; there are name, legs",
        "5 zoo: unknown key; there are animals",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [("animals: [\n", 2), ("animals: []\nanimals: []\n", 2), ("animals: []\n---\nmore: 1\n", 2)],
)
def test_what_is_not_one_document_is_refused_with_its_line(text: str, line: int) -> None:
    assert problems(text)[0].startswith(f"{line} ")


def test_what_is_not_text_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        Animals().read(PATH, b"animals:\n- \xff\n")
