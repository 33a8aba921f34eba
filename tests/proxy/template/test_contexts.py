from contextlib import suppress
from dataclasses import replace

import pytest

from router.proxy.template.contexts import Context, ContextError, advance, escaper, join, unsure

VALUE = "a'\"<b"
HTML = "a&#39;&#34;&lt;b"
STRING = "a\\u0027\\u0022\\u003cb"
LITERAL = f'"{STRING}"'


def shown(page: str) -> str:
    """Return what `VALUE` becomes at the end of the text."""
    escape, _ = escaper(advance(Context(), page)[0])
    return escape(VALUE)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("", HTML),
        ("<p>", HTML),
        ("<p", "ZgotmplZ"),
        ("<p ", "ZgotmplZ"),
        ("<p title='", HTML),
        ('<p title="x', HTML),
        ("<p title=", HTML),
        ("<p title=x", HTML),
        ("<p title=x>", HTML),
        ("<p a=b c = 'd' e", None),
        ("<p e ", None),
        ("< p title=", HTML),
        ("<p/>", HTML),
        ("<br/", None),
        ("<textarea>", HTML),
        ("<TITLE><b onclick='", HTML),
        ("<title></title><b onclick='", "&#34;a\\u0027\\u0022\\u003cb&#34;"),
        ("<a href='", "a%27%22%3cb"),
        ("<a href='?", "a%27%22%3cb"),
        ("<script>", LITERAL),
        ("<script>'", STRING),
        ('<script>"\\"', STRING),
        ('<script>"x"', LITERAL),
        ("<script>// it's\n", LITERAL),
        ("<script>// it's", ""),
        ("<script>/* it's", ""),
        ("<script>/* it's */", LITERAL),
        ("<script>`it's` + ", LITERAL),
        ("<script>`a${b}c` + ", LITERAL),
        ("<script>`a${f({})}c` + ", None),
        ("<script>`", None),
        ("<script>x = /'/; ", LITERAL),
        ("<script>x = /[/']/; ", LITERAL),
        ("<script>a <", LITERAL),
        ("<script>x = y / 2 + '", STRING),
        ("<script>f() / 2 + '/", STRING),
        ("<script>return /'/.test(", LITERAL),
        ("<script>x = /", "a\\u0027\\u0022\\u003cb"),
        ("<script></scripts>'", STRING),
        ("<script>'</script><p>", HTML),
        ("<script type='module'>", LITERAL),
        ("</script>", HTML),
        ("<style>", "ZgotmplZ"),
        ("<style>a{b:'", "a\\27\\22\\3c b"),
        ("<style>/* it's */ a{b:'", "a\\27\\22\\3c b"),
        ("<style>/* ", ""),
        ("<style></style>", HTML),
        ("<p onclick='f(&quot;", STRING),
        ("<p onclick='f(&quot;&quot;, ", "&#34;a\\u0027\\u0022\\u003cb&#34;"),
        ("<p onclick=f(", "&#34;a\\u0027\\u0022\\u003cb&#34;"),
        ("<p style='a:\"", "a\\27\\22\\3c&#32;b".replace("&#32;", " ")),
        ("<!-- <script> -->", HTML),
        ("<!-- ", ""),
        ("<!doctype html><p>", HTML),
    ],
)
def test_value_is_escaped_for_its_place(page: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(ContextError):
            shown(page)
    else:
        assert shown(page) == text


@pytest.mark.parametrize(
    "page",
    ["<p title='x' onclick=\"f('", "<script>x = /'/.test(\"a\") / 2 + '", "<style>/* */ a{b:'", "<a href='/b?c"],
)
def test_text_cut_anywhere_leads_to_the_same_place_or_is_refused(page: str) -> None:
    whole, _ = advance(Context(), page)
    for cut in range(len(page)):
        if page[cut - 1 : cut + 1] in ("/*", "*/"):
            continue
        first, _ = advance(Context(), page[:cut])
        if first.state == "text":
            continue
        with suppress(ContextError):
            second, _ = advance(first, page[cut:])
            assert (second.state, second.element, second.quote) == (whole.state, whole.element, whole.quote)


def test_comments_are_left_out_and_stray_brackets_escaped() -> None:
    assert (
        advance(Context(), "a<!-- b --><!DOCTYPE c>< d <3 <e f='<'>")[1] == "a<!DOCTYPE c>&lt; d &lt;3 <e f='<'>"
    )
    assert advance(Context(), "<title>a < b</title>")[1] == "<title>a &lt; b</title>"
    assert advance(Context(), "<script>a < b // <!-- c\n</script>")[1] == "<script>a < b // <!-- c\n</script>"


@pytest.mark.parametrize("page", ["<p 'x'>", '<p ">', "<p <b>", "<p =a>"])
def test_broken_tags_are_errors(page: str) -> None:
    with pytest.raises(ContextError, match="in a tag"):
        advance(Context(), page)


def test_value_leads_on_within_its_attribute() -> None:
    _, after = escaper(advance(Context(), "<a href=")[0])
    assert escaper(after)[0]("javascript:") == "javascript:"
    context, _ = advance(after, " title='")
    assert escaper(context)[0](VALUE) == HTML
    _, after = escaper(advance(Context(), "<script>")[0])
    assert escaper(advance(after, " / '")[0])[0](VALUE) == STRING


def place(page: str) -> Context:
    return advance(Context(), page)[0]


def test_branches_that_end_in_one_place_join() -> None:
    assert join(place("a"), place("<b>c</b>")) == Context()
    assert join(place("<p "), place("<p hidden ")) == place("<p ")


@pytest.mark.parametrize(
    ("left", "right", "further"),
    [
        ("<p", "<p hidden", ">"),
        ("<p", "<p hidden", " title='"),
        ("<img", "<img hidden", "/>"),
        ("<p title=''", "<p", ">"),
        ("<a href", "<a src", "='"),
        ("<a href", "<a href ", " = '"),
    ],
)
def test_branches_may_differ_by_an_attribute(left: str, right: str, further: str) -> None:
    for joined in (join(place(left), place(right)), join(place(right), place(left))):
        assert replace(advance(joined, further)[0], before="") == place(right + further)


@pytest.mark.parametrize(("left", "right"), [("<p", "<p on"), ("<p on", "<p onmouse"), ("<a", "<ab c")])
def test_name_cannot_be_put_together_from_pieces(left: str, right: str) -> None:
    with pytest.raises(ContextError, match="in pieces"):
        advance(join(place(left), place(right)), "click='")


@pytest.mark.parametrize("page", ["<script></", "<script></scr", "<TITLE>a</T", "<style></STYL"])
def test_end_tag_cannot_be_put_together_from_pieces(page: str) -> None:
    with pytest.raises(ContextError, match="an end tag in pieces"):
        place(page)


def test_branches_of_a_url_join_to_the_harder_escaping() -> None:
    joined = join(place("<a href='/b"), place("<a href='/b?c="))
    assert escaper(joined)[0]("x:/?") == "x%3a%2f%3f"


def test_branches_of_a_script_join_but_a_slash_may_not_follow() -> None:
    joined = join(place("<script>x = "), place("<script>x"))
    assert escaper(joined)[0](1) == " 1 "
    assert escaper(advance(joined, "; '")[0])[0](VALUE) == STRING
    with pytest.raises(ContextError, match="slash"):
        advance(joined, " / 2")


@pytest.mark.parametrize(
    ("left", "right"),
    [("", "<p "), ("<p>", "<script>"), ("<p a='", '<p a="'), ("<p a='", "<p href='"), ("<!--", "")],
)
def test_branches_that_end_in_two_places_do_not_join(left: str, right: str) -> None:
    with pytest.raises(ContextError, match="branches end in different places"):
        join(place(left), place(right))


def test_place_outside_of_code_does_not_depend_on_what_came_before() -> None:
    assert unsure(place("<p a")) == place("<p a")
    assert unsure(Context()) == Context()
