from typing import Any

from router.proxy.quoting import quote
from router.routing.pool import Endpoint, Pool
from router.routing.records import EndpointRecord, PoolOptions


class Connection:
    """An idle connection, as far as a pool is concerned."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint


def endpoint(number: int, **fields: Any) -> Endpoint:
    record = EndpointRecord(**{"host": f"10.0.0.{number}", "port": 80, **fields})
    return Endpoint(number, record)


def pool_of(*endpoints: Endpoint) -> Pool:
    pool = Pool("a.test", "/", PoolOptions())
    for each in endpoints:
        pool.put(each, None)
    return pool


def test_endpoints_stand_in_the_order_of_their_coming() -> None:
    one, two = endpoint(1), endpoint(2)
    pool = pool_of(one, two)
    pool.put(one, None)

    assert pool.endpoints == [one, two]


def test_endpoint_takes_the_place_of_the_one_it_replaces() -> None:
    one, two, three, new = endpoint(1), endpoint(2), endpoint(3), endpoint(4)
    pool = pool_of(one, two, three)
    pool.put(new, two)

    assert pool.endpoints == [one, new, three]


def test_endpoint_whose_predecessor_has_gone_is_appended() -> None:
    one, two, new = endpoint(1), endpoint(2), endpoint(3)
    pool = pool_of(one, two)
    pool.remove(1)
    pool.put(new, one)

    assert pool.endpoints == [two, new]


def test_removal_tells_whether_there_was_something_to_remove() -> None:
    pool = pool_of(endpoint(1))

    assert pool.remove(1)
    assert not pool.remove(1)
    assert pool.endpoints == []


def test_failure_mark_and_idle_connections_are_inherited() -> None:
    old, new = endpoint(1, app="old"), endpoint(1, app="new")
    old.failed_at = 7.0
    connection = Connection(old)
    old.idle = [connection]
    pool_of(old).put(new, old)

    assert (new.failed_at, new.idle) == (7.0, [connection])
    assert old.idle is None
    assert connection.endpoint is new


def test_idle_connections_survive_replacement_in_a_second_pool() -> None:
    old, new = endpoint(1, app="old"), endpoint(1, app="new")
    connection = Connection(old)
    old.idle = [connection]
    for pool in (pool_of(old), pool_of(old)):
        pool.put(new, old)

    assert new.idle == [connection]


def test_idle_connections_are_added_to_the_endpoints_own() -> None:
    old, new = endpoint(1, app="old"), endpoint(1, app="new")
    old.idle, new.idle = [Connection(old)], [Connection(new)]
    expected = [*new.idle, *old.idle]
    pool_of(old).put(new, old)

    assert new.idle == expected


def test_idle_connections_go_only_where_the_same_certificate_is_expected() -> None:
    for changed in ({"san": "other"}, {"tls": True}, {"port": 81}):
        old, new = endpoint(1), endpoint(1, **changed)
        connection = Connection(old)
        old.idle = [connection]
        pool_of(old).put(new, old)

        assert (new.idle, old.idle) == (None, [connection])
        assert connection.endpoint is old


def test_identity_names_app_instance_and_index() -> None:
    full = endpoint(1, app="guid", instance_id="i-1", instance_index="3")

    assert full.identity == b"X-Cf-Applicationid: guid\r\nX-Cf-Instanceid: i-1\r\nX-Cf-Instanceindex: 3\r\n"
    assert full.identity is full.identity


def test_identity_without_an_instance_id_names_the_address() -> None:
    assert b"X-Cf-Instanceid: 10.0.0.1:80\r\n" in endpoint(1).identity
    assert b"X-Cf-Instanceid: [fe80::1]:80\r\n" in endpoint(1, host="fe80::1").identity


def test_log_fields_are_quoted_once() -> None:
    one = endpoint(1, app='g"', instance_id="", instance_index="0")

    assert one.log_fields(quote) == b'app_id:"g\\"" app_index:"0" instance_id:"-"'
    assert one.log_fields(None) is one.log_fields(None)
