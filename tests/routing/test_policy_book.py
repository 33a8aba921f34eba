import pytest

from router.routing.internal_records import Policy
from router.routing.policy_book import (
    MAX_TAG,
    QUARANTINE_NS,
    AppRecord,
    PolicyBook,
    TagsExhausted,
    part_of,
    with_source,
)

NOW = 1_700_000_000_000_000_000


def policy(
    source: str, destination: str, start: int = 80, end: int | None = None, protocol: str = "tcp"
) -> Policy:
    return Policy(source, destination, protocol, start, start if end is None else end)


def book_with(*policies: Policy, now_ns: int = NOW) -> PolicyBook:
    book = PolicyBook()
    book.apply(book.change(add=policies, now_ns=now_ns))
    return book


def everything(book: PolicyBook) -> set[Policy]:
    return {each for app in book.records for each in book.policies_of(app)}


def test_adding_makes_a_record_of_each_app_that_is_named() -> None:
    book = book_with(policy("a", "b"), policy("a", "c", 1, 9, "udp"))
    assert set(book.records) == {"a", "b", "c"}
    assert everything(book) == {policy("a", "b"), policy("a", "c", 1, 9, "udp")}
    assert book.size == 2


def test_adding_again_changes_nothing() -> None:
    book = book_with(policy("a", "b"), policy("b", "b"))
    assert book.change(add=[policy("b", "b"), policy("a", "b"), policy("a", "b")], now_ns=NOW) == {}


def test_removing_what_is_not_there_changes_nothing() -> None:
    book = book_with(policy("a", "b", 8080, 8090))
    assert book.change(remove=[policy("a", "b", 8080), policy("x", "y")], now_ns=NOW) == {}


def test_removing_touches_only_the_source_while_others_name_the_destination() -> None:
    book = book_with(policy("a", "b"), policy("a", "c"), policy("c", "b"))
    changes = book.change(remove=[policy("a", "b")], now_ns=NOW)
    assert set(changes) == {"a"}
    assert book.apply(changes) == ["a"]
    assert everything(book) == {policy("a", "c"), policy("c", "b")}


def test_apply_names_apps_whose_own_policies_differ() -> None:
    book = PolicyBook()
    changes = book.change(add=[policy("a", "b"), policy("c", "a")], now_ns=NOW)
    assert sorted(book.apply(changes)) == ["a", "c"]
    assert book.apply(changes) == []


def test_dropping_a_record_drops_its_policies() -> None:
    book = book_with(policy("a", "b"))
    assert book.apply({"a": None, "b": None}) == ["a"]
    assert (book.records, book.size, book.tags) == ({}, 0, {})


def test_tags_are_the_lowest_free_ones() -> None:
    book = book_with(policy("a", "b"), policy("c", "d"))
    assert book.tags == {"a": 1, "b": 2, "c": 3, "d": 4}
    book.apply(book.change(remove=[policy("a", "b")], now_ns=NOW))
    later = NOW + QUARANTINE_NS
    book.apply(book.change(add=[policy("e", "f"), policy("e", "g")], now_ns=later))
    assert book.tags == {"c": 3, "d": 4, "e": 1, "f": 2, "g": 5}


def test_a_tag_given_up_stands_for_nobody_for_a_minute() -> None:
    book = book_with(policy("a", "b"))
    book.apply(book.change(remove=[policy("a", "b")], now_ns=NOW))
    assert book.tags == {}
    book.apply(book.change(add=[policy("c", "c")], now_ns=NOW + QUARANTINE_NS - 1))
    assert book.tags == {"c": 3}


def test_an_app_that_comes_back_within_the_minute_has_its_tag_again() -> None:
    book = book_with(policy("a", "b"), policy("c", "d"))
    book.apply(book.change(remove=[policy("c", "d")], now_ns=NOW))
    book.apply(book.change(add=[policy("d", "c")], now_ns=NOW + 1))
    assert book.tags == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert book.records["d"].freed_ns == 0


def test_an_app_that_comes_back_later_shares_its_tag_with_nobody() -> None:
    book = book_with(policy("a", "b"))
    book.apply(book.change(remove=[policy("a", "b")], now_ns=NOW))
    book.apply(book.change(add=[policy("b", "z")], now_ns=NOW + 2 * QUARANTINE_NS))
    assert book.tags == {"b": 2, "z": 1}
    assert set(book.records) == {"b", "z"}


def test_records_in_quarantine_go_with_the_next_change_after_it() -> None:
    book = book_with(policy("a", "b"))
    book.apply(book.change(remove=[policy("a", "b")], now_ns=NOW))
    assert book.change(now_ns=NOW + 1) == {}
    assert book.change(now_ns=NOW + QUARANTINE_NS) == {"a": None, "b": None}


def test_a_policy_to_oneself_names_the_app_until_it_is_removed() -> None:
    book = book_with(policy("a", "a"))
    assert book.tags == {"a": 1}
    book.apply(book.change(remove=[policy("a", "a")], now_ns=NOW))
    assert book.records["a"] == AppRecord(1, (), NOW)


def test_adding_and_removing_the_same_in_one_change_removes_it() -> None:
    book = PolicyBook()
    assert book.change(add=[policy("a", "b")], remove=[policy("a", "b")], now_ns=NOW) == {}


def test_more_apps_than_tags_are_refused_whole() -> None:
    book = PolicyBook()
    book.apply({f"app-{tag}": AppRecord(tag) for tag in range(1, MAX_TAG)})
    book.change(add=[policy("a", "a")], now_ns=NOW)
    with pytest.raises(TagsExhausted, match="65535 tags"):
        book.change(add=[policy("a", "b")], now_ns=NOW)


@pytest.mark.parametrize(("app", "part"), [("a", 3), ("5d8a6f0e-0f0e-4f43-9c1d-6a3f0b7a4a51", 40), ("", 0)])
def test_the_part_of_an_app_never_changes(app: str, part: int) -> None:
    assert part_of(app, 64) == part


def test_policies_get_their_source_back() -> None:
    book = book_with(policy("a", "b", 1, 2, "udp"))
    assert with_source("a", book.records["a"].policies) == [policy("a", "b", 1, 2, "udp")]
