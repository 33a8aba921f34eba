import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config.document import (
    MAX_DEPTH,
    MAX_MERGED_ENTRIES,
    DocumentError,
    Mapping,
    Node,
    Scalar,
    Sequence,
    decode,
    parse_document,
)
from router.config.problems import Problem


def parse(text: str) -> tuple[Node | None, list[Problem], list[Problem]]:
    errors: list[Problem] = []
    warnings: list[Problem] = []
    return parse_document(text, errors.append, warnings.append), errors, warnings


def plain(node: Node | None) -> object:
    if isinstance(node, Mapping):
        return {name: plain(entry.node) for name, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return node.text if node else None


def refusal(text: str) -> Problem:
    with pytest.raises(DocumentError) as caught:
        parse(text)
    return caught.value.problem


def test_nodes_know_their_lines() -> None:
    root, _, _ = parse("# comment\na: 1\nb:\n  - x\n  - y: z\n")
    assert isinstance(root, Mapping)
    assert (root.entries["a"].line, root.entries["b"].line) == (2, 3)
    items = root.entries["b"].node
    assert isinstance(items, Sequence)
    assert [item.line for item in items.items] == [4, 5]


def test_quotes_and_tags_are_kept_apart_from_plain_text() -> None:
    root, _, _ = parse("a: 1\nb: '1'\nc: !!str 1\nd: |\n  1\n")
    assert isinstance(root, Mapping)
    scalars = [entry.node for entry in root.entries.values()]
    assert [(node.plain, node.tag) for node in scalars if isinstance(node, Scalar)] == [
        (True, ""),
        (False, ""),
        (False, "!!str"),
        (False, ""),
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "%YAML 1.2\n"])
def test_a_text_without_a_document_is_none(text: str) -> None:
    if text.startswith("%"):
        assert refusal(text).line
    else:
        assert parse(text)[0] is None


def test_duplicate_keys_are_all_reported_with_path_and_both_lines() -> None:
    root, errors, _ = parse("a: 1\na: 2\nb:\n  - c: 1\n    c: 2\n'a': 3\n")
    assert plain(root) == {"a": "1", "b": [{"c": "1"}]}
    assert [(error.key, error.line, error.message) for error in errors] == [
        ("a", 2, 'mapping key "a" already defined at line 1'),
        ("b[0].c", 5, 'mapping key "c" already defined at line 4'),
        ("a", 6, 'mapping key "a" already defined at line 1'),
    ]


def test_a_key_that_is_not_a_name_is_reported() -> None:
    _, errors, _ = parse("a: 1\n? [b]\n: 2\n")
    assert [(error.message, error.line) for error in errors] == [("a mapping key must be a plain name", 2)]


def test_an_alias_stands_for_its_anchor() -> None:
    assert plain(parse("a: &x {k: v}\nb: *x\n")[0]) == {"a": {"k": "v"}, "b": {"k": "v"}}


def test_merged_entries_give_way_to_own_and_earlier_ones() -> None:
    root, errors, _ = parse("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {c: 3, <<: [*x, *y]}\n")
    assert not errors
    assert plain(root) == {
        "x": {"a": "1", "b": "1"},
        "y": {"b": "2", "c": "2"},
        "z": {"c": "3", "a": "1", "b": "1"},
    }


def test_merging_something_else_than_mappings_is_reported() -> None:
    _, errors, _ = parse("a:\n  <<: 3\n")
    assert [(error.key, error.line) for error in errors] == [("a", 2)]


@pytest.mark.parametrize("text", ["a: *nowhere", "a: &a [*a]", "a: &a {<<: *a}", "- *a\n- &a 3"])
def test_an_alias_without_a_finished_anchor_is_refused(text: str) -> None:
    assert "unknown anchor" in refusal(text).message


@pytest.mark.parametrize("opening", ["[", "- ", "{a: ", "? "])
def test_deep_nesting_is_refused_before_it_costs_anything(opening: str) -> None:
    assert refusal(opening * 100_000).message == f"nested deeper than {MAX_DEPTH} levels"


def test_doubling_aliases_are_only_references() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    root, errors, _ = parse("\n".join(lines))
    assert isinstance(root, Mapping)
    assert len(root.entries) == 60
    assert not errors


def test_merging_has_a_budget() -> None:
    keys = "\n".join(f"  k{n}: 1" for n in range(1000))
    merges = "\n".join(f"m{n}: {{<<: *x}}" for n in range(MAX_MERGED_ENTRIES // 1000 + 1))
    assert refusal(f"x: &x\n{keys}\n{merges}\n").message == "document contains excessive aliasing"


def test_a_second_document_is_ignored_with_a_warning() -> None:
    root, errors, warnings = parse("a: 1\n---\na: 2\n")
    assert plain(root) == {"a": "1"}
    assert not errors
    assert [warning.line for warning in warnings] == [2]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [1\n", 3, "did not find expected ',' or ']'"),
        ("a: 1\nb:\n\t- c\n", 3, "a tab cannot be used for indentation"),
        ("a: b: c\n", 1, "mapping values are not allowed"),
        ("a: 1\nb: '\n", 3, "unexpected end of stream"),
        ("ä: ö\n\nb: \x07\n", 3, "character #x0007 is not allowed"),
        ("a: \x00", 1, "character #x0000 is not allowed"),
        ("a: 1\n...\n%YAML 3\n---\n", 3, "%YAML directive"),
    ],
)
def test_a_syntax_error_is_told_with_its_line(text: str, line: int, words: str) -> None:
    problem = refusal(text)
    assert words in problem.message
    assert problem.line == line


def test_bytes_that_are_not_utf8_are_refused_with_their_line() -> None:
    with pytest.raises(DocumentError) as caught:
        decode(b"a: 1\nb: \xff\n")
    assert caught.value.problem == Problem("not UTF-8: byte 0xff", line=2)


def test_a_byte_order_mark_is_skipped() -> None:
    assert decode(b"\xef\xbb\xbfa: 1") == "a: 1"


@given(st.text(max_size=60))
def test_any_text_is_a_document_or_a_document_error(text: str) -> None:
    try:
        parse(text)
    except DocumentError as error:
        assert error.problem.message  # noqa: PT017 - both outcomes are right, and nothing else is


@given(
    st.recursive(
        st.text(alphabet="abcd \n:'\"#-", max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="abcd", min_size=1), inner),
        max_leaves=12,
    )
)
def test_what_pyyaml_writes_is_read_back(value: object) -> None:
    root, errors, warnings = parse(yaml.safe_dump(value))
    assert (plain(root), errors, warnings) == (value, [], [])
