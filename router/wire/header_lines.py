"""Header lines of HTTP/1: the grammar of one line, and what a proxy does with it by its name.

Owns which fields a proxy deals with, and what a repeated one means; owns neither start lines nor framing
(`wire.http1`).

Lines are kept as the bytes they arrived as. Lines whose name matters to a proxy are taken out into ``special``;
all others go through untouched. Peers repeat most of their lines word for word from message to message, so what a
line was found to be is remembered by its bytes: a known line costs one dictionary access instead of a match, a
lower-casing and a look-up (1.9 against 5.1 µs for a head of ten lines, CPython 3.11).
"""

import re

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_LINE = re.compile(rb"(" + TOKEN + rb"):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)")
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+;=%]*+|\[[0-9A-Fa-f:.%a-z]++\])(?::[0-9]*+)?")

# What is done with a line whose name a proxy knows: COLLECT takes it out of the forwarded lines, WATCH copies its
# value and forwards the line as it is, DROP forgets it.
COLLECT, WATCH, DROP = 1, 2, 3

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""Fields that end at this hop (RFC 9110 §7.6.1); HTTP2-Settings only has a meaning with Upgrade: h2c."""

REQUEST_FIELDS: dict[bytes, int] = {
    **dict.fromkeys(HOP_BY_HOP, COLLECT),
    b"host": COLLECT,
    b"content-length": COLLECT,
    b"expect": COLLECT,
    b"x-forwarded-for": COLLECT,
    b"x-forwarded-proto": COLLECT,
    b"x-request-start": WATCH,
    b"x-vcap-request-id": COLLECT,
    b"x-cf-applicationid": COLLECT,
    b"x-cf-instanceid": COLLECT,
    b"x-cf-instanceindex": COLLECT,
    b"x-cf-app-instance": COLLECT,
    b"x-cf-process-instance": WATCH,
    b"x-vcap-trace": WATCH,
    b"cookie": WATCH,
    b"authorization": WATCH,
    b"x-cf-forwarded-url": WATCH,
    b"x-cf-proxy-signature": WATCH,
    b"x-cf-proxy-metadata": WATCH,
    b"x-cf-caller-app": COLLECT,
    b"x-cf-caller-space": COLLECT,
    b"x-cf-caller-org": COLLECT,
    b"x-cf-caller-instance": COLLECT,
    b"user-agent": WATCH,
    b"referer": WATCH,
    b"idempotency-key": WATCH,
    b"x-idempotency-key": WATCH,
}
RESPONSE_FIELDS: dict[bytes, int] = {
    **dict.fromkeys(HOP_BY_HOP, COLLECT),
    b"content-length": COLLECT,
    b"x-cf-proxy-signature": COLLECT,
    b"x-cf-routererror": WATCH,
    b"x-vcap-request-id": WATCH,
    b"date": WATCH,
    b"set-cookie": WATCH,
    b"www-authenticate": WATCH,
}
_JOINED = HOP_BY_HOP | {b"x-forwarded-for", b"expect", b"www-authenticate"}
_VOLATILE = frozenset({b"cookie", b"set-cookie", b"authorization", b"proxy-authorization", b"etag"})
"""Lines that differ from message to message; remembering them would only push others out."""

_CACHED_LINE_BYTES = 256
_CACHED_LINES = 8192

Field = tuple[bytes, bytes, int]
"""Lower-case name, value without surrounding white space, action; plain lines have action 0."""


class BadMessage(Exception):
    """The peer sent something that is not HTTP/1 as we accept it; the connection cannot go on.

    Attributes:
        status: what to answer, if it was a request.
        reason: one sentence for the log, and for the client where Gorouter sends one.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class LineReader:
    """Classifies header lines, remembering what it has seen. One per direction and process."""

    def __init__(self, fields: dict[bytes, int]) -> None:
        self._fields = fields
        self._known: dict[bytes, Field | None] = {}

    def read(self, raw_lines: list[bytes], first: int, lines: list[bytes], special: dict[bytes, bytes]) -> None:
        """Sort ``raw_lines[first:]`` into lines to forward and special fields.

        Repeated special fields that are lists are joined with ``, ``; of others the first counts, but two
        different Content-Length and any second Host are errors. Raises `BadMessage`.
        """
        known = self._known
        for index in range(first, len(raw_lines)):
            line = raw_lines[index]
            field = known[line] if line in known else self._classify(line)
            if field is None:
                lines.append(line)
                continue
            name = field[0]
            if field[2] == DROP:
                continue
            if name in special:
                _repeat(special, name, field[1])
            else:
                special[name] = field[1]
            if field[2] == WATCH:
                lines.append(line)

    def _classify(self, line: bytes) -> Field | None:
        match = _LINE.fullmatch(line)
        if match is None:
            raise BadMessage(400, "malformed header line")
        name = match[1].lower()
        action = self._fields.get(name, 0)
        field: Field | None = None
        if not action and b"_" in name and _vouched_for(name.replace(b"_", b"-"), self._fields):
            field = (name, b"", DROP)
        elif action:
            value = match[2].rstrip(b" \t")
            if name == b"host":
                value = checked_host(value)
            elif name == b"expect" and not value:
                # An empty list expects nothing.
                action = DROP
            field = (name, value, action)
        if len(line) <= _CACHED_LINE_BYTES and name not in _VOLATILE:
            if len(self._known) >= _CACHED_LINES:
                self._known.clear()
            self._known[line] = field
        return field


def _vouched_for(name: bytes, fields: dict[bytes, int]) -> bool:
    """Whether a field frames the message or is one an app may trust the router for.

    Apps that see headers as environment variables (CGI, WSGI, PHP) cannot tell ``X_Forwarded_For`` from
    ``X-Forwarded-For``, so such look-alikes must not get through.
    """
    return name in fields or name.startswith((b"x-forwarded-", b"x-cf-", b"x-vcap-"))


def _repeat(special: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    if name in _JOINED:
        special[name] += b", " + value
    elif name == b"cookie":
        special[name] += b"; " + value
    elif name == b"host":
        raise BadMessage(400, "too many Host headers")
    elif name == b"content-length" and special[name] != value:
        raise BadMessage(400, "conflicting Content-Length headers")


def checked_host(value: bytes) -> bytes:
    """Return the value of a Host field or an authority. Raises `BadMessage` if it can be neither."""
    if _HOST.fullmatch(value) is None:
        raise BadMessage(400, "malformed Host header")
    return value


def connection_tokens(value: bytes) -> list[bytes]:
    """Return the members of a Connection field (RFC 9110 §7.6.1), lower-case."""
    return [token.strip(b" \t") for token in value.lower().split(b",")]


def line_name(line: bytes) -> bytes:
    """Return the lower-case name of a header line that has been parsed."""
    return line[: line.index(b":")].lower()


def parse_trailers(raw: bytes, fields: dict[bytes, int]) -> list[bytes]:
    """Parse a trailer section without its final empty line into lines to forward.

    Fields that frame, route or identify a message have no business in trailers (RFC 9110 §6.5.1) and are left
    out: those in ``fields`` and everything the router itself vouches for. Raises `BadMessage`.
    """
    trailers = []
    for line in raw.split(b"\r\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            raise BadMessage(400, "malformed trailer line")
        name = match[1].lower()
        if not _vouched_for(name.replace(b"_", b"-"), fields):
            trailers.append(line)
    return trailers
