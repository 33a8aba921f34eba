from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.routing.balancing import HASH, LEAST_CONNECTION, ROUND_ROBIN, Balancer
from router.routing.pool import Endpoint, Pool
from router.routing.records import EndpointRecord, PoolOptions

MARK_S = 30.0
ALGORITHMS = [ROUND_ROBIN, LEAST_CONNECTION]


def pool_of(count: int, algorithm: str = "") -> Pool:
    pool = Pool("a.test", "/", PoolOptions(algorithm=algorithm))
    for number in range(1, count + 1):
        pool.put(Endpoint(number, EndpointRecord(f"10.0.0.{number}", 80)), None)
    return pool


def balancer(
    algorithm: str = ROUND_ROBIN, *, limit: int = 0, random: Callable[[], float] = lambda: 0.0
) -> Balancer:
    return Balancer(algorithm, limit, MARK_S, random)


def chosen(
    balancer: Balancer, pool: Pool, times: int, *, tried: list[Endpoint] | None = None, now: float = 100.0
) -> list[int]:
    picked = [balancer.choose(pool, tried, now) for _ in range(times)]
    return [endpoint.endpoint_id if endpoint else 0 for endpoint in picked]


def test_round_robin_begins_anywhere_and_takes_turns() -> None:
    assert chosen(balancer(random=lambda: 0.0), pool_of(3), 4) == [1, 2, 3, 1]
    assert chosen(balancer(random=lambda: 0.99), pool_of(3), 4) == [3, 1, 2, 3]


def test_round_robin_goes_on_when_the_pool_shrinks() -> None:
    one, pool = balancer(), pool_of(4)
    assert chosen(one, pool, 4) == [1, 2, 3, 4]
    pool.remove(3)
    pool.remove(4)

    assert chosen(one, pool, 4) == [1, 2, 1, 2]


def test_round_robin_passes_over_marked_endpoints_until_their_mark_is_old() -> None:
    one, pool = balancer(), pool_of(3)
    pool.endpoints[1].failed_at = 100.0

    assert chosen(one, pool, 3, now=100.0 + MARK_S - 1) == [1, 3, 1]
    assert chosen(one, pool, 3, now=100.0 + MARK_S) == [2, 3, 1]
    assert pool.endpoints[1].failed_at == 0.0


def test_pool_with_all_endpoints_marked_is_used_as_if_healthy() -> None:
    one, pool = balancer(), pool_of(3)
    for endpoint in pool.endpoints:
        endpoint.failed_at = 99.0

    assert chosen(one, pool, 4) == [1, 2, 3, 1]
    assert [endpoint.failed_at for endpoint in pool.endpoints] == [0.0, 0.0, 0.0]


def test_marked_endpoint_is_taken_if_the_others_are_overloaded_or_tried() -> None:
    one, pool = balancer(limit=1), pool_of(3)
    pool.endpoints[0].failed_at = 99.0
    pool.endpoints[1].in_flight = 1

    assert chosen(one, pool, 1, tried=[pool.endpoints[2]]) == [1]


def test_least_connection_takes_the_least_loaded() -> None:
    pool = pool_of(3)
    for endpoint, load in zip(pool.endpoints, (2, 1, 3), strict=True):
        endpoint.in_flight = load

    assert chosen(balancer(LEAST_CONNECTION), pool, 2) == [2, 2]


def test_least_connection_avoids_marked_endpoints_while_others_are_left() -> None:
    pool = pool_of(3)
    for endpoint, load in zip(pool.endpoints, (2, 0, 3), strict=True):
        endpoint.in_flight = load
    pool.endpoints[1].failed_at = 99.0

    assert chosen(balancer(LEAST_CONNECTION), pool, 1) == [1]
    pool.endpoints[0].failed_at = pool.endpoints[2].failed_at = 99.0
    assert chosen(balancer(LEAST_CONNECTION), pool, 1) == [2]


def test_least_connection_breaks_ties_by_chance() -> None:
    counts = Counter(chosen(balancer(LEAST_CONNECTION, random=Random(1).random), pool_of(4), 4000))

    assert set(counts) == {1, 2, 3, 4}
    assert min(counts.values()) > 800


