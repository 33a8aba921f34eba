import pytest

from router.proxy.response_rules import ResponseRules

HSTS = ("Strict-Transport-Security", "max-age=31536000")


def test_rules_remove_names_in_any_case_and_all_their_lines() -> None:
    rules = ResponseRules([], ["x-powered-BY", "Server"])
    lines = [b"X-Powered-By: a", b"Date: now", b"SERVER:b", b"x-powered-by: c", b"Servers: stay"]
    assert rules.apply(lines) == [b"Date: now", b"Servers: stay"]


def test_header_is_added_when_absent_and_left_alone_when_present() -> None:
    rules = ResponseRules([HSTS], [])
    assert rules.apply([b"A: b"]) == [b"A: b", b"Strict-Transport-Security: max-age=31536000"]
    assert rules.apply([b"strict-transport-security:"]) == [b"strict-transport-security:"]


def test_all_values_of_one_name_are_added_together_or_not_at_all() -> None:
    rules = ResponseRules([("X-Two", "1"), ("X-Other", "o"), ("x-two", "2")], [])
    assert rules.apply([]) == [b"X-Two: 1", b"x-two: 2", b"X-Other: o"]
    assert rules.apply([b"X-TWO: own"]) == [b"X-TWO: own", b"X-Other: o"]


def test_removal_comes_first_so_that_a_header_can_be_replaced() -> None:
    rules = ResponseRules([("Server", "ours")], ["server"])
    assert rules.apply([b"Server: theirs", b"A: b"]) == [b"A: b", b"Server: ours"]


def test_given_lines_are_not_changed() -> None:
    lines = [b"A: b", b"C: d"]
    ResponseRules([HSTS], ["A"]).apply(lines)
    assert lines == [b"A: b", b"C: d"]


def test_removing_what_is_not_there_or_is_no_name_removes_nothing() -> None:
    assert ResponseRules([], ["", "no name", "X-None"]).apply([b"A: b"]) == [b"A: b"]


def test_value_cannot_bring_lines_of_its_own() -> None:
    assert ResponseRules([("A", "b\r\nC: d\n")], []).apply([]) == [b"A: b  C: d"]
    assert ResponseRules([("A", "grün")], []).apply([]) == ["A: grün".encode()]


@pytest.mark.parametrize("name", ["", "two words", "a:b", "grün", "a\r\nb", "Content-Length", "transfer-encoding"])
def test_name_that_cannot_be_added_is_refused_with_its_key(name: str) -> None:
    with pytest.raises(ValueError, match="add_headers_if_not_present") as refused:
        ResponseRules([(name, "v")], [])
    assert repr(name) in str(refused.value)
