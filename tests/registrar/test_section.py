"""Reading mappings key by key: types, places, and keys nobody asked for."""

from router.registrar.section import Section


def test_values_are_found_in_any_case_and_nulls_are_absent() -> None:
    problems: list[str] = []
    section = Section({"Name": "a", "port": None}, "", problems)
    assert (section.text("name"), section.port("port"), "port" in section) == ("a", 0, False)
    assert problems == []


def test_everything_wrong_is_told_with_its_place() -> None:
    problems: list[str] = []
    section = Section(
        {"name": 5, "port": 0, "flag": 1, "every": "5", "list": "a", "texts": [1], "tags": {"a": 1}, "in": []},
        'routes[0] "x"',
        problems,
    )
    section.text("name")
    section.port("port")
    section.flag("flag")
    section.duration_s("every", 1.0)
    section.items("list")
    section.texts("texts")
    section.pairs("tags")
    section.section("in")
    assert problems == [
        'routes[0] "x": name: 5 is not text',
        'routes[0] "x": port: 0 is not a number between 1 and 65535',
        'routes[0] "x": flag: 1 is neither true nor false',
        "routes[0] \"x\": invalid every: invalid duration '5'",
        'routes[0] "x": list: a list is needed here',
        'routes[0] "x": texts: 1 is not text',
        "routes[0] \"x\": tags: 'a' and its value must be text",
        'routes[0] "x": in: a mapping is needed here',
    ]


def test_secret_is_not_shown_when_it_is_no_text() -> None:
    problems: list[str] = []
    section = Section({"password": 4711, "user": "a"}, "", problems)
    assert (section.secret("password"), section.secret("user"), section.secret("token")) == ("", "a", "")
    assert problems == ["password: must be text; a number is written in quotes"]


def test_value_that_aliases_nest_is_shown_shortly() -> None:
    bomb: list[object] = ["x"]
    for _ in range(50):
        bomb = [bomb] * 10
    problems: list[str] = []
    section = Section({"name": bomb, "uris": [bomb], "port": bomb, "tags": {"a": bomb}}, "", problems)
    section.text("name")
    section.texts("uris")
    section.port("port")
    section.pairs("tags")
    assert len(problems) == 4
    assert max(map(len, problems)) < 2000


def test_duration_must_be_above_zero() -> None:
    problems: list[str] = []
    Section({"a": "0s", "b": "-1s", "c": 5}, "", problems).duration_s("a", 1.0)
    assert problems == ["invalid a: '0s' is not above 0"]


def test_entries_of_a_list_are_called_by_their_names() -> None:
    problems: list[str] = []
    sections = list(Section({"routes": [{"name": "a"}, {}, 7]}, "", problems).sections("routes"))
    assert [section.where for section in sections] == ["routes[0] 'a'", "routes[1]", "routes[2]"]
    assert problems == ["routes[2]: a mapping is needed here"]


def test_keys_nobody_asked_for_are_told() -> None:
    section = Section({"a": 1, "B": 2, "c": 3}, "here", [])
    section.number("a", 0, 0, 9)
    section.ignore("c")
    assert section.unasked() == ["here: b"]
    section.ignore()
    assert section.unasked() == []
