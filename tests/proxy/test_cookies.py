import pytest

from router.proxy.cookies import (
    Attributes,
    format_date,
    parse_date,
    read_cookies,
    set_cookie_attributes,
    set_cookie_name,
    write_cookie,
)

DATE = b"Wed, 21 Oct 2026 07:28:00 GMT"
DATE_S = 1792567680


@pytest.mark.parametrize(
    ("field", "cookies"),
    [
        (b"", []),
        (b"a=b", [(b"a", b"b")]),
        (b"a=b; c=d;e=f", [(b"a", b"b"), (b"c", b"d"), (b"e", b"f")]),
        (b" a = b ;; ; c", [(b"a", b" b"), (b"c", b"")]),
        (b'a="quoted value"; b="', [(b"a", b"quoted value")]),
        (b"a=b=c&d", [(b"a", b"b=c&d")]),
        (b"a=1; a=2", [(b"a", b"1"), (b"a", b"2")]),
        (b'a=\xffb; two words=c; =d; b=back\\slash; c=in"side; d=ok', [(b"d", b"ok")]),
    ],
)
def test_cookies_are_those_that_go_reads(field: bytes, cookies: list[tuple[bytes, bytes]]) -> None:
    assert list(read_cookies(field)) == cookies


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b" JSESSIONID=abc; Path=/", b"JSESSIONID"),
        (b"a=", b"a"),
        (b'a="b c"', b"a"),
        (b"nothing", b""),
        (b"", b""),
        (b"two words=a", b""),
        (b"a=\x01", b""),
        (b"; a=b", b""),
    ],
)
def test_name_of_set_cookie_is_empty_where_go_reads_none(value: bytes, name: bytes) -> None:
    assert set_cookie_name(value) == name


def test_attributes_are_read_in_any_case_and_order() -> None:
    value = b"a=b; SECURE ;samesite=LAX; max-age=60; Domain=x; HttpOnly; Partitioned; expires=" + DATE
    assert set_cookie_attributes(value) == Attributes(60, DATE_S, True, b"Lax", True)


def test_attributes_nobody_understands_count_as_absent() -> None:
    assert set_cookie_attributes(b'a=b; max-age="1"; expires=soon; samesite=odd; new') == Attributes()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"1", 1), (b"+7", 7), (b"0", -1), (b"-5", -1), (b"00", -1), (b"05", 0), (b"1_0", 0), (b"1.5", 0), (b"", 0)],
)
def test_max_age_is_read_as_go_does(text: bytes, seconds: int) -> None:
    assert set_cookie_attributes(b"a=b; Max-Age=" + text).max_age == seconds


@pytest.mark.parametrize(
    "text",
    [
        DATE,
        b"Wed, 21-Oct-2026 07:28:00 GMT",
        b"mon, 21 OCT 2026 7:28:00 UTC",
        b"Wed,  21  Oct  2026  07:28:00  PST",
        b"Wed, 21 Oct 2026 07:28:00.25 GMT+3",
        b"Wed, 21 Oct 2026 07:28:00 +00",
    ],
)
def test_date_may_be_written_in_all_ways_go_reads(text: bytes) -> None:
    assert parse_date(text) == DATE_S
    assert format_date(DATE_S) == DATE


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"Wed, 21 Oct 26 07:28:00 GMT",
        b"Wed, 1 Oct 2026 07:28:00 GMT",
        b"Wed, 21-Oct 2026 07:28:00 GMT",
        b"Wed, 21 Oct-2026 07:28:00 GMT",
        b"Wed, 31 Feb 2026 07:28:00 GMT",
        b"Wed, 21 Oct 2026 25:28:00 GMT",
        b"Wed, 21 Oct 2026 07:28:00",
        b"Wed, 21 Oct 2026 07:28:00 GMT x",
        b"Wed, 21 Oct 0000 07:28:00 GMT",
    ],
)
def test_date_go_does_not_read_is_none(text: bytes) -> None:
    assert parse_date(text) is None


def test_date_outside_of_what_cookies_know_is_left_out() -> None:
    assert format_date(parse_date(b"Mon, 01 Jan 1601 00:00:00 GMT") or 0) == b"Mon, 01 Jan 1601 00:00:00 GMT"
    assert format_date(parse_date(b"Sun, 31 Dec 1600 23:59:59 GMT") or 0) == b""
    assert format_date(10**12) == format_date(-(10**12)) == b""


def test_attributes_are_written_in_gos_order() -> None:
    line = write_cookie(b"n", b"v", b"/p", Attributes(60, DATE_S, True, b"None", True))
    expected = b"Path=/p; Expires=" + DATE + b"; Max-Age=60; HttpOnly; Secure; SameSite=None; Partitioned"
    assert line == b"Set-Cookie: n=v; " + expected


def test_deletion_is_written_as_max_age_0() -> None:
    assert write_cookie(b"n", b"v", b"/", Attributes(-1)) == b"Set-Cookie: n=v; Path=/; Max-Age=0; HttpOnly"


def test_value_and_path_hold_no_byte_that_would_end_them() -> None:
    line = write_cookie(b"n", b'a;b"\r\n', b"/p;\xc3x", Attributes())
    assert line == b"Set-Cookie: n=ab; Path=/px; HttpOnly"
    assert write_cookie(b"n", b"a b", b"/", Attributes()) == b'Set-Cookie: n="a b"; Path=/; HttpOnly'
