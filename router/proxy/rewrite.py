"""Header fields on their way through: what an endpoint and a client get to see (GOROUTER.md §5.3, 5.4).

Plain functions from a parsed head to bytes. One law: what the router vouches for is written here and nowhere else,
after everything the client could have said about it has been taken out.
"""

from dataclasses import dataclass

from router.wire.header_lines import connection_tokens, line_name
from router.wire.http1 import CHUNKED, LENGTH, RequestHead, ResponseHead

_HARMLESS_TOKENS = frozenset({b"keep-alive", b"close", b"upgrade", b"te", b""})
"""Options that say nothing about a field which would otherwise go on. Whoever sends TE has to list it here
(RFC 9110 §10.1.4), and ``trailers`` goes on all the same."""
_UNLISTABLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})
"""Fields that frame or route this message cannot be declared to be hop-by-hop."""
_LENGTH_EXPECTED = frozenset({b"POST", b"PUT", b"PATCH"})
"""Methods whose servers want to be told that there is no body (RFC 9110 §8.6); some answer 411 otherwise."""
_LOGGED = frozenset({b"user-agent", b"referer"})
"""What the access log says does not depend on a client's Connection field."""


ALWAYS_FORWARD, FORWARD, SANITIZE_SET = "always_forward", "forward", "sanitize_set"
"""What becomes of X-Forwarded-Client-Cert (GOROUTER.md §9.4)."""


@dataclass(frozen=True, slots=True)
class RewriteOptions:
    """Configuration of the header rules.

    Attributes:
        force_https: X-Forwarded-Proto is always ``https``.
        sanitize_proto: what a client says in X-Forwarded-Proto is not believed.
        kept_from_connection: lower-case names that ``Connection`` may not make disappear.
        close: endpoints are told to close after the response.
        client_cert: `ALWAYS_FORWARD`, `FORWARD` or `SANITIZE_SET`.
    """

    force_https: bool
    sanitize_proto: bool
    kept_from_connection: frozenset[bytes]
    close: bool
    client_cert: str = "always_forward"


def strip_listed(head: RequestHead, options: RewriteOptions) -> None:
    """Drop the fields that the request's Connection field lists (RFC 9110 §7.6.1), but none that is protected."""
    listed = {
        token
        for token in connection_tokens(head.special[b"connection"])
        if token not in _HARMLESS_TOKENS and token not in _UNLISTABLE and token not in options.kept_from_connection
    }
    if not listed:
        return
    # New values, not changed ones: the next head on the connection may share the old ones.
    head.lines = [line for line in head.lines if line_name(line) not in listed]
    gone = listed - _LOGGED
    head.special = {name: value for name, value in head.special.items() if name not in gone}


def forwarded_for(head: RequestHead, peer_ip: bytes) -> bytes:
    """Return X-Forwarded-For as an endpoint gets it: the client's address appended to what was claimed."""
    claimed = head.special.get(b"x-forwarded-for")
    return claimed + b", " + peer_ip if claimed else peer_ip


def forwarded_proto(head: RequestHead, secure: bool, options: RewriteOptions) -> bytes:
    """Return X-Forwarded-Proto as an endpoint gets it."""
    if options.force_https:
        return b"https"
    if not options.sanitize_proto:
        claimed = head.special.get(b"x-forwarded-proto")
        if claimed:
            return claimed
    return b"https" if secure else b"http"


def forward_client_cert(head: RequestHead, mode: str, presented: bytes) -> None:
    """Believe X-Forwarded-Client-Cert only as far as the mode says.

    Args:
        presented: base64 of the DER certificate that this connection's client presented; empty if none.
    """
    if mode == ALWAYS_FORWARD or (mode == FORWARD and presented):
        return
    head.lines = [line for line in head.lines if line_name(line) != b"x-forwarded-client-cert"]
    if mode == SANITIZE_SET and presented:
        head.lines.append(b"X-Forwarded-Client-Cert: " + presented)


