from router.routing.board import CELLS, Board, size_bytes


def two_workers() -> tuple[Board, Board]:
    memory = memoryview(bytearray(size_bytes(2)))
    return Board(memory, 2, 0), Board(memory, 2, 1)


def test_what_one_worker_has_in_flight_is_seen_by_the_other() -> None:
    one, other = two_workers()
    one.enter(7)
    one.enter(7)
    other.enter(7)
    assert one.in_flight(7) == other.in_flight(7) == 3
    one.leave(7)
    assert other.in_flight(7) == 2
    assert other.in_flight(8) == 0


def test_count_never_falls_below_nothing_nor_rises_out_of_its_cell() -> None:
    one, other = two_workers()
    one.leave(1)
    assert other.in_flight(1) == 0
    for _ in range(70_000):
        one.enter(1)
    assert other.in_flight(1) == 65_535
    assert other.in_flight(2) == 0


def test_turn_that_one_worker_took_is_followed_by_the_other() -> None:
    one, other = two_workers()
    assert other.turn(5) == 0
    one.set_turn(5, 3)
    assert other.turn(5) == 3


def test_ids_beyond_the_last_cell_begin_anew() -> None:
    one, other = two_workers()
    one.enter(CELLS + 4)
    assert other.in_flight(4) == 1
