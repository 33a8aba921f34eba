"""Shares of requests where the weights of a pool's members differ."""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from router.routing.balancing import HASH, LEAST_CONNECTION, ROUND_ROBIN, Balancer
from router.routing.board import Board, size_bytes
from router.routing.instances import app_instance_pool
from router.routing.pool import Endpoint, Pool
from router.routing.records import EndpointRecord, PoolOptions

NOW = 100.0
MARK_S = 30.0
ALGORITHMS = [ROUND_ROBIN, LEAST_CONNECTION]
APP = "0a1b2c3d-0000-4000-8000-00000000000a"


def pool_of(*weights: int, zones: str = "", options: PoolOptions | None = None) -> Pool:
    """A pool of endpoints 1, 2, 3 …; ``zones`` has a letter for each."""
    pool = Pool("a.test", "/", options or PoolOptions())
    for number, weight in enumerate(weights, 1):
        record = EndpointRecord(
            f"10.0.0.{number}",
            80,
            app=APP,
            instance_id=f"inst-{number}",
            instance_index=str(number),
            availability_zone=zones[number - 1 : number],
            weight=weight,
        )
        pool.put(Endpoint(number, record), None)
    return pool


def balancer(
    algorithm: str = ROUND_ROBIN, *, limit: int = 0, random: Callable[[], float] = lambda: 0.0, zone: str = ""
) -> Balancer:
    return Balancer(algorithm, limit, MARK_S, random, zone, az_local=bool(zone))


def chosen(one: Balancer, pool: Pool, times: int, *tried: Endpoint, key: bytes = b"") -> list[int]:
    picked = [one.choose(pool, list(tried) or None, NOW, key) for _ in range(times)]
    return [endpoint.endpoint_id if endpoint else 0 for endpoint in picked]


def shares(one: Balancer, pool: Pool, times: int, *tried: Endpoint) -> dict[int, int]:
    return dict(Counter(chosen(one, pool, times, *tried)))


# Round-robin.


def test_turns_are_as_many_as_the_weight_says_and_spread() -> None:
    assert chosen(balancer(), pool_of(5, 1, 1), 14) == [1, 2, 1, 1, 1, 3, 1] * 2


def test_first_turn_is_anywhere_in_the_order() -> None:
    assert chosen(balancer(random=lambda: 0.9), pool_of(5, 1, 1), 3) == [1, 1, 2]


@pytest.mark.parametrize("weight", [0, 1, 7, 100])
def test_equal_weights_are_the_same_as_none(weight: int) -> None:
    pool = pool_of(weight, weight, weight)

    assert chosen(balancer(), pool, 6) == [1, 2, 3, 1, 2, 3]
    assert pool.turns is pool.endpoints, "nothing is prepared"


def test_weightless_member_has_no_turn() -> None:
    assert chosen(balancer(), pool_of(0, 1, 0, 1), 4) == [2, 4, 2, 4]
    assert chosen(balancer(), pool_of(0, 3), 3) == [2, 2, 2]


def test_weightless_member_gets_none_of_what_the_others_cannot_take() -> None:
    one, pool = balancer(limit=1), pool_of(0, 1, 1)
    pool.endpoints[1].failed_at = pool.endpoints[2].failed_at = NOW - 1
    assert shares(one, pool, 4) == {2: 2, 3: 2}
    assert chosen(one, pool, 2, pool.endpoints[1]) == [3, 3]
    assert set(chosen(one, pool, 2, *pool.endpoints[1:])) <= {2, 3}
    pool.endpoints[1].in_flight = pool.endpoints[2].in_flight = 1

    assert chosen(one, pool, 1) == [0]
    assert one.all_overloaded(pool.candidates())
    assert not one.all_overloaded(pool.endpoints)