def test_pool_may_name_its_own_algorithm() -> None:
    loaded = pool_of(2, LEAST_CONNECTION)
    loaded.endpoints[0].in_flight = 1
    assert chosen(balancer(ROUND_ROBIN), loaded, 2) == [2, 2]

    turns = pool_of(2, ROUND_ROBIN)
    turns.endpoints[0].in_flight = 1
    assert chosen(balancer(LEAST_CONNECTION), turns, 2) == [1, 2]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_overloaded_endpoints_are_passed_over(algorithm: str) -> None:
    one, pool = balancer(algorithm, limit=2), pool_of(3)
    pool.endpoints[0].in_flight = pool.endpoints[2].in_flight = 2

    assert chosen(one, pool, 2) == [2, 2]
    assert not one.all_overloaded(pool.endpoints)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [1, 3])
def test_nothing_is_chosen_when_all_are_overloaded(algorithm: str, size: int) -> None:
    one, pool = balancer(algorithm, limit=1), pool_of(size)
    for endpoint in pool.endpoints:
        endpoint.in_flight = 1

    assert one.all_overloaded(pool.endpoints)
    assert one.choose(pool, None, 100.0) is None
    # Without a limit nothing is ever overloaded.
    assert not balancer(algorithm).all_overloaded(pool.endpoints)
    assert balancer(algorithm).choose(pool, None, 100.0) is not None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_empty_pool_has_no_choice_and_is_not_overloaded(algorithm: str) -> None:
    one, pool = balancer(algorithm, limit=1), pool_of(0)

    assert one.choose(pool, None, 100.0) is None
    assert not one.all_overloaded(pool.endpoints)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_endpoint_tried_already_is_not_chosen_while_another_is_left(algorithm: str) -> None:
    one, pool = balancer(algorithm, random=Random(1).random), pool_of(3)
    tried: list[Endpoint] = []
    for _ in range(3):
        endpoint = one.choose(pool, tried, 100.0)
        assert endpoint is not None
        assert endpoint not in tried
        tried.append(endpoint)

    assert one.choose(pool, tried, 100.0) in pool.endpoints


def test_only_endpoint_is_chosen_even_if_tried_or_marked() -> None:
    pool = pool_of(1)
    pool.endpoints[0].failed_at = 100.0

    assert chosen(balancer(), pool, 2, tried=list(pool.endpoints)) == [1, 1]


@settings(deadline=None, derandomize=True)
@given(st.integers(2, 7), st.integers(1, 5), st.floats(0, 1, exclude_max=True))
def test_round_robin_is_fair(size: int, rounds: int, start: float) -> None:
    counts = Counter(chosen(balancer(random=lambda: start), pool_of(size), size * rounds))

    assert set(counts.values()) == {rounds}
    assert len(counts) == size


states = st.tuples(st.integers(0, 2), st.booleans(), st.booleans())


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    st.lists(states, min_size=1, max_size=6), st.sampled_from(ALGORITHMS), st.integers(0, 2), st.integers(-1, 9)
)
def test_choice_is_never_overloaded_and_never_worse_than_another(
    loads: list[tuple[int, bool, bool]], algorithm: str, limit: int, cursor: int
) -> None:
    pool = pool_of(len(loads))
    pool.cursor = cursor
    for endpoint, (in_flight, marked, _) in zip(pool.endpoints, loads, strict=True):
        endpoint.in_flight = in_flight
        endpoint.failed_at = 99.0 if marked else 0.0
    tried = [endpoint for endpoint, (_, _, used) in zip(pool.endpoints, loads, strict=True) if used]
    marked_before = {endpoint for endpoint in pool.endpoints if endpoint.failed_at}
    free = [each for each in pool.endpoints if not limit or each.in_flight < limit]
    fresh = [each for each in free if each not in tried]
    best = fresh if len(tried) < len(pool.endpoints) and len(pool.endpoints) > 1 else free

    picked = balancer(algorithm, limit=limit).choose(pool, tried, 100.0)

    assert (picked in best) if best else (picked is None)
    if algorithm == LEAST_CONNECTION and picked is not None:
        unmarked = [each for each in best if each not in marked_before] if len(pool.endpoints) > 1 else best
        assert picked.in_flight == min(each.in_flight for each in unmarked or best)
    if picked in marked_before:
        assert marked_before.issuperset(best)


# Our own availability zone.


def zoned(*zones: str, algorithm: str = "") -> Pool:
    pool = Pool("a.test", "/", PoolOptions(algorithm=algorithm))
    for number, zone in enumerate(zones, 1):
        pool.put(Endpoint(number, EndpointRecord(f"10.0.0.{number}", 80, availability_zone=zone)), None)
    return pool


def local_balancer(algorithm: str = ROUND_ROBIN, zone: str = "z1", limit: int = 0) -> Balancer:
    return Balancer(algorithm, limit, MARK_S, lambda: 0.0, zone, az_local=True)


