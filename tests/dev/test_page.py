"""The page of the hello sample."""

from router.dev.page import hello_page


def test_page_names_the_instance() -> None:
    assert '<h1>hello from <span id="name">hello/1</span></h1>' in hello_page("hello/1")


def test_name_cannot_add_markup() -> None:
    assert "<b>" not in hello_page("<b>")


def test_script_s_own_placeholders_survive() -> None:
    page = hello_page("hello/0")
    assert "var(${color})" in page
    assert "$$" not in page
