"""What the workers of one router tell each other through shared memory: turns, and what is in flight where.

Without it each worker would go round a pool on its own, and each allow an endpoint its own ``max_conns``: a client
that opens a connection for each request meets now this worker, now that one, and would see it. Owns the layout;
does not own the memory (`control.board_memory`). One law: only a worker writes to its own row, so nothing is
locked, and what two workers write at once to a turn costs at most a turn.

Layout: `CELLS` turns of 4 bytes, then a row of `CELLS` counts of 2 bytes for each worker. An endpoint's cell is
found by its id, a pool's by that of its first endpoint. Two that share one, because their ids are `CELLS` apart,
disturb each other's turns and limits, nothing else.
"""

CELLS = 1 << 18
TURN_BYTES = 4
COUNT_BYTES = 2

_MASK = CELLS - 1
_MOST = (1 << 8 * COUNT_BYTES) - 1


def size_bytes(rows: int) -> int:
    """Return how much memory a board with so many rows takes; untouched pages of it take none."""
    return CELLS * (TURN_BYTES + rows * COUNT_BYTES)


def row_range(row: int) -> tuple[int, int]:
    """Return offset and length of a row, in bytes."""
    return CELLS * (TURN_BYTES + row * COUNT_BYTES), CELLS * COUNT_BYTES


class Board:
    """One worker's view.

    Args:
        memory: of `size_bytes`, writable.
        rows: how many there are.
        row: this worker's own.
    """

    __slots__ = ("_mine", "_rows", "_turns")

    def __init__(self, memory: memoryview, rows: int, row: int) -> None:
        self._turns = memory[: CELLS * TURN_BYTES].cast("I")
        self._rows = [_row(memory, number) for number in range(rows)]
        self._mine = self._rows[row]

    def turn(self, endpoint_id: int) -> int:
        """Return where the pool with this first endpoint goes on; 0 if it has not begun."""
        return self._turns[endpoint_id & _MASK]

    def set_turn(self, endpoint_id: int, position: int) -> None:
        self._turns[endpoint_id & _MASK] = position

    def in_flight(self, endpoint_id: int) -> int:
        """Return how many exchanges of all workers are in flight at an endpoint."""
        cell = endpoint_id & _MASK
        return sum([row[cell] for row in self._rows])

    def enter(self, endpoint_id: int) -> None:
        """One more of this worker's exchanges is in flight at an endpoint; 0 is one that others do not know."""
        cell = endpoint_id & _MASK
        if endpoint_id and self._mine[cell] < _MOST:
            self._mine[cell] += 1

    def leave(self, endpoint_id: int) -> None:
        """One fewer is."""
        cell = endpoint_id & _MASK
        if self._mine[cell]:
            self._mine[cell] -= 1


def _row(memory: memoryview, row: int) -> memoryview:
    offset, length = row_range(row)
    return memory[offset : offset + length].cast("H")
