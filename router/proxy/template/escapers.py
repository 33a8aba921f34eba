"""Values to text that is safe where it stands (Go html/template's escapers).

Each escaper suits one kind of place. Byte-exact with Go for HTML text, quoted attributes, URLs and JavaScript
strings; elsewhere at least as hard. A value that fits no safe form becomes `UNSAFE`, as there.
"""

import re

from router.proxy.template.functions import joined
from router.proxy.template.values import Header, Value, octets

UNSAFE = "ZgotmplZ"

_HTML = str.maketrans(
    {"\0": "\ufffd", '"': "&#34;", "&": "&amp;", "'": "&#39;", "+": "&#43;", "<": "&lt;", ">": "&gt;"}
)
_UNQUOTED = _HTML | str.maketrans({character: f"&#{ord(character)};" for character in "\t\n\v\f\r =`"})
_UNQUOTED[0] = "&#xfffd;"
_JS_STRING = str.maketrans(
    {character: f"\\u{ord(character):04x}" for character in "\0\v\"&'+<>`\u2028\u2029"}
    | {"\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", "/": "\\/", "\\": "\\\\"}
)
_CSS_SPECIAL = re.compile(r"([\0\t\n\f\r\"&'()+/:;<>\\{}])(?=([0-9A-Fa-f \t\n\f\r])?)")
_CSS_VALUE = re.compile(r"(?!.*(?:expression|moz-?binding|--))[-0-9A-Za-z .,_#%!]*", re.IGNORECASE)
_URL_UNNORMAL = re.compile(rb"%(?![0-9A-Fa-f]{2})|[^-0-9A-Za-z._~!#$&*+,/:;=?@\[\]%]")
_URL_RESERVED = re.compile(rb"[^-0-9A-Za-z._~]")
_SAFE_SCHEMES = frozenset({"http", "https", "mailto"})


def html(text: str) -> str:
    """Escape for HTML text and quoted attributes."""
    return text.translate(_HTML)


def unquoted(text: str) -> str:
    """Escape for an attribute without quotes, which must not be empty."""
    return text.translate(_UNQUOTED) or UNSAFE


def plain(value: Value) -> str:
    """Return a value as it is printed; nothing for one that is not there."""
    return "" if value is None else joined([value])


def js_string(value: Value) -> str:
    """Escape for the inside of a JavaScript string."""
    return plain(value).translate(_JS_STRING)


def js_pattern(value: Value) -> str:
    """Escape for the inside of a regular expression: every character that is no letter stands for itself."""
    text = plain(value).encode("utf-16-be", "surrogatepass")
    units = [int.from_bytes(text[place : place + 2], "big") for place in range(0, len(text), 2)]
    return "".join(chr(unit) if unit < 128 and chr(unit).isalnum() else f"\\u{unit:04x}" for unit in units)


def js_value(value: Value) -> str:
    """Write a value as JavaScript. What could run into a word beside it has spaces around it."""
    if isinstance(value, str):
        return f'"{js_string(value)}"'
    if isinstance(value, list):
        return f"[{','.join(map(js_value, value))}]"
    if isinstance(value, Header):
        return (
            f"{{{','.join(f'{js_value(name)}:{js_value(value.fields[name])}' for name in sorted(value.fields))}}}"
        )
    if isinstance(value, bool | int):
        return f" {plain(value)} "
    return " null " if value is None else js_value(plain(value))


def css_string(value: Value) -> str:
    """Escape for the inside of a CSS string."""
    return _CSS_SPECIAL.sub(_css_escape, plain(value))


def _css_escape(match: re.Match[str]) -> str:
    escaped = "\\\\" if match[1] == "\\" else f"\\{ord(match[1]):x}"
    return escaped if match[2] is None or match[1] == "\\" else escaped + " "


def css_value(value: Value) -> str:
    """Pass numbers, colours and words; nothing that begins, ends or calls something."""
    text = plain(value)
    return text if _CSS_VALUE.fullmatch(text) is not None else UNSAFE


def url_start(value: Value) -> str:
    """Escape for the beginning of a URL, where a scheme could be: only those pass that run nothing."""
    text = plain(value)
    scheme, colon, _ = text.partition(":")
    if colon and "/" not in scheme and scheme.lower() not in _SAFE_SCHEMES:
        return "#" + UNSAFE
    return _percent(_URL_UNNORMAL, text)


def url_path(value: Value) -> str:
    """Escape for the inside of a URL before its query."""
    return _percent(_URL_UNNORMAL, plain(value))


def url_part(value: Value) -> str:
    """Escape for one value in a URL's query or fragment."""
    return _percent(_URL_RESERVED, plain(value))


def image_set(value: Value) -> str:
    """Escape for ``srcset``: one URL, not several."""
    return url_start(value).replace(",", "%2c")


def _percent(pattern: re.Pattern[bytes], text: str) -> str:
    return pattern.sub(lambda match: b"%%%02x" % match[0][0], octets(text)).decode()


def attribute_name(value: Value) -> str:
    """Pass a name for an attribute that means no script, style or URL."""
    text = plain(value).lower()
    safe = re.fullmatch("[a-z0-9]+", text) and not (_AUTHORS_ONLY.fullmatch(text) or attribute_kind(text))
    return text if safe else UNSAFE


_URL_ATTRIBUTES = re.compile(
    "action|archive|background|cite|classid|codebase|data|formaction|href|icon|longdesc|manifest|poster|profile"
    "|usemap|xmlns|.*(?:src|uri|url).*"
)
_KINDS = {"style": "style", "srcset": "images", "imagesrcset": "images", "srcdoc": "page"}
_AUTHORS_ONLY = re.compile(
    "async|challenge|charset|content|crossorigin|defer|enctype|form.*|http-equiv|keytype|language|method|nonce"
    "|novalidate|pattern|rel|sandbox|type|value"
)


def attribute_kind(name: str) -> str:
    """Return what an attribute's value is: ``url``, ``script``, ``style``, ``images``, ``page`` or nothing."""
    name = name.lower()
    if name.startswith("data-"):
        name = name[5:]
    elif ":" in name:
        space, _, name = name.partition(":")
        if space == "xmlns":
            return "url"
    if name in _KINDS:
        return _KINDS[name]
    if _URL_ATTRIBUTES.fullmatch(name) is not None:
        return "url"
    return "script" if name.startswith("on") else ""
