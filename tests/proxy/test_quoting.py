import pytest

from router.proxy.quoting import quote


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        (b"", b'"-"'),
        (b"plain text!", b'"plain text!"'),
        (b'a"b', b'"a\\"b"'),
        (b"a\\b", b'"a\\\\b"'),
        (b"\a\b\f\n\r\t\v", b'"\\a\\b\\f\\n\\r\\t\\v"'),
        (b"\x00\x1b\x7f", b'"\\x00\\x1b\\x7f"'),
        (b"\xff\xfe", b'"\\xff\\xfe"'),
        ("ü€😀".encode(), '"ü€😀"'.encode()),
        ("\u200b".encode(), b'"\\u200b"'),
        ("\u00a0".encode(), b'"\\u00a0"'),
        ("\U000e0001".encode(), b'"\\U000e0001"'),
        (b"half \xe2\x82", b'"half \\xe2\\x82"'),
    ],
)
def test_value_is_quoted_as_go_does(value: bytes, quoted: bytes) -> None:
    assert quote(value) == quoted


def test_no_byte_can_end_the_quotes_or_the_line() -> None:
    for byte in range(256):
        inside = quote(b"a%bb" % bytes([byte]))[1:-1]
        assert b"\n" not in inside
        assert b'"' not in inside.replace(b'\\"', b"")
