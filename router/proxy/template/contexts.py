"""Where in an HTML page one is: text to contexts, and contexts to the escaping they need.

Follows a page's literal text through HTML, and through the scripts, styles and URLs in it, as far as it takes to
know what a value put there could do. Where that cannot be known, `ContextError` says so instead of guessing.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from router.proxy.template import escapers
from router.proxy.template.values import Value

Escaper = Callable[[Value], str]

TEXT, COMMENT, RAW, TAG, NAME, AFTER_NAME, BEFORE_VALUE, VALUE = (
    "text",
    "comment",
    "element",
    "tag",
    "attribute name",
    "attribute name's end",
    "attribute's beginning",
    "attribute",
)
CODE = ""

_TAG_START = re.compile(r"<(?:(!--)|(/?)([A-Za-z][A-Za-z0-9]*(?:[:-][A-Za-z0-9]+)*))")
_STRAY = re.compile(r"<(?!!doctype)", re.IGNORECASE)
_NAME = re.compile(r"[^ \t\r\n\f=>\"'<]+")
_NAME_GOES_ON = re.compile(r"[^ \t\r\n\f=>\"'</]")
_SPACE = re.compile(r"[ \t\r\n\f]*")
_UNQUOTED_END = re.compile(r"[ \t\r\n\f>]")
_RAW_KINDS = {"script": "script", "style": "style"}
_RAW_ELEMENTS = frozenset({"script", "style", "textarea", "title"})
_REGEX_BEFORE = re.compile(
    r"(?:^|[=(\[{},;:!&|?+*%<>~^\-]|\b(?:return|typeof|case|in|of|do|else|void|delete|throw|new))$"
)
_SCRIPT_MARK = re.compile(r"//|/\*|<!--|[\"'`/]")
_STYLE_MARK = re.compile(r"/\*|[\"']")
_INNER_END = {
    '"': re.compile(r'(?:[^"\\]|\\.)*?(")', re.DOTALL),
    "'": re.compile(r"(?:[^'\\]|\\.)*?(')", re.DOTALL),
    # A substitution with braces or back quotes of its own is not followed: the literal seems to go on then, and
    # every action in the rest of the script is refused.
    "`": re.compile(r"(?:[^`\\$]|\\.|\$(?!\{)|\$\{[^`{}]*\})*?(`)", re.DOTALL),
    "/": re.compile(r"(?:[^/\\\[]|\\.|\[(?:[^\]\\]|\\.)*\])*?(/)", re.DOTALL),
    "//": re.compile(r"[^\r\n\u2028\u2029]*([\r\n\u2028\u2029])"),
    "/*": re.compile(r".*?(\*/)", re.DOTALL),
}
_NAME_OPEN = "<"
"""Stands before a place where letters would belong to a name that text before it began."""
_UNSURE = "\0"
_REMEMBERED = 12
"""Characters of a script before a slash that tell a division from a regular expression."""


class ContextError(Exception):
    """What a value would do there cannot be known."""


@dataclass(frozen=True, slots=True)
class Context:
    """A place in a page.

    Attributes:
        state: one of the states above.
        element: the raw element one is in, or whose start tag one is in; empty for all others.
        attribute: what the attribute's value is, as `escapers.attribute_kind` says.
        quote: around the attribute's value; empty if there are none.
        inner: place in a script or style: `CODE`, or what began the string, comment or regular expression.
        before: the end of the script's code so far, or what there is of an attribute's name.
        part: of a URL: empty at its start, ``path``, ``query`` or ``unknown``.
    """

    state: str = TEXT
    element: str = ""
    attribute: str = ""
    quote: str = ""
    inner: str = CODE
    before: str = ""
    part: str = ""


def advance(context: Context, text: str) -> tuple[Context, str]:
    """Return where literal text leads to, and what is sent of it. Raises `ContextError`.

    As in Go, HTML comments are left out and a ``<`` that begins no tag is escaped.
    """
    out: list[str] = []
    position = 0
    while position < len(text):
        context, position = _STEPS[context.state](context, text, position, out)
    return context, "".join(out)


def _in_text(context: Context, text: str, position: int, out: list[str]) -> tuple[Context, int]:
    match = _TAG_START.search(text, position)
    if match is None:
        out.append(_STRAY.sub("&lt;", text[position:]))
        return context, len(text)
    out.append(_STRAY.sub("&lt;", text[position : match.start()]))
    if match[1]:
        return Context(COMMENT), match.end()
    out.append(match[0])
    name = match[3].lower()
    element = name if not match[2] and name in _RAW_ELEMENTS else ""
    return Context(TAG, element, before=_NAME_OPEN if match.end() == len(text) else ""), match.end()


def _in_comment(context: Context, text: str, position: int, out: list[str]) -> tuple[Context, int]:
    end = text.find("-->", position)
    return (context, len(text)) if end < 0 else (Context(), end + 3)


def _in_tag(context: Context, text: str, position: int, out: list[str]) -> tuple[Context, int]:
    _check_name_ended(context, text, position)
    position = _copy_space(text, position, out)
    if position == len(text):
        return Context(TAG, context.element), position
    if text[position] == ">":
        out.append(">")
        return (Context(RAW, context.element) if context.element else Context()), position + 1
    match = _NAME.match(text, position)
    if match is None:
        raise ContextError(f"{text[position]!r} in a tag where an attribute or > should be")
    return Context(NAME, context.element), position


def _check_name_ended(context: Context, text: str, position: int) -> None:
    if context.before == _NAME_OPEN and _NAME_GOES_ON.match(text, position) is not None:
        raise ContextError("a name of a tag or attribute in pieces")


def _in_name(context: Context, text: str, position: int, out: list[str]) -> tuple[Context, int]:
    match = _NAME.match(text, position)
    if match is None:
        return replace(context, state=AFTER_NAME, before=""), position
    out.append(match[0])
    name = context.before + match[0]
    return replace(context, before=name, attribute=escapers.attribute_kind(name)), match.end()


def _after_name(context: Context, text: str, position: int, out: list[str]) -> tuple[Context, int]:
    _check_name_ended(context, text, position)
    position = _copy_space(text, position, out)
    if position == len(text):
        return replace(context, before=""), position
    if text[position] != "=":
        return Context(TAG, context.element), position
    out.append("=")
    return replace(context, state=BEFORE_VALUE, before=""), position + 1


def _before_value(context: Context, text: str, position: int, out: list[str]) -> tuple[Context, int]:
    position = _copy_space(text, position, out)
    if position == len(text):
        return context, position
    quote = text[position]
    if quote == ">":
        return Context(TAG, context.element), position
    if quote in "\"'":
        out.append(quote)
        return replace(context, state=VALUE, quote=quote), position + 1
    return replace(context, state=VALUE), position


def _in_value(context: Context, text: str, position: int, out: list[str]) -> tuple[Context, int]:
    if context.quote:
        end = text.find(context.quote, position)
        after = end + 1
    else:
        match = _UNQUOTED_END.search(text, position)
        end = after = -1 if match is None else match.start()
    if end < 0:
        out.append(text[position:])
        return _follow(context, context.attribute, html.unescape(text[position:])), len(text)
    out.append(text[position:after])
    return Context(TAG, context.element), after


def _in_raw(context: Context, text: str, position: int, out: list[str]) -> tuple[Context, int]:
    """Go through an element whose content is no HTML, to its end tag."""
    match = re.compile(rf"</{context.element}(?=[ \t\r\n\f/>]|$)", re.IGNORECASE).search(text, position)
    end = len(text) if match is None else match.start()
    content = text[position:end]
    kind = _RAW_KINDS.get(context.element, "")
    out.append(content if kind else _STRAY.sub("&lt;", content))
    if match is None:
        last = content.rfind("</")
        if last >= 0 and f"</{context.element}".startswith(content[last:].lower()):
            raise ContextError("an end tag in pieces")
        return _follow(context, kind, content), end
    out.append(match[0])
    return Context(TAG, before=_NAME_OPEN if match.end() == len(text) else ""), match.end()


_STEPS: dict[str, Callable[[Context, str, int, list[str]], tuple[Context, int]]] = {
    TEXT: _in_text,
    COMMENT: _in_comment,
    RAW: _in_raw,
    TAG: _in_tag,
    NAME: _in_name,
    AFTER_NAME: _after_name,
    BEFORE_VALUE: _before_value,
    VALUE: _in_value,
}


def _copy_space(text: str, position: int, out: list[str]) -> int:
    match = _SPACE.match(text, position)
    assert match is not None
    out.append(match[0])
    return match.end()


def _follow(context: Context, kind: str, text: str) -> Context:
    """Follow text inside a script, style or URL."""
    if kind == "script":
        return _follow_code(context, text, _SCRIPT_MARK)
    if kind == "style":
        return _follow_code(context, text, _STYLE_MARK)
    if kind in ("url", "images"):
        return _follow_url(context, text)
    return context


def _follow_url(context: Context, text: str) -> Context:
    if "?" in text or "#" in text:
        return replace(context, part="query")
    if text.strip() and not context.part:
        return replace(context, part="path")
    return context


def _follow_code(context: Context, text: str, marks: re.Pattern[str]) -> Context:
    inner, before, position = context.inner, context.before, 0
    while position < len(text):
        if inner != CODE:
            end = _INNER_END[inner].match(text, position)
            if end is None:
                break
            position = end.end()
            before = before if inner in ("//", "/*") else '"'
            inner = CODE
            continue
        mark = marks.search(text, position)
        code = text[position : len(text) if mark is None else mark.start()]
        before = (before + code).rstrip()[-_REMEMBERED:]
        if mark is None:
            break
        position = mark.end()
        inner = _begun_by(mark[0], before)
        if inner == CODE:
            before += "/"
    return replace(context, inner=inner, before=before)


def _begun_by(mark: str, before: str) -> str:
    """Return what a mark begins; a slash after a value divides and begins nothing."""
    if mark == "/" and before.endswith(_UNSURE):
        raise ContextError("a slash that may divide or begin a regular expression, depending on a branch")
    if mark == "/" and _REGEX_BEFORE.search(before) is None:
        return CODE
    return "//" if mark == "<!--" else mark


def escaper(context: Context) -> tuple[Escaper, Context]:
    """Return how a value is escaped there, and the place after it. Raises `ContextError`."""
    state = context.state
    if state == TEXT:
        return _as_html, context
    if state == COMMENT:
        return _nothing, context
    if state == RAW:
        return _within(_RAW_KINDS.get(context.element, "page"), context), replace(context, before='"')
    if state == TAG:
        return escapers.attribute_name, Context(TAG, context.element)
    if state in (NAME, AFTER_NAME):
        raise ContextError(f"an action in or right after an {NAME}")
    after = replace(context, state=VALUE, part=context.part or "path", before='"')
    return _quoted(_within(context.attribute, context), context.quote), after


def _quoted(within: Escaper, quote: str) -> Escaper:
    """Escape for an attribute what has been escaped for what the attribute means."""
    around = escapers.html if quote else escapers.unquoted
    return lambda value: around(within(value))


def _within(kind: str, context: Context) -> Escaper:
    if kind == "script":
        return _within_script(context)
    if kind == "style":
        return _within_style(context)
    if kind == "url":
        return _URL_PARTS[context.part]
    if kind == "images":
        return escapers.image_set
    return _as_html if kind == "page" else escapers.plain


def _within_script(context: Context) -> Escaper:
    if context.inner == "`":
        raise ContextError("an action inside a JavaScript template literal")
    if context.inner == "/":
        return escapers.js_pattern
    return _SCRIPT[context.inner]


def _within_style(context: Context) -> Escaper:
    return _STYLE[context.inner]


def _as_html(value: Value) -> str:
    return escapers.html(escapers.plain(value))


def _nothing(value: Value) -> str:
    return ""


_URL_PARTS: dict[str, Escaper] = {
    "": escapers.url_start,
    "path": escapers.url_path,
    "query": escapers.url_part,
    "unknown": escapers.url_part,
}
_SCRIPT: dict[str, Escaper] = {
    CODE: escapers.js_value,
    '"': escapers.js_string,
    "'": escapers.js_string,
    "//": _nothing,
    "/*": _nothing,
}
_STYLE: dict[str, Escaper] = {
    CODE: escapers.css_value,
    '"': escapers.css_string,
    "'": escapers.css_string,
    "//": _nothing,
    "/*": _nothing,
}


def unsure(context: Context) -> Context:
    """Return the place when it is not known what code came before it."""
    return replace(context, before=_UNSURE) if context.state in (RAW, VALUE) else context


def join(left: Context, right: Context) -> Context:
    """Return where one is after either of two branches. Raises `ContextError` if that would be two places."""
    if left == right:
        return left
    left, right = _settled(left, right.state), _settled(right, left.state)
    if replace(left, before="") == replace(right, before=""):
        return unsure(left) if left.state in (RAW, VALUE) else replace(left, before=left.before or right.before)
    if replace(left, part="", before="") == replace(right, part="", before=""):
        return replace(unsure(left), part="unknown")
    raise ContextError(f"branches end in different places: {_described(left)}, and {_described(right)}")


def _settled(context: Context, beside: str) -> Context:
    """Take a name that may go on for one that must not; beside a branch without one, for one without a value."""
    if context.state not in (NAME, AFTER_NAME):
        return context
    before = _NAME_OPEN if context.state == NAME else ""
    if beside in (NAME, AFTER_NAME):
        return replace(context, state=AFTER_NAME, before=before)
    return Context(TAG, context.element, before=before)


def _described(context: Context) -> str:
    return f"{context.state} {context.element or context.attribute}".strip()
