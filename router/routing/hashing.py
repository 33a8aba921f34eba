"""Consistent hashing: which endpoint the value of a request header belongs to (GOROUTER.md §6.9).

Pure arithmetic that every worker and every router does alike, so that a value leads to the same instance wherever
it arrives. Owns the hash and the look-up table; does not own the choice among what the table offers
(`routing.balancing`).
"""

from array import array
from collections.abc import Sequence

TABLE_SIZES = {"XS": 1801, "S": 3001, "M": 5003, "L": 10007, "XL": 20011}
"""Slots by size class of ``hash_based_routing.lookup_table_size``; primes, so that every endpoint reaches all."""
DEFAULT_TABLE_SIZE = 3001

_OFFSET = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_MASK = 0xFFFFFFFFFFFFFFFF
_MAX_KEY_BYTES = 1024
"""What follows in a longer value does not count: the cost of a request must not grow with what a client sends."""
_FREE = -1


def fnv1a(data: bytes) -> int:
    """Return the 64-bit FNV-1a hash."""
    value = _OFFSET
    for byte in data:
        value = ((value ^ byte) * _PRIME) & _MASK
    return value


def slot_of(key: bytes, size: int) -> int:
    """Return the slot that a header value belongs to in a table of ``size`` slots."""
    return fnv1a(key[:_MAX_KEY_BYTES]) % size


def fill_table(ids: list[str], size: int, turns: Sequence[int] = ()) -> "array[int]":
    """Return a Maglev table: for each of ``size`` slots, the position in ``ids`` of its owner.

    Each id claims slots in an order of its own, and they take turns until all slots are owned; so shares differ by
    one slot at most, and an id more or less moves few of the others' slots. With ``turns`` shares are
    as these say, and who has few may have no slot.

    Args:
        ids: at least one, sorted; equal ones stand beside each other without harm.
        size: a prime.
        turns: positions in ``ids``, in the order in which they claim a slot, over and over; empty: one by one.
    """
    turns = turns or range(len(ids))
    orders = [_claims(name, size) for name in ids]
    slots = array("l", [_FREE]) * size
    left = size
    while True:
        for owner in turns:
            slot, skip = orders[owner]
            while slots[slot] != _FREE:
                slot = (slot + skip) % size
            slots[slot] = owner
            left -= 1
            if not left:
                return slots
            orders[owner] = (slot, skip)


def _claims(name: str, size: int) -> tuple[int, int]:
    """Return the slot an id claims first, and the distance to each further one."""
    value = fnv1a(name.encode())
    return value % size, value % (size - 1) + 1
