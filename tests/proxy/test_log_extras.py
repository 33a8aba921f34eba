from router.proxy.log_extras import redact, shorten


def test_a_redacted_query_is_gone_with_its_question_mark() -> None:
    assert redact(b"/a/b?name=peter", "all") == b"/a/b"


def test_a_hashed_query_is_the_sha1_of_what_was_sent() -> None:
    assert redact(b"/a?name=peter", "hash") == b"/a?hash=a6909eece4005d85fb1894cc4efa38564b9c30c3"


def test_a_path_without_a_query_stays_as_it_is() -> None:
    assert redact(b"/a/b", "hash") == redact(b"/a/b", "all") == b"/a/b"


def test_a_value_within_the_limit_is_not_shortened() -> None:
    assert shorten(b"x" * 1000, b"REFERER") == b"x" * 1000


def test_a_longer_value_is_halved_until_it_is_short_and_says_so() -> None:
    assert shorten(b"x" * 3000, b"REFERER") == b"x" * 750 + b"...REFERER-TOO-LONG-TO-LOG--TRUNCATED"
