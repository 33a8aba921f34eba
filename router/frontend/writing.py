"""Heads of HTTP/1 responses as bytes."""

from router.proxy.reply import Reply, reason

_STATUS_LINES: dict[tuple[int, int], bytes] = {}


def _status_line(status: int, minor: int) -> bytes:
    line = _STATUS_LINES.get((status, minor))
    if line is None:
        line = _STATUS_LINES[status, minor] = b"HTTP/1.%d %d %b" % (minor, status, reason(status))
    return line


def response_head(
    status: int, lines: list[bytes], length: int, minor: int, keep_alive: bool, chunked: bool
) -> bytes:
    """Build a final response head.

    Args:
        lines: header lines without framing and Connection.
        length: Content-Length; negative for none.
        minor: of the client's HTTP/1 version.
        keep_alive: whether the connection stays open afterwards.
        chunked: the body will be chunked.
    """
    parts = [_status_line(status, minor)]
    parts += lines
    if chunked:
        parts.append(b"Transfer-Encoding: chunked")
    elif length >= 0:
        parts.append(b"Content-Length: %d" % length)
    if not keep_alive:
        parts.append(b"Connection: close")
    elif not minor:
        parts.append(b"Connection: keep-alive")
    parts.append(b"\r\n")
    return b"\r\n".join(parts)


def interim_head(status: int, lines: list[bytes]) -> bytes:
    """Build a 1xx response."""
    return b"\r\n".join([_status_line(status, 1), *lines, b"\r\n"])


def switch_head(lines: list[bytes]) -> bytes:
    """Build a 101 response; ``lines`` hold the Upgrade field."""
    return b"\r\n".join([_status_line(101, 1), b"Connection: Upgrade", *lines, b"\r\n"])


def refusal(answer: Reply, date: bytes) -> bytes:
    """Build a whole answer to what never became a request.

    A body that begins with the status is the status line, too: there, as well, Gorouter says what is wrong
    (GOROUTER.md §5.1).

    Args:
        date: the Date line.
    """
    told = answer.body.startswith(b"%d " % answer.status)
    parts = [
        b"HTTP/1.1 " + answer.body if told else _status_line(answer.status, 1),
        *answer.lines,
        date,
        b"Content-Length: %d" % len(answer.body),
        b"Connection: close",
        b"\r\n",
    ]
    return b"\r\n".join(parts) + answer.body
