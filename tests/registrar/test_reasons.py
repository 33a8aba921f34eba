"""Why a connection failed, in words for a log line."""

import errno
import socket

import pytest

from router.registrar.reasons import MOST_CHARS, one_line, reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError("embedded null"), "embedded null"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("a\n  b"), "a b"),
    ],
)
def test_error_is_told_in_its_own_words(error: Exception, reason: str) -> None:
    assert reason_of(error).startswith(reason)


def test_line_holds_nothing_a_terminal_would_obey() -> None:
    assert one_line("a\x1b[31m\r\n\x00b\u2028c") == "a\ufffd[31m \ufffdb c"
    assert len(one_line("x" * 9999)) == MOST_CHARS
