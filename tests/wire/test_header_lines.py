import pytest

from router.wire import header_lines
from router.wire.header_lines import (
    REQUEST_FIELDS,
    BadMessage,
    LineReader,
    connection_tokens,
    line_name,
    parse_trailers,
)


def read(*raw_lines: bytes) -> tuple[list[bytes], dict[bytes, bytes]]:
    """Return the lines to forward, and the special fields."""
    lines: list[bytes] = []
    special: dict[bytes, bytes] = {}
    LineReader(REQUEST_FIELDS).read(list(raw_lines), 0, lines, special)
    return lines, special


def test_lines_are_forwarded_taken_out_or_both_by_their_names() -> None:
    lines, special = read(b"X-One:  1 ", b"Te: trailers", b"Cookie: a=b")

    assert lines == [b"X-One:  1 ", b"Cookie: a=b"]
    assert special == {b"te": b"trailers", b"cookie": b"a=b"}


def test_members_of_connection_are_told_apart_whatever_their_case() -> None:
    assert connection_tokens(b"Close , X-Foo,") == [b"close", b"x-foo", b""]


def test_memory_of_lines_is_bounded() -> None:
    reader = LineReader({})
    reader.read([b"X-%d: v" % number for number in range(20_000)], 0, [], {})

    assert len(reader._known) <= header_lines._CACHED_LINES


@pytest.mark.parametrize("line", [b"Cookie: secret", b"Authorization: secret", b"Set-Cookie: secret"])
def test_lines_with_secrets_are_not_remembered(line: bytes) -> None:
    reader = LineReader({})
    reader.read([line], 0, [], {})

    assert not reader._known


# Trailers.


def test_trailers_lose_what_frames_or_identifies() -> None:
    raw = b"X-Sum: 1\r\nContent-Length: 3\r\nX-Forwarded-For: me\r\nX_Cf_Applicationid: a\r\nHost: b"

    assert parse_trailers(raw, REQUEST_FIELDS) == [b"X-Sum: 1"]


def test_malformed_trailer_is_refused() -> None:
    with pytest.raises(BadMessage, match="malformed trailer line"):
        parse_trailers(b"X: 1\r\nno colon", REQUEST_FIELDS)


def test_line_name_is_lower_case() -> None:
    assert line_name(b"X-Name: Value:x") == b"x-name"