def test_weightless_members_serve_when_the_others_have_gone() -> None:
    one, pool = balancer(), pool_of(0, 0, 5)
    assert chosen(one, pool, 2) == [3, 3]
    pool.remove(3)

    assert shares(one, pool, 4) == {1: 2, 2: 2}
    pool.remove(1)
    assert chosen(one, pool, 1) == [2]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_weightless_member_is_reached_by_who_names_it(algorithm: str) -> None:
    one, pool = balancer(algorithm), pool_of(0, 5, 5)
    part = app_instance_pool(pool, APP, "1")
    assert part is not None

    assert one.by_instance(pool, b"inst-1") is pool.endpoints[0]
    assert chosen(one, part, 2) == [1, 1]


def test_shares_follow_a_change_of_weights_at_once() -> None:
    one, pool = balancer(), pool_of(1, 1)
    assert chosen(one, pool, 2) == [1, 2]
    old = pool.endpoints[1]
    pool.put(Endpoint(3, EndpointRecord(old.record.host, old.record.port, weight=3)), old)
    assert shares(one, pool, 8) == {1: 2, 3: 6}
    pool.remove(1)
    assert chosen(one, pool, 2) == [3, 3]


def test_turn_of_a_failed_member_goes_to_the_next() -> None:
    one, pool = balancer(), pool_of(2, 2, 1)
    pool.endpoints[0].failed_at = NOW - 1
    marked = shares(one, pool, 30)
    assert set(marked) == {2, 3}
    assert marked[2] >= marked[3]
    pool.endpoints[0].failed_at = NOW - MARK_S

    assert shares(one, pool, 10) == {1: 4, 2: 4, 3: 2}


def test_what_a_heavy_member_leaves_is_shared_by_the_others_in_proportion() -> None:
    one, pool = balancer(random=Random(1).random), pool_of(100, 1, 3)
    pool.endpoints[0].failed_at = NOW - 1

    counts = shares(one, pool, 4000)

    assert set(counts) == {2, 3}
    assert 2.6 < counts[3] / counts[2] < 3.4


