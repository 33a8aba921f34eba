"""JSON with Go's eyes: what is read, and what is said of the rest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.go_json import JsonError, is_string, quoted, read_object, text_of


def refusal(raw: bytes) -> str:
    """What is said of bytes that are no object."""
    with pytest.raises(JsonError) as error:
        read_object(raw, "kind.of.Thing")
    return str(error.value)


def test_names_are_known_in_any_case_and_null_is_an_empty_object() -> None:
    fields = read_object(b' { "Name" : "a", "COUNT": 12 } \n', "kind.of.Thing")
    assert (text_of(fields, "name", "Thing.Name", "string"), is_string(fields["count"])) == ("a", False)
    assert read_object(b"null", "kind.of.Thing") == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b" ", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b'{"nonce', "unexpected end of JSON input"),
        (b"nul", "unexpected end of JSON input"),
        (b'{"a":"\\', "unexpected end of JSON input"),
        (b'{"a":"\\u12', "unexpected end of JSON input"),
        (b"garbage", "invalid character 'g' looking for beginning of value"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b"NaN", "invalid character 'N' looking for beginning of value"),
        (b"'", r"invalid character '\'' looking for beginning of value"),
        (b"\\", r"invalid character '\\' looking for beginning of value"),
        (b"\x01", r"invalid character '\x01' looking for beginning of value"),
        (b"\x80", r"invalid character '\u0080' looking for beginning of value"),
        ("é".encode(), "invalid character 'Ã' looking for beginning of value"),
        (b"none", "invalid character 'o' in literal null (expecting 'u')"),
        (b"trap", "invalid character 'a' in literal true (expecting 'u')"),
        (b"fuss", "invalid character 'u' in literal false (expecting 'a')"),
        (b"-x", "invalid character 'x' in numeric literal"),
        (b"-Infinity", "invalid character 'I' in numeric literal"),
        (b"{1:2}", "invalid character '1' looking for beginning of object key string"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 2}', "invalid character '2' after object key:value pair"),
        (b"{}x", "invalid character 'x' after top-level value"),
        (b'{"a":"\x01"}', r"invalid character '\x01' in string literal"),
        (b'{"a":"\\q"}', "invalid character 'q' in string escape code"),
        (b'{"a":"\\u12g4"}', r"invalid character 'g' in \u hexadecimal character escape"),
        (b"1", "json: cannot unmarshal number into Go value of type kind.of.Thing"),
        (b"[]", "json: cannot unmarshal array into Go value of type kind.of.Thing"),
    ],
)
def test_what_is_no_object_is_named_in_gos_words(text: bytes, expected: str) -> None:
    assert refusal(text) == expected


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 200_000])
def test_deep_json_is_refused(text: bytes) -> None:
    assert refusal(text) == "exceeded max depth"


def test_endless_number_costs_nothing() -> None:
    assert refusal(b"9" * 500_000).startswith("json: cannot unmarshal number")


@pytest.mark.parametrize(
    ("raw", "found"),
    [(b"1", "number"), (b"1.5e3", "number"), (b"true", "bool"), (b"{}", "object"), (b"[]", "array")],
)
def test_member_that_is_no_string_is_named_in_gos_words(raw: bytes, found: str) -> None:
    fields = read_object(b'{"a":%b}' % raw, "kind.of.Thing")
    with pytest.raises(JsonError) as error:
        text_of(fields, "a", "Thing.A", "string")
    assert str(error.value) == f"json: cannot unmarshal {found} into Go struct field Thing.A of type string"


@pytest.mark.parametrize("raw", [b"{}", b'{"a":null}'])
def test_member_that_is_not_there_is_empty(raw: bytes) -> None:
    assert text_of(read_object(raw, "kind.of.Thing"), "a", "Thing.A", "string") == ""


@pytest.mark.parametrize("raw", [b'{"a":"\\ud800"}', b'{"a":"\xff"}'])
def test_string_that_is_no_unicode_is_still_text_that_can_be_sent(raw: bytes) -> None:
    assert text_of(read_object(raw, "kind.of.Thing"), "a", "Thing.A", "string").encode()


@given(st.binary())
def test_no_bytes_do_more_than_be_refused(raw: bytes) -> None:
    try:
        read_object(raw, "kind.of.Thing")
    except JsonError:
        return
    assert json.loads(raw) is None or isinstance(json.loads(raw), dict)


@given(st.text())
def test_what_was_quoted_is_read_again(text: str) -> None:
    assert json.loads(quoted(text)) == text


def test_characters_that_html_would_see_are_escaped() -> None:
    assert quoted('a&<">\u2028') == r'"a\u0026\u003c\"\u003e\u2028"'
