import json

import pytest

from router.proxy.template import escapers
from router.proxy.template.values import Header, Value

SPECIAL = "\0\"&'+<>"


def test_html_is_escaped_as_go_does() -> None:
    assert escapers.html(SPECIAL + "aé`=/ ") == "\ufffd&#34;&amp;&#39;&#43;&lt;&gt;aé`=/ "


def test_value_without_quotes_cannot_end_or_be_empty() -> None:
    assert escapers.unquoted("a b\t=`'") == "a&#32;b&#9;&#61;&#96;&#39;"
    assert escapers.unquoted("\0") == "&#xfffd;"
    assert escapers.unquoted("") == "ZgotmplZ"


def test_script_string_is_escaped_as_go_does() -> None:
    text = "\0\t\n\v\f\r\"&'+/<>\\`\u2028\u2029é"
    assert escapers.js_string(text) == (
        "\\u0000\\t\\n\\u000b\\f\\r\\u0022\\u0026\\u0027\\u002b\\/\\u003c\\u003e\\\\\\u0060\\u2028\\u2029é"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a'b", '"a\\u0027b"'),
        (404, " 404 "),
        (True, " true "),
        (None, " null "),
        (["a", "b"], '["a","b"]'),
        (Header([b"B: 1", b"A: <"]), '{"A":["\\u003c"],"B":["1"]}'),
    ],
)
def test_script_value_is_a_literal(value: Value, text: str) -> None:
    assert escapers.js_value(value) == text
    json.loads(text)


def test_pattern_matches_the_value_itself() -> None:
    assert escapers.js_pattern("a.b/") == "a\\u002eb\\u002f"
    assert escapers.js_pattern("😀") == "\\ud83d\\ude00"


def test_css_string_is_escaped_with_a_space_only_where_needed() -> None:
    assert escapers.css_string("</style> (a)\\") == "\\3c\\2fstyle\\3e  \\28 a\\29\\\\"


@pytest.mark.parametrize("value", ["red", "10px", "#fff", "1.5em", "Not Found", ""])
def test_css_value_that_is_a_word_or_number_passes(value: str) -> None:
    assert escapers.css_value(value) == value


@pytest.mark.parametrize(
    "value",
    ["url(x)", "a;b", "a}b", "'", '"', "expression", "a--b", "-moz-binding", "\\65", "@import", "a:b", "/*"],
)
def test_css_value_that_could_be_more_does_not(value: str) -> None:
    assert escapers.css_value(value) == "ZgotmplZ"


@pytest.mark.parametrize(
    ("value", "start", "inside", "part"),
    [
        ("http://a/b?c=d&e#f", "http://a/b?c=d&e#f", "http://a/b?c=d&e#f", "http%3a%2f%2fa%2fb%3fc%3dd%26e%23f"),
        ("mailto:a@b", "mailto:a@b", "mailto:a@b", "mailto%3aa%40b"),
        ("javascript:a", "#ZgotmplZ", "javascript:a", "javascript%3aa"),
        ("a/b:c", "a/b:c", "a/b:c", "a%2fb%3ac"),
        (
            "%41%zz é'(\"",
            "%41%25zz%20%c3%a9%27%28%22",
            "%41%25zz%20%c3%a9%27%28%22",
            "%2541%25zz%20%c3%a9%27%28%22",
        ),
    ],
)
def test_urls_are_normalised_or_escaped_by_place(value: str, start: str, inside: str, part: str) -> None:
    assert (escapers.url_start(value), escapers.url_path(value), escapers.url_part(value)) == (start, inside, part)


def test_image_set_is_one_url() -> None:
    assert escapers.image_set("a 1x, b 2x") == "a%201x%2c%20b%202x"
    assert escapers.image_set("javascript:a") == "#ZgotmplZ"


@pytest.mark.parametrize(("value", "name"), [("Hidden", "hidden"), ("title", "title"), ("", "ZgotmplZ")])
def test_harmless_attribute_names_pass(value: str, name: str) -> None:
    assert escapers.attribute_name(value) == name


@pytest.mark.parametrize(
    "value", ["onclick", "style", "href", "src", "type", "formaction", "a b", "a=b", "data-x"]
)
def test_other_attribute_names_do_not(value: str) -> None:
    assert escapers.attribute_name(value) == "ZgotmplZ"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("title", ""),
        ("HREF", "url"),
        ("data-href", "url"),
        ("xlink:href", "url"),
        ("xmlns:x", "url"),
        ("data-image-src", "url"),
        ("my-uri", "url"),
        ("srcset", "images"),
        ("srcdoc", "page"),
        ("style", "style"),
        ("onClick", "script"),
        ("svg:onload", "script"),
        ("data-onload", "script"),
    ],
)
def test_attributes_are_known_by_name(name: str, kind: str) -> None:
    assert escapers.attribute_kind(name) == kind