def test_first_attempts_take_turns_in_our_zone() -> None:
    assert chosen(local_balancer(), zoned("z2", "z1", "z2", "z1", "z3"), 5) == [2, 4, 2, 4, 2]


def test_least_connection_looks_in_our_zone_first() -> None:
    pool = zoned("z2", "z1", "z1")
    pool.endpoints[1].in_flight, pool.endpoints[2].in_flight = 4, 3

    assert chosen(local_balancer(LEAST_CONNECTION), pool, 2) == [3, 3]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_retries_know_no_zone(algorithm: str) -> None:
    pool = zoned("z2", "z1", "z1")
    for endpoint in pool.endpoints[1:]:
        endpoint.in_flight = 1

    assert chosen(local_balancer(algorithm), pool, 1, tried=[pool.endpoints[1]]) in ([1], [3])
    pool.cursor = 0
    assert chosen(local_balancer(algorithm), pool, 1, tried=[pool.endpoints[1]]) == [1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_zone_without_a_usable_endpoint_is_no_obstacle(algorithm: str) -> None:
    pool = zoned("z2", "z1", "z1")
    pool.endpoints[1].in_flight = 1
    pool.endpoints[2].failed_at = 99.0

    assert chosen(local_balancer(algorithm, limit=1), pool, 2) == [1, 1]
    # The mark of the other zone's endpoint is kept, unlike in Gorouter.
    assert pool.endpoints[2].failed_at == 99.0
    pool.cursor = 0
    assert chosen(local_balancer(algorithm, "nowhere"), pool, 1) == [1]


def test_router_without_a_zone_is_in_the_zone_of_endpoints_without_one() -> None:
    assert chosen(local_balancer(zone=""), zoned("z1", "", "z2"), 2) == [2, 2]


def test_zones_mean_nothing_unless_asked_for() -> None:
    plain = Balancer(ROUND_ROBIN, 0, MARK_S, lambda: 0.0, "z1")

    assert chosen(plain, zoned("z2", "z1", "z1"), 3) == [1, 2, 3]


# By the value of a header.


def hashed(*ids: str, balance: float = 0.0) -> Pool:
    pool = Pool("a.test", "/", PoolOptions(algorithm=HASH, hash_header="X-Tenant", hash_balance=balance))
    for number, name in enumerate(ids, 1):
        pool.put(Endpoint(number, EndpointRecord(f"10.0.0.{number}", 80, instance_id=name)), None)
    return pool


def by_hash(pool: Pool, key: bytes, *tried: Endpoint, limit: int = 0, algorithm: str = ROUND_ROBIN) -> int:
    endpoint = balancer(algorithm, limit=limit).choose(pool, list(tried), 100.0, key)
    return endpoint.endpoint_id if endpoint else 0


INSTANCES = ("inst-3", "inst-1", "inst-2")
"""Out of order, since the table goes by ids and not by the order of registration; `by_hash` gives positions."""


@pytest.mark.parametrize(("key", "place"), [(b"tenant-a", 1), (b"tenant-b", 2), (b"tenant-c", 3)])
def test_header_value_leads_to_its_endpoint(key: bytes, place: int) -> None:
    pool = hashed(*INSTANCES)

    assert {by_hash(pool, key) for _ in range(3)} == {place}


def test_hash_heeds_neither_marks_nor_zones() -> None:
    pool = hashed(*INSTANCES)
    pool.endpoints[0].failed_at = 99.0
    here = local_balancer(zone="z1")

    assert by_hash(pool, b"tenant-a") == 1
    assert here.choose(pool, None, 100.0, b"tenant-a") is pool.endpoints[0]


def test_without_a_value_the_router_s_algorithm_chooses() -> None:
    pool = hashed(*INSTANCES)
    pool.endpoints[0].in_flight = pool.endpoints[1].in_flight = 1

    assert chosen(balancer(ROUND_ROBIN), pool, 3) == [1, 2, 3]
    assert chosen(balancer(LEAST_CONNECTION), pool, 2) == [3, 3]


def test_only_endpoint_of_a_hashed_pool_is_chosen_unless_overloaded() -> None:
    pool = hashed("inst-1")
    pool.endpoints[0].in_flight = 1

    assert by_hash(pool, b"tenant-a") == 1
    assert by_hash(pool, b"tenant-a", limit=1) == 0


def test_retries_walk_on_until_all_were_tried() -> None:
    pool = hashed(*INSTANCES)
    tried: list[Endpoint] = []
    for _ in pool.endpoints:
        endpoint = balancer().choose(pool, tried, 100.0, b"tenant-a")
        assert endpoint is not None
        tried.append(endpoint)

    assert tried[0] is pool.endpoints[0]
    assert len(set(tried)) == 3
    assert by_hash(pool, b"tenant-a", *tried) == 1


def test_overloaded_owner_is_passed_over() -> None:
    pool = hashed(*INSTANCES)
    pool.endpoints[0].in_flight = 2

    assert by_hash(pool, b"tenant-a", limit=2) in (2, 3)
    assert by_hash(pool, b"tenant-a", limit=3) == 1
    for endpoint in pool.endpoints:
        endpoint.in_flight = 2
    assert by_hash(pool, b"tenant-a", limit=2) == 0


@pytest.mark.parametrize(("in_flight", "stays"), [(5, True), (6, False)])
def test_owner_far_above_the_mean_is_passed_over(in_flight: int, stays: bool) -> None:
    # Means of 4 and 13/3: 5 is 1.25 times the one, 6 is 1.38 times the other.
    pool = hashed(*INSTANCES, balance=1.25)
    for endpoint, load in zip(pool.endpoints, (in_flight, 3, 4), strict=True):
        endpoint.in_flight = load

    assert (by_hash(pool, b"tenant-a") == 1) == stays


def test_pool_with_nothing_in_flight_or_without_a_factor_is_balanced() -> None:
    assert by_hash(hashed(*INSTANCES, balance=1.25), b"tenant-a") == 1
    pool = hashed(*INSTANCES)
    pool.endpoints[0].in_flight = 1000
    assert by_hash(pool, b"tenant-a") == 1


def test_imbalance_is_no_reason_to_fail_when_the_others_cannot_be_had() -> None:
    pool = hashed(*INSTANCES, balance=1.25)
    pool.endpoints[1].in_flight = pool.endpoints[2].in_flight = 9

    assert by_hash(pool, b"tenant-a", pool.endpoints[0]) in (2, 3)


def test_table_follows_the_members() -> None:
    pool = hashed(*INSTANCES)
    assert by_hash(pool, b"tenant-a") == 1
    pool.remove(1)
    assert by_hash(pool, b"tenant-a") in (2, 3)
    pool.put(Endpoint(9, EndpointRecord("10.0.0.9", 80, instance_id="inst-3")), None)
    assert by_hash(pool, b"tenant-a") == 9


def test_endpoints_without_instance_ids_are_told_apart_by_address() -> None:
    pool = hashed("", "", "")

    assert {by_hash(pool, b"key %d" % number) for number in range(50)} == {1, 2, 3}


def test_size_of_the_table_is_an_option() -> None:
    pool = hashed(*INSTANCES)
    small = Balancer(ROUND_ROBIN, 0, MARK_S, lambda: 0.0, table_size=7)
    found = {small.choose(pool, None, 100.0, b"key %d" % number) for number in range(50)}

    assert found == set(pool.endpoints)


# By a sticky cookie.


def test_sticky_cookie_names_an_endpoint_by_instance_id_or_address() -> None:
    pool, one = hashed(*INSTANCES), balancer()

    assert one.by_instance(pool, b"inst-1") is pool.endpoints[1]
    assert one.by_instance(pool, b"10.0.0.3:80") is pool.endpoints[2]
    # Even if marked: the session is there and nowhere else.
    pool.endpoints[1].failed_at = 99.0
    assert one.by_instance(pool, b"inst-1") is pool.endpoints[1]


def test_instance_id_goes_before_another_endpoint_s_address() -> None:
    pool = hashed("inst-1", "10.0.0.1:80")

    assert balancer().by_instance(pool, b"10.0.0.1:80") is pool.endpoints[1]


@pytest.mark.parametrize("wanted", [b"", b"inst-9", b"INST-1", b"inst-1 ", b"\xff\xfe"])
def test_sticky_cookie_for_nobody_finds_nobody(wanted: bytes) -> None:
    assert balancer().by_instance(hashed("", *INSTANCES), wanted) is None


def test_sticky_endpoint_that_is_overloaded_is_not_had() -> None:
    pool = hashed(*INSTANCES)
    pool.endpoints[1].in_flight = 1

    assert balancer(limit=1).by_instance(pool, b"inst-1") is None
    assert balancer(limit=2).by_instance(pool, b"inst-1") is pool.endpoints[1]
