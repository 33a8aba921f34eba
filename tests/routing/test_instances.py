import pytest

from router.routing.balancing import LEAST_CONNECTION, ROUND_ROBIN, Balancer
from router.routing.instances import (
    app_instance_pool,
    parse_app_instance,
    parse_process_instance,
    process_instance_pool,
)
from router.routing.pool import Endpoint, Pool
from router.routing.records import EndpointRecord, PoolOptions
from router.routing.sharing import Shared

APP = "0123abcd-4567-89ab-cdef-0123456789ab"
OTHER = "ffffffff-4567-89ab-cdef-0123456789ab"


def member(number: int, app: str = APP, index: str = "0", process: str = "") -> Endpoint:
    record = EndpointRecord(f"10.0.0.{number}", 80, app=app, instance_id=f"i{number}", instance_index=index)
    return Endpoint(number, record, Shared().packed({"process_id": process} if process else {}))


def pool_of(*members: Endpoint, options: PoolOptions | None = None) -> Pool:
    pool = Pool("a.test/x", "/X", options or PoolOptions())
    for endpoint in members:
        pool.put(endpoint, None)
    return pool


@pytest.mark.parametrize(
    ("value", "app", "process"),
    [
        (f"{APP}:0", (APP, "0"), (APP, "0")),
        (f"{APP}:012", (APP, "012"), (APP, "012")),
        (APP, None, (APP, "")),
        (f"{APP}:", None, None),
        (f"{APP}:-1", None, None),
        (f"{APP}:1a", None, None),
        (f"{APP}:1:2", None, None),
        (f"{APP}:1\n", None, None),
        (f" {APP}:1", None, None),
        (f"{APP}:\u0661", None, None),
        (f"{APP.upper()}:1", None, None),
        (f"{APP[:-1]}:1", None, None),
        (f"{APP.replace('-', '')}:1", None, None),
        ("", None, None),
        (":0", None, None),
    ],
)
def test_only_the_exact_form_names_an_instance(
    value: str, app: tuple[str, str] | None, process: tuple[str, str] | None
) -> None:
    assert parse_app_instance(value.encode()) == app
    assert parse_process_instance(value.encode()) == process


def test_instance_of_an_app_is_found_by_app_and_index() -> None:
    pool = pool_of(member(1), member(2, index="1"), member(3, OTHER, "1"))
    part = app_instance_pool(pool, APP, "1")

    assert part is not None
    assert [endpoint.endpoint_id for endpoint in part.endpoints] == [2]
    assert (part.key, part.context_path, part.options) == (pool.key, pool.context_path, pool.options)


def test_of_two_instances_with_one_index_the_later_announced_counts() -> None:
    part = app_instance_pool(pool_of(member(1), member(2), member(3, OTHER)), APP, "0")

    assert part is not None
    assert [endpoint.endpoint_id for endpoint in part.endpoints] == [2]


def test_instances_of_a_process_are_found_by_tag_and_index() -> None:
    pool = pool_of(
        member(1, process=OTHER), member(2, index="1", process=OTHER), member(3), member(4, process=APP)
    )
    whole, one = process_instance_pool(pool, OTHER, ""), process_instance_pool(pool, OTHER, "1")

    assert whole is not None
    assert [endpoint.endpoint_id for endpoint in whole.endpoints] == [1, 2]
    assert one is not None
    assert [endpoint.endpoint_id for endpoint in one.endpoints] == [2]


def test_instances_that_are_not_there_have_no_pool() -> None:
    pool = pool_of(member(1, process=APP))

    assert app_instance_pool(pool, OTHER, "0") is None
    assert app_instance_pool(pool, APP, "1") is None
    assert process_instance_pool(pool, OTHER, "") is None
    assert process_instance_pool(pool, APP, "7") is None


@pytest.mark.parametrize("algorithm", [ROUND_ROBIN, LEAST_CONNECTION])
def test_failure_marks_count_for_nothing_in_a_part_and_are_kept(algorithm: str) -> None:
    pool = pool_of(member(1, process=APP), member(2, process=APP), member(3))
    marked = pool.endpoints[0]
    marked.failed_at = 99.0
    pool.endpoints[1].in_flight = 1
    part = process_instance_pool(pool, APP, "")
    assert part is not None
    part.cursor = 0
    balancer = Balancer(algorithm, 0, 30.0, lambda: 0.0)

    assert balancer.choose(part, None, 100.0) is marked
    assert balancer.choose(part, [pool.endpoints[1]], 200.0) is marked
    assert marked.failed_at == 99.0


def test_hash_goes_by_the_table_of_the_whole_pool() -> None:
    pool = pool_of(*(member(n, process=APP if n > 1 else "") for n in (1, 2, 3)), options=PoolOptions("", "hash"))
    part = process_instance_pool(pool, APP, "")
    assert part is not None
    balancer = Balancer(ROUND_ROBIN, 0, 30.0, lambda: 0.0)

    for key in (b"a", b"b", b"c", b"d", b"e"):
        chosen = balancer.choose(pool, None, 100.0, key)
        in_part = balancer.choose(part, None, 100.0, key)
        assert in_part in part.endpoints
        assert in_part is chosen or chosen is pool.endpoints[0]


def test_what_is_removed_from_a_part_is_removed_from_the_whole() -> None:
    pool = pool_of(member(1), member(2, OTHER))
    part = app_instance_pool(pool, APP, "0")
    assert part is not None

    assert part.remove(1)
    assert part.endpoints == []
    assert [endpoint.endpoint_id for endpoint in pool.endpoints] == [2]
