from collections import Counter
from math import isqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.rules import TABLE_SIZES as SIZE_CLASSES
from router.routing.hashing import DEFAULT_TABLE_SIZE, TABLE_SIZES, fill_table, fnv1a, slot_of

IDS = ["inst-1", "inst-2", "inst-3"]


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"", 0xCBF29CE484222325), (b"a", 0xAF63DC4C8601EC8C), (b"foobar", 0x85944171F73967E8)],
)
def test_the_hash_is_fnv_1a_of_64_bits(data: bytes, value: int) -> None:
    assert fnv1a(data) == value


@pytest.mark.parametrize(
    ("key", "slot", "owner"),
    [(b"tenant-a", 2278, "inst-3"), (b"tenant-b", 1740, "inst-1"), (b"tenant-c", 1202, "inst-2")],
)
def test_the_vectors_of_gorouter_hold(key: bytes, slot: int, owner: str) -> None:
    assert slot_of(key, 3001) == slot
    assert IDS[fill_table(IDS, 3001)[slot]] == owner


def test_slots_are_shared_out_evenly() -> None:
    assert Counter(fill_table(IDS, 3001)) == {0: 1001, 1: 1000, 2: 1000}


def test_only_the_first_kilobyte_of_a_value_counts() -> None:
    assert slot_of(b"x" * 1024 + b"y", 3001) == slot_of(b"x" * 1024 + b"z" * 10**6, 3001)
    assert slot_of(b"x" * 1023 + b"y", 3001) != slot_of(b"x" * 1023 + b"z", 3001)


def test_every_size_class_of_the_configuration_is_a_prime() -> None:
    assert tuple(TABLE_SIZES) == SIZE_CLASSES
    assert DEFAULT_TABLE_SIZE in TABLE_SIZES.values()
    assert list(TABLE_SIZES.values()) == sorted(TABLE_SIZES.values())
    for size in TABLE_SIZES.values():
        assert all(size % divisor for divisor in range(2, isqrt(size) + 1))


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=12))
def test_shares_differ_by_one_slot_at_most_even_of_equal_ids(ids: list[str]) -> None:
    shares = Counter(fill_table(sorted(ids), 101))

    assert shares.total() == 101
    assert set(shares) == set(range(len(ids)))
    assert max(shares.values()) - min(shares.values()) <= 1


def test_an_id_less_moves_few_slots_of_the_others() -> None:
    ids = [f"inst-{number}" for number in range(10, 20)]
    before = [ids[owner] for owner in fill_table(ids, 3001)]
    fewer = ids[:-1]
    after = [fewer[owner] for owner in fill_table(fewer, 3001)]
    moved = sum(old != new for old, new in zip(before, after, strict=True) if old != ids[-1])

    assert moved < 3001 * 0.05


def test_more_ids_than_slots_leave_some_without() -> None:
    ids = [f"{number:03}" for number in range(20)]

    assert sorted(fill_table(ids, 7)) == list(range(7))