def test_pool_with_all_weighted_members_marked_is_used_as_if_healthy() -> None:
    one, pool = balancer(), pool_of(3, 1)
    for endpoint in pool.endpoints:
        endpoint.failed_at = NOW - 1

    assert chosen(one, pool, 1) == [1]
    assert [endpoint.failed_at for endpoint in pool.endpoints] == [0.0, 0.0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_overloaded_and_tried_members_are_passed_over(algorithm: str) -> None:
    one, pool = balancer(algorithm, limit=1), pool_of(50, 2, 1)
    pool.endpoints[0].in_flight = 1

    assert chosen(one, pool, 1, pool.endpoints[1]) == [3]
    assert set(chosen(one, pool, 6)) <= {2, 3}
    pool.endpoints[1].in_flight = pool.endpoints[2].in_flight = 1
    assert chosen(one, pool, 1) == [0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_member_tried_already_is_not_chosen_while_another_is_left(algorithm: str) -> None:
    one, pool = balancer(algorithm, random=Random(2).random), pool_of(9, 2, 1)
    tried: list[Endpoint] = []
    for _ in range(3):
        endpoint = one.choose(pool, tried, NOW)
        assert endpoint is not None
        assert endpoint not in tried
        tried.append(endpoint)

    assert one.choose(pool, tried, NOW) in pool.endpoints


def test_two_workers_share_one_order() -> None:
    memory = memoryview(bytearray(size_bytes(2)))
    workers = [Balancer(ROUND_ROBIN, 0, MARK_S, lambda: 0.0, board=Board(memory, 2, row)) for row in range(2)]
    pools = [pool_of(5, 1, 1), pool_of(5, 1, 1)]

    picked = [chosen(workers[turn % 2], pools[turn % 2], 1)[0] for turn in range(7)]

    assert picked == [1, 2, 1, 1, 1, 3, 1]


# Least-connection.


def test_what_is_in_flight_counts_by_weight() -> None:
    pool = pool_of(4, 1)
    pool.endpoints[0].in_flight, pool.endpoints[1].in_flight = 3, 1
    assert chosen(balancer(LEAST_CONNECTION), pool, 1) == [1]
    pool.endpoints[0].in_flight = 5
    assert chosen(balancer(LEAST_CONNECTION), pool, 1) == [2]


def test_idle_members_are_drawn_in_proportion() -> None:
    counts = shares(balancer(LEAST_CONNECTION, random=Random(1).random), pool_of(3, 0, 1), 4000)

    assert set(counts) == {1, 3}
    assert 2.6 < counts[1] / counts[3] < 3.4


def test_marked_members_come_last_with_least_connection() -> None:
    pool = pool_of(3, 0, 1)
    pool.endpoints[0].failed_at = NOW - 1
    pool.endpoints[2].in_flight = 9
    assert chosen(balancer(LEAST_CONNECTION), pool, 1) == [3]
    pool.endpoints[2].failed_at = NOW - 1
    assert chosen(balancer(LEAST_CONNECTION), pool, 1) == [1]


# Zones.


def test_shares_hold_within_our_zone() -> None:
    pool = pool_of(8, 3, 1, zones="bab")

    assert shares(balancer(zone="b"), pool, 36) == {1: 32, 3: 4}


def test_least_connection_in_our_zone_counts_by_weight() -> None:
    pool = pool_of(8, 3, 1, zones="baa")
    pool.endpoints[1].in_flight, pool.endpoints[2].in_flight = 2, 1

    assert chosen(balancer(LEAST_CONNECTION, zone="a"), pool, 1) == [2]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_zone_without_a_member_that_has_a_weight_is_no_obstacle(algorithm: str) -> None:
    one = balancer(algorithm, zone="a", random=Random(3).random)
    counts = shares(one, pool_of(0, 3, 1, zones="abb"), 4000)

    assert set(counts) == {2, 3}
    assert 2.6 < counts[2] / counts[3] < 3.4


def test_light_member_of_our_zone_is_found_among_heavy_ones_of_others() -> None:
    assert shares(balancer(zone="a"), pool_of(100, 99, 1, zones="bba"), 20) == {3: 20}


# By the value of a header.

HASHED = PoolOptions(algorithm=HASH, hash_header="X-Tenant")


def owners(pool: Pool, count: int = 2000) -> Counter[int]:
    one = balancer()
    return Counter(chosen(one, pool, 1, key=b"tenant-%d" % number)[0] for number in range(count))


def test_values_are_spread_by_weight() -> None:
    counts = owners(pool_of(3, 1, 0, options=HASHED))

    assert set(counts) == {1, 2}
    assert 2.5 < counts[1] / counts[2] < 3.5


def test_equal_weights_leave_every_value_where_it_was() -> None:
    assert owners(pool_of(7, 7, 7, options=HASHED)) == owners(pool_of(1, 1, 1, options=HASHED))


def test_retry_of_a_hashed_request_finds_no_weightless_member() -> None:
    pool = pool_of(3, 1, 0, options=HASHED)

    assert chosen(balancer(), pool, 1, pool.endpoints[0], key=b"a") == [2]
    assert set(chosen(balancer(), pool, 1, *pool.endpoints[:2], key=b"a")) <= {1, 2}


def test_part_of_a_hashed_pool_may_be_weightless_as_a_whole() -> None:
    pool = pool_of(5, 0, 0, options=HASHED)
    part = Pool(pool.key, "/", pool.options, pool)
    part.endpoints = pool.endpoints[1:]

    assert set(chosen(balancer(), part, 3, key=b"a")) <= {2, 3}


def test_share_of_what_is_in_flight_is_judged_by_weight() -> None:
    pool = pool_of(3, 1, options=PoolOptions(algorithm=HASH, hash_header="X", hash_balance=1.25))
    pool.endpoints[0].in_flight, pool.endpoints[1].in_flight = 6, 2
    key = next(
        key for key in (b"k%d" % number for number in range(99)) if chosen(balancer(), pool, 1, key=key) == [1]
    )
    pool.endpoints[0].in_flight = 9

    assert chosen(balancer(), pool, 1, key=key) == [1], "9 of 11 is 1.09 times three quarters"
    pool.endpoints[0].in_flight = 90
    assert chosen(balancer(), pool, 1, key=key) == [2], "90 of 92 is 1.3 times"
