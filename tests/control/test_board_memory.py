import mmap
from collections.abc import Iterator

import pytest

from router.control.board_memory import ROWS_PER_SLOT, BoardMemory
from router.routing.board import Board, size_bytes


@pytest.fixture
def shared() -> Iterator[BoardMemory]:
    memory = BoardMemory(2)
    yield memory
    memory.close()


def board(shared: BoardMemory, row: int) -> Board:
    return Board(memoryview(mmap.mmap(shared.descriptor, size_bytes(shared.rows))), shared.rows, row)


def test_what_a_worker_left_behind_is_gone_with_it(shared: BoardMemory) -> None:
    row, other = shared.take_row(), shared.take_row()
    board(shared, row).enter(9)
    board(shared, other).enter(9)
    shared.give_back(row)
    assert board(shared, other).in_flight(9) == 1


def test_every_worker_has_a_row_of_its_own_until_none_is_left(shared: BoardMemory) -> None:
    rows = [shared.take_row() for _ in range(2 * ROWS_PER_SLOT)]
    assert sorted(rows) == list(range(2 * ROWS_PER_SLOT))
    assert shared.take_row() == -1
    shared.give_back(-1)
    shared.give_back(rows[3])
    assert shared.take_row() == rows[3]


def test_a_single_worker_shares_nothing() -> None:
    alone = BoardMemory(1)
    assert (alone.descriptor, alone.rows, alone.take_row()) == (-1, 0, -1)
    alone.close()
