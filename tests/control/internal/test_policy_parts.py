import pytest

from router.control.internal.policy_bucket import BucketError
from router.control.internal.policy_parts import (
    EMPTY,
    FORMAT,
    PARTS,
    Records,
    Root,
    changed,
    differences,
    encode,
    read_part,
    read_root,
    written_at,
)
from router.routing.policy_book import Allowed, AppRecord, part_of

NOW = 1_700_000_000_123_456_789
RECORD = AppRecord(1, (Allowed("b", "tcp", 80, 80),))
OTHER = AppRecord(2)


def random_hex(octets: int) -> str:
    return "0123456789abcdef"[: 2 * octets]


def no_records() -> list[Records]:
    return [{} for _ in range(PARTS)]


def test_a_change_makes_new_parts_only_of_those_it_touches() -> None:
    before = no_records()
    root, after = changed(EMPTY, before, {"a": RECORD, "b": OTHER}, NOW, random_hex)
    touched = {part_of("a", PARTS), part_of("b", PARTS)}
    assert {index for index, name in enumerate(root.parts) if name} == touched
    assert after[part_of("a", PARTS)]["a"] == RECORD
    assert all(after[index] is before[index] for index in range(PARTS) if index not in touched)
    assert before == no_records()


def test_a_part_without_records_has_no_name() -> None:
    root, parts = changed(EMPTY, no_records(), {"a": RECORD}, NOW, random_hex)
    root, parts = changed(root, parts, {"a": None}, NOW, random_hex)
    assert root.parts == EMPTY.parts
    assert parts == no_records()


def test_the_date_always_grows_and_is_in_microseconds() -> None:
    root, parts = changed(EMPTY, no_records(), {}, NOW, random_hex)
    assert root.updated_ns == 1_700_000_000_123_456_000
    # The clock of another router may be behind.
    later, _ = changed(root, parts, {}, NOW - 10**12, random_hex)
    assert later.updated_ns == root.updated_ns + 1000


def test_a_parts_name_tells_when_it_was_written() -> None:
    root, _ = changed(EMPTY, no_records(), {"a": RECORD}, NOW, random_hex)
    name = root.parts[part_of("a", PARTS)]
    assert written_at(name) == 1_700_000_000
    assert written_at("by-hand") > 10**15


def test_root_and_part_are_read_as_they_were_written() -> None:
    root, parts = changed(EMPTY, no_records(), {"a": RECORD, "b": OTHER}, NOW, random_hex)
    assert read_root(encode(root)) == root
    assert [read_part("", encode(part)) for part in parts] == parts
    assert read_root(b"") == EMPTY


def test_the_format_is_what_routers_of_before_have_written() -> None:
    root = b'{"format":1,"updated_ns":1000,"parts":["6553f100-0123456789abcdef",""]}'
    assert read_root(root) == Root(FORMAT, 1000, ("6553f100-0123456789abcdef", ""))
    part = b'{"a":{"tag":1,"policies":[["b","tcp",80,80]]},"b":{"tag":2},"c":{"tag":3,"freed_ns":1}}'
    assert read_part("", part) == {"a": RECORD, "b": OTHER, "c": AppRecord(3, (), 1)}


@pytest.mark.parametrize(
    "text",
    [b"x", b"[]", b"{}", b'{"format":2,"updated_ns":0,"parts":[""]}', b'{"format":1,"updated_ns":0,"parts":[]}'],
)
def test_a_root_that_makes_no_sense_is_an_error(text: bytes) -> None:
    with pytest.raises(BucketError, match="root"):
        read_root(text)


@pytest.mark.parametrize("text", [b"", b"[]", b'{"a":{}}', b'{"a":{"tag":1,"policies":[["b"]]}}'])
def test_a_part_that_makes_no_sense_is_an_error(text: bytes) -> None:
    with pytest.raises(BucketError, match="part some-name"):
        read_part("some-name", text)


def test_differences_make_the_one_the_other() -> None:
    same: Records = {"s": OTHER}
    before: list[Records] = [same, {"a": RECORD, "b": OTHER, "c": OTHER}]
    after: list[Records] = [same, {"a": OTHER, "b": OTHER, "d": RECORD}]
    assert differences(before, after) == {"a": OTHER, "d": RECORD, "c": None}


def test_differences_survive_another_number_of_parts() -> None:
    before: list[Records] = [{"a": RECORD}, {"b": OTHER}]
    after: list[Records] = [{"a": RECORD, "c": OTHER}]
    assert differences(before, after) == {"c": OTHER, "b": None}
