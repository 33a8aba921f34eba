from router.routing.records import DefineEndpoint, EndpointRecord, PoolOptions, PutEmptyPool, PutEndpoint
from router.routing.registrations import NO_OPTIONS, UNTAGGED, Membership, RegisteredEndpoint, RegisteredPool
from router.routing.snapshot import TableSnapshot

ONE, TWO = (EndpointRecord(f"10.0.0.{number}", 80) for number in (1, 2))


def pool(key: str, *endpoints: RegisteredEndpoint) -> RegisteredPool:
    made = RegisteredPool(key, "/")
    for endpoint in endpoints:
        made.members[endpoint.record.address] = Membership(endpoint, NO_OPTIONS, 1.0, UNTAGGED, 0.0)
    return made


def test_tells_pools_in_order_and_defines_each_endpoint_before_its_first_use() -> None:
    one, two = RegisteredEndpoint(1, ONE), RegisteredEndpoint(2, TWO)
    pools = [pool("a.test", one), pool("b.test"), pool("c.test", two, one)]

    assert list(TableSnapshot(pools).chunks(100)) == [
        [
            DefineEndpoint(1, ONE),
            PutEndpoint("a.test", "/", 1, 0, PoolOptions()),
            PutEmptyPool("b.test", "/", PoolOptions()),
            DefineEndpoint(2, TWO),
            PutEndpoint("c.test", "/", 2, 0, PoolOptions()),
            PutEndpoint("c.test", "/", 1, 0, PoolOptions()),
        ]
    ]


def test_no_chunk_is_longer_than_asked_even_for_a_large_pool() -> None:
    endpoints = [RegisteredEndpoint(number, EndpointRecord("10.0.0.1", number)) for number in range(1, 12)]
    chunks = list(TableSnapshot([pool("a.test", *endpoints)]).chunks(5))

    assert [len(chunk) for chunk in chunks] == [5, 5, 5, 5, 2]


def test_later_changes_of_a_pool_are_not_in_the_picture() -> None:
    one, two = RegisteredEndpoint(1, ONE), RegisteredEndpoint(2, TWO)
    changing = pool("a.test", one)
    snapshot = TableSnapshot([changing])
    changing.members[TWO.address] = Membership(two, NO_OPTIONS, 1.0, UNTAGGED, 0.0)
    changing.options = PoolOptions(algorithm="hash")

    assert list(snapshot.chunks(9)) == [[DefineEndpoint(1, ONE), PutEndpoint("a.test", "/", 1, 0, PoolOptions())]]


def test_empty_table_has_no_chunks() -> None:
    assert list(TableSnapshot([]).chunks(9)) == []
