from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.routing.balancing import LEAST_CONNECTION, ROUND_ROBIN, Balancer
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
    assert not one.all_overloaded(pool)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [1, 3])
def test_nothing_is_chosen_when_all_are_overloaded(algorithm: str, size: int) -> None:
    one, pool = balancer(algorithm, limit=1), pool_of(size)
    for endpoint in pool.endpoints:
        endpoint.in_flight = 1

    assert one.all_overloaded(pool)
    assert one.choose(pool, None, 100.0) is None
    # Without a limit nothing is ever overloaded.
    assert not balancer(algorithm).all_overloaded(pool)
    assert balancer(algorithm).choose(pool, None, 100.0) is not None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_empty_pool_has_no_choice_and_is_not_overloaded(algorithm: str) -> None:
    one, pool = balancer(algorithm, limit=1), pool_of(0)

    assert one.choose(pool, None, 100.0) is None
    assert not one.all_overloaded(pool)


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
