"""Whole pages: what operators write, what clients get, and what neither can do to the other."""

import json

import pytest

from router.proxy.error_page import ErrorPage, TemplateError

LINES = [b"Cache-Control: no-cache, no-store", b"X-Cf-Routererror: unknown_route"]


def rendered(
    text: str,
    *,
    status: int = 404,
    status_text: bytes = b"Not Found",
    message: bytes = b"Requested route ('a.test') does not exist.",
    lines: list[bytes] = LINES,
) -> str:
    page = ErrorPage.parse(text, "page.html")
    assert page.problem is None
    return page.render(status, status_text, message, lines).decode()


PAGE = """{{- /* Shown for errors of the router itself. */ -}}
<!DOCTYPE html>
<html>
<head><title>{{ .Status }} {{ .StatusText }}</title><!-- not sent --></head>
<body class="s{{ .Status }}">
{{- $cause := .Header.Get "X-Cf-RouterError" -}}
{{ if eq $cause "unknown_route" }}
<h1>No such app</h1>
{{- else if and (ge .Status 500) (ne .Status 501) }}
<h1>Try again</h1>
{{- else }}
<h1>{{ .StatusText }}</h1>
{{- end }}
<p title="{{ .Message }}">{{ .Message }}</p>
{{ with $cause }}<a href="/help?cause={{ . }}">{{ . | printf "%q" }}</a>{{ end }}
<script>report({{ .Status }}, "{{ .Message }}");</script>
</body>
</html>
"""


def test_page_for_an_unknown_route() -> None:
    assert rendered(PAGE) == (
        "<!DOCTYPE html>\n<html>\n<head><title>404 Not Found</title></head>\n"
        '<body class="s404">\n<h1>No such app</h1>\n'
        '<p title="Requested route (&#39;a.test&#39;) does not exist.">'
        "Requested route (&#39;a.test&#39;) does not exist.</p>\n"
        '<a href="/help?cause=unknown_route">&#34;unknown_route&#34;</a>\n'
        '<script>report( 404 , "Requested route (\\u0027a.test\\u0027) does not exist.");</script>\n'
        "</body>\n</html>\n"
    )


def test_page_for_another_error_of_the_same_template() -> None:
    page = rendered(PAGE, status=503, status_text=b"Service Unavailable", message=b"m", lines=[])
    assert "<h1>Try again</h1>" in page
    assert "<a " not in page
    assert "<h1>I&#39;m</h1>" in rendered(PAGE, status=418, status_text=b"I'm", lines=[])


def test_one_page_is_rendered_many_times_independently() -> None:
    page = ErrorPage.parse("{{$n := .Status}}{{if true}}{{$n = 1}}{{end}}{{$n}} {{.Message}}", "p")
    assert page.render(400, b"", b"a", []) == b"1 a"
    assert page.render(500, b"", b"b", []) == b"1 b"


def test_text_without_actions_is_sent_as_it_is() -> None:
    assert rendered("") == ""
    assert rendered("<p>grün & so</p>\n") == "<p>grün & so</p>\n"


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert rendered("{{.Message}}", message=b"a\xffb\x00") == "a\ufffdb\ufffd"


def test_bytes_of_the_template_that_are_no_text_are_sent_as_they_are() -> None:
    text = b'\xff{{"\xfe"}}{{len "\xfe"}}{{printf "%x" "\xfe"}}'.decode("utf-8", "surrogateescape")
    assert ErrorPage.parse(text, "p").render(404, b"", b"", []) == b"\xff\xfe1fe"


HOSTILE = b"\"'`></title></script><script>alert(1)</script>javascript:${}&\\\n"
PLACES = [
    ("<p>{{.Message}}</p>", ""),
    ("<title>{{.Message}}</title>", ""),
    ("<textarea>{{.Message}}</textarea>", ""),
    ("<!-- {{.Message}} -->", ""),
    ('<p title="{{.Message}}">', '"'),
    ("<p title='{{.Message}}'>", "'"),
    ("<p title={{.Message}}>", " \n\"'`="),
    ('<a href="{{.Message}}">', '" \n'),
    ('<a href="/a?b={{.Message}}">', '" \n#'),
    ('<img srcset="{{.Message}}">', '" \n,'),
    ('<iframe srcdoc="{{.Message}}">', '"'),
    ("<p {{.Message}}>", "\"'= \n"),
    ('<p style="color: {{.Message}}">', "\"';:()\n"),
    ("<style>p { color: {{.Message}} }</style>", "\"';:(){}\n"),
    ("<style>p { content: '{{.Message}}' }</style>", "'\n"),
    ("<script>f('{{.Message}}')</script>", "'\n"),
    ("<p onclick=\"f('{{.Message}}')\">", "\"'\n"),
    ("<script>/{{.Message}}/.test(1)</script>", "/()\n"),
    ("<script>// {{.Message}}\nf()</script>", "\n"),
]