def websocket_token(head: RequestHead) -> bytes:
    """Return the Upgrade token, in the client's spelling, if this request asks for a WebSocket; else nothing.

    Only GET over HTTP/1.1 can (RFC 6455 §4.1). Every other protocol a client asks to switch to is ignored, which
    RFC 9110 §7.8 allows: tunnelling ``h2c`` would let requests pass the router unseen. Gorouter tunnels any token.
    """
    token = head.special.get(b"upgrade", b"")
    if token.lower() != b"websocket" or head.method != b"GET" or head.minor == 0:
        return b""
    if b"upgrade" not in connection_tokens(head.special.get(b"connection", b"")):
        return b""
    return token


def request_prefix(
    head: RequestHead,
    options: RewriteOptions,
    forwarded: tuple[bytes, bytes],
    request_id: bytes,
    received_ms: int,
    upgrade: bytes,
) -> bytes:
    """Build the request head up to the lines that differ from endpoint to endpoint.

    Args:
        forwarded: X-Forwarded-For and X-Forwarded-Proto; the latter may be empty, which leaves it out.
        upgrade: the token of `websocket_token`.
    """
    special = head.special
    parts = [b"%b %b HTTP/1.1\r\nHost: %b" % (head.method, head.target, head.host)]
    parts += head.lines
    rare = head.rare
    if not rare or b"x-request-start" not in special:
        parts.append(b"X-Request-Start: %d" % received_ms)
    framing = head.framing
    if framing == LENGTH:
        parts.append(b"Content-Length: %d" % head.length)
    elif framing == CHUNKED:
        parts.append(b"Transfer-Encoding: chunked")
        if b"trailer" in special:
            parts.append(b"Trailer: " + special[b"trailer"])
    elif b"content-length" in special or head.method in _LENGTH_EXPECTED:
        parts.append(b"Content-Length: 0")
    if rare:
        if b"te" in special and b"trailers" in connection_tokens(special[b"te"]):
            parts.append(b"Te: trailers")
        if b"expect" in special and head.minor:
            parts.append(b"Expect: 100-continue")
    if upgrade:
        parts.append(b"Connection: Upgrade\r\nUpgrade: " + upgrade)
    elif options.close:
        parts.append(b"Connection: close")
    if not forwarded[1]:
        parts.append(b"X-Forwarded-For: %b\r\nX-Vcap-Request-Id: %b\r\n" % (forwarded[0], request_id))
        return b"\r\n".join(parts)
    parts.append(
        b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Vcap-Request-Id: %b\r\n"
        % (forwarded[0], forwarded[1], request_id)
    )
    return b"\r\n".join(parts)


def response_lines(head: ResponseHead, request_id: bytes, date: bytes) -> list[bytes]:
    """Return the lines of a response as the client gets them, without framing and Connection.

    Args:
        date: a Date line for backends that sent none.
    """
    special = head.special
    lines = [*head.lines]
    if b"connection" in special and special[b"connection"] not in (b"keep-alive", b"close"):
        listed = set(connection_tokens(special[b"connection"])) - _HARMLESS_TOKENS - _UNLISTABLE
        if listed:
            lines = [line for line in lines if line_name(line) not in listed]
    if b"trailer" in special and head.framing == CHUNKED:
        lines.append(b"Trailer: " + special[b"trailer"])
    if b"x-vcap-request-id" not in special:
        lines.append(b"X-Vcap-Request-Id: " + request_id)
    if b"date" not in special:
        lines.append(date)
    return lines


def header_size(head: RequestHead) -> int:
    """Return the size that ``max_request_header_bytes`` limits: Gorouter's formula counts the request line and
    each header line with its line end, which is the received head as long as nobody pads values with spaces."""
    return head.size + 2


def header_count(head: RequestHead) -> int:
    """Return the number of header lines that ``max_request_headers`` limits; Host is not one of them."""
    return head.count - (1 if b"host" in head.special else 0)
