"""What a template can get hold of: an error, its response's header, and constants; and Go's words for them."""

from router.proxy.quoting import quote


class RenderError(Exception):
    """The template asks for something that does not work; what it is, is known only when it runs.

    Attributes:
        line: of the action, once that is known.
    """

    line = 0


class Header:
    """The response's header lines by canonical name, as Go's http.Header."""

    __slots__ = ("fields",)

    def __init__(self, lines: list[bytes]) -> None:
        self.fields: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(b":")
            text = value.strip(b" \t").decode("utf-8", "replace")
            self.fields.setdefault(canonical(name.decode("latin-1")), []).append(text)

    def values(self, name: str) -> list[str]:
        """Return all values of a name in any case."""
        return self.fields.get(canonical(name), [])


class Failure:
    """The error a page is about.

    Attributes:
        status: status code.
        status_text: reason phrase.
        message: what went wrong, for people.
    """

    __slots__ = ("header", "message", "status", "status_text")

    def __init__(self, status: int, status_text: str, message: str, header: Header) -> None:
        self.status = status
        self.status_text = status_text
        self.message = message
        self.header = header


Value = None | bool | int | str | list[str] | Header | Failure
"""Everything an expression can be."""


def canonical(name: str) -> str:
    """Return a header name as Go spells it: ``x-cf-routererror`` is ``X-Cf-Routererror``."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def type_name(value: Value) -> str:
    """Return the Go type, for error messages and bad format verbs."""
    if value is None:
        return "<nil>"
    names = {bool: "bool", int: "int", str: "string", list: "[]string", Header: "http.Header"}
    return names.get(type(value), "error page")


def is_true(value: Value) -> bool:
    """Return what ``if`` makes of a value: zero and empty are false."""
    if isinstance(value, Header):
        return bool(value.fields)
    return isinstance(value, Failure) or bool(value)


def field(value: Value, name: str) -> Value:
    """Return ``value.name``. Raises `RenderError`."""
    if isinstance(value, Failure):
        members: dict[str, Value] = {
            "Status": value.status,
            "StatusText": value.status_text,
            "Message": value.message,
            "Header": value.header,
        }
        if name in members:
            return members[name]
    elif isinstance(value, Header):
        return value.fields.get(name)
    raise RenderError(f"can't evaluate field {name} in type {type_name(value)}")


def method(header: Header, name: str, arguments: list[Value]) -> Value:
    """Call ``.Header.Get`` or ``.Header.Values``. Raises `RenderError`."""
    if len(arguments) != 1:
        raise RenderError(f"wrong number of args for {name}: want 1 got {len(arguments)}")
    wanted = arguments[0]
    if not isinstance(wanted, str):
        raise RenderError(f"wrong type for value; expected string; got {type_name(wanted)}")
    found = header.values(wanted)
    if name == "Values":
        return found
    return found[0] if found else ""


METHODS = frozenset({"Get", "Values"})


def shown(value: Value) -> str:
    """Return a value as ``%v`` writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{' '.join(value)}]"
    if isinstance(value, Header):
        return f"map[{' '.join(f'{name}:{shown(value.fields[name])}' for name in sorted(value.fields))}]"
    if isinstance(value, Failure):
        return f"{{{value.status} {value.status_text} {value.message} {shown(value.header)}}}"
    return "<nil>" if value is None else str(value)


def quoted(text: str) -> str:
    """Return a string as ``%q`` writes it."""
    return quote(octets(text)).decode() if text else '""'


def octets(text: str) -> bytes:
    """Return text as bytes; those of the template that were no text are what they were."""
    return text.encode("utf-8", "surrogateescape")
