"""When memory is asked back for, and that glibc then gives it."""

import ctypes
import os
import platform

import pytest

from router.memory import MANY, PAUSE_S, MemoryReturn, allocator_trim


class Watched:
    """A `MemoryReturn` that counts what it asks for, looked at once a second."""

    def __init__(self) -> None:
        self.asked = 0
        self.now_s = 100.0
        self._memory = MemoryReturn(self._give_back)

    def look(self, *connections: int) -> None:
        for count in connections:
            self.now_s += 1
            self._memory.look(count, self.now_s)

    def _give_back(self) -> None:
        self.asked += 1


def test_memory_is_given_back_once_after_many_connections_are_gone() -> None:
    watched = Watched()
    watched.look(0, MANY + 10, 0, 0, 0, 0)
    assert watched.asked == 1


def test_nothing_is_done_while_connections_are_going() -> None:
    watched = Watched()
    watched.look(5 * MANY, 3 * MANY, MANY, 10)
    assert watched.asked == 0
    watched.look(10)
    assert watched.asked == 1


def test_connections_that_come_and_go_cost_nothing() -> None:
    watched = Watched()
    watched.look(*[5 * MANY, 5 * MANY - 500] * 100)
    assert watched.asked == 0


def test_floods_that_follow_each_other_are_answered_after_a_pause() -> None:
    watched = Watched()
    watched.look(*[MANY, 0, 0] * int(PAUSE_S))
    assert watched.asked == 3


def test_half_of_the_connections_gone_count_as_much_as_all() -> None:
    watched = Watched()
    watched.look(4 * MANY, 3 * MANY, 3 * MANY)
    assert watched.asked == 1
    watched.look(*[3 * MANY] * 100)
    assert watched.asked == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are not asked")
def test_pages_that_lie_between_used_ones_are_given_back() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    blocks = [libc.malloc(20_000) for _ in range(2000)]
    for block in blocks:
        ctypes.memset(block, 1, 20_000)
    for number, block in enumerate(blocks):
        if number % 100 != 99:
            libc.free(block)
    held = resident_bytes()

    allocator_trim()()

    assert held - resident_bytes() > 30_000_000
    for block in blocks[99::100]:
        libc.free(block)


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
