import pytest

from router.proxy.log_extras import SHORT_URI_BYTES, redact, shorten, shorten_headers


def test_a_redacted_query_is_gone_with_its_question_mark() -> None:
    assert redact(b"/a/b?name=peter", "all") == b"/a/b"


def test_a_hashed_query_is_the_sha1_of_what_was_sent() -> None:
    assert redact(b"/a?name=peter", "hash") == b"/a?hash=a6909eece4005d85fb1894cc4efa38564b9c30c3"


def test_a_path_without_a_query_stays_as_it_is() -> None:
    assert redact(b"/a/b", "hash") == redact(b"/a/b", "all") == b"/a/b"


# Shortening.

URI = b"REQUEST-URI"
MARK = b"...REQUEST-URI-TOO-LONG-TO-LOG--TRUNCATED"


def test_a_value_within_the_limit_is_not_shortened() -> None:
    assert shorten(b"x" * 1000, b"REFERER") == b"x" * 1000
    assert shorten(b"/" * SHORT_URI_BYTES, URI, SHORT_URI_BYTES) == b"/" * SHORT_URI_BYTES


def test_a_longer_value_is_halved_until_it_fits_with_its_mark() -> None:
    assert shorten(b"/" * 30_000, URI, SHORT_URI_BYTES) == b"/" * 15_000 + MARK
    assert shorten(b"/" * 60_000, URI, SHORT_URI_BYTES) == b"/" * ((30_000 + len(MARK)) // 2) + MARK


@pytest.mark.parametrize("length", [1001, 1918, 4000, 65_000, 1_000_000])
def test_a_shortened_value_is_never_longer_than_the_limit(length: int) -> None:
    assert len(shorten(b"r" * length, b"REFERER")) <= 1000


def test_extra_headers_end_with_a_mark_before_the_limit() -> None:
    fields = [b' a:"%b"' % (b"x" * 96) for _ in range(300)]
    shortened = shorten_headers(fields)

    assert shortened.endswith(b'x" ...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED')
    assert shortened.count(b" a:") == 200 - 2
    assert shorten_headers(fields[:3]) == b"".join(fields[:3])