@pytest.mark.parametrize(("place", "forbidden"), PLACES)
def test_hostile_value_stays_in_its_place(place: str, forbidden: str) -> None:
    start, end = place.split("{{.Message}}")
    page = rendered(place, message=HOSTILE)
    if start.startswith("<!--"):
        assert page == ""
    else:
        assert page.startswith(start)
        assert page.endswith(end)
        assert not set("<>" + forbidden) & set(page[len(start) : len(page) - len(end)])


def test_hostile_value_is_one_string_in_a_script() -> None:
    page = rendered("<script>f({{.Message}})</script>", message=HOSTILE)
    value = page.removeprefix("<script>f(").removesuffix(")</script>")
    assert json.loads(value) == HOSTILE.decode()
    assert not {"<", ">"} & set(value)


@pytest.mark.parametrize("scheme", [b"javascript:alert(1)", b"JavaScript:x", b" data:text/html,x", b"vbscript:x"])
def test_url_cannot_be_one_that_runs_something(scheme: bytes) -> None:
    assert rendered('<a href="{{.Message}}">', message=scheme) == '<a href="#ZgotmplZ">'
    assert rendered("<a href={{.Message}}>", message=scheme) == "<a href=#ZgotmplZ>"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a\n{{ .Status", 2, "unclosed action"),
        ("{{if .Status}}\n\n", 1, "has no end"),
        ("\n{{end}}", 2, "unexpected {{end}}"),
        ("{{nope .Status}}", 1, "function 'nope' not defined"),
        ("\n\n{{$x}}", 3, "undefined variable '$x'"),
        ('{{template "x"}}', 1, "not supported"),
    ],
)
def test_template_that_cannot_be_parsed_says_where_and_why(text: str, line: int, reason: str) -> None:
    with pytest.raises(TemplateError) as refused:
        ErrorPage.parse(text, "page.html")
    assert refused.value.line == line
    assert reason in refused.value.reason
    assert str(refused.value) == f"template: page.html:{line}: {refused.value.reason}"


@pytest.mark.parametrize(
    "text",
    [
        "{{.Nope}}",
        "{{.Header.Get}}",
        "{{.Header.Get 1}}",
        "{{.Message.Get}}",
        '{{eq .Status "404"}}',
        "{{index .Status 1}}",
        '{{index (.Header.Values "None") 0}}',
        "{{with .Message}}{{.Status}}{{end}}",
        "{{len .Status}}",
        "{{not}}",
        "{{.Status 1}}",
        "{{range .Status}}{{end}}",
    ],
)
def test_template_that_fails_at_run_time_raises(text: str) -> None:
    page = ErrorPage.parse("<p>\n" + text, "page.html")
    assert page.problem is None
    with pytest.raises(TemplateError, match=r"^template: page\.html:2: "):
        page.render(404, b"Not Found", b"m", [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('\n{{if .Status}}<p title="{{else}}x{{end}}', "template: page.html:2: branches end in different places"),
        ("<p title='", "template: page.html:1: the page ends inside of: attribute"),
        ("<script>f(`{{.Message}}`)</script>", "template: page.html:1: an action inside a JavaScript template"),
        ("<p on{{.Message}}=x>", "template: page.html:1: an action in or right after an attribute name"),
        ('<p "x">', "template: page.html:1: '\"' in a tag"),
        ("{{range .Header}}<p {{end}}>", "template: page.html:1: a range must end where it began"),
    ],
)
def test_page_that_can_never_be_safe_says_so_at_the_start_and_raises(text: str, problem: str) -> None:
    page = ErrorPage.parse(text, "page.html")
    assert str(page.problem).startswith(problem)
    for _ in range(2):
        with pytest.raises(TemplateError) as refused:
            page.render(404, b"Not Found", b"m", [])
        assert refused.value is page.problem
