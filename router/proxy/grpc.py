"""The router's own answers to gRPC calls, in the terms of gRPC.

Its clients look for ``grpc-status``; of an answer without one they say little more than that it was none. The HTTP
status stays what it is for everybody else.
"""

import re
from dataclasses import replace

from router.proxy.reply import Reply
from router.wire.header_lines import line_name
from router.wire.http1 import RequestHead, first_value

_STATUSES = {
    400: b"13",  # INTERNAL
    401: b"16",  # UNAUTHENTICATED
    403: b"7",  # PERMISSION_DENIED
    404: b"12",  # UNIMPLEMENTED
    499: b"1",  # CANCELLED
    502: b"14",  # UNAVAILABLE
    503: b"14",
    525: b"14",
    526: b"14",
}
"""What gRPC makes of HTTP statuses (its http-grpc-status-mapping.md); of our own ones, what comes closest."""
_UNKNOWN = b"2"
_OF_THE_BODY = frozenset({b"content-type", b"x-content-type-options"})
_NOT_IN_MESSAGE = re.compile(rb"[^\x20-\x24\x26-\x7e]")


def is_call(head: RequestHead) -> bool:
    """Whether a request is a gRPC call; gRPC-Web is something else."""
    kind = first_value(head, b"content-type").lower()
    return kind == b"application/grpc" or kind.startswith((b"application/grpc+", b"application/grpc;"))


def as_trailers_only(plain: Reply) -> Reply:
    """Return the same answer with all in the head and no body (gRPC over HTTP/2, "Trailers-Only")."""
    message = _NOT_IN_MESSAGE.sub(lambda match: b"%%%02X" % match[0][0], plain.body.strip())
    lines = [line for line in plain.lines if line_name(line) not in _OF_THE_BODY]
    lines.append(b"Content-Type: application/grpc")
    lines.append(b"Grpc-Status: " + _STATUSES.get(plain.status, _UNKNOWN))
    if message:
        lines.append(b"Grpc-Message: " + message)
    return replace(plain, lines=lines, body=b"", message=b"")
