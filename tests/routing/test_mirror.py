import pytest

from router.routing.mirror import Mirror, SequenceGap
from router.routing.pool import Endpoint, Pool
from router.routing.records import (
    Change,
    DefineEndpoint,
    DropPool,
    EndpointRecord,
    ForgetEndpoints,
    PoolOptions,
    PutEmptyPool,
    PutEndpoint,
    RemoveEndpoint,
    SetPoolOptions,
)

KEY = "a.test"


def define(number: int) -> DefineEndpoint:
    return DefineEndpoint(number, EndpointRecord(f"10.0.0.{number}", 80))


def put(number: int, key: str = KEY, replaces: int = 0, options: PoolOptions | None = None) -> PutEndpoint:
    return PutEndpoint(key, "/", number, replaces, options or PoolOptions())


class Follower:
    """A mirror and the endpoints it said are gone."""

    def __init__(self, *snapshot: Change) -> None:
        self.gone: list[int] = []
        self.mirror = Mirror(lambda endpoint: self.gone.append(endpoint.endpoint_id))
        self.sequence = 0
        self.begin(*snapshot)
        self.mirror.finish_snapshot()

    def begin(self, *changes: Change) -> None:
        """Begin a snapshot."""
        self.sequence += 1
        self.mirror.apply(self.sequence, 1, changes)

    def tell(self, *changes: Change, snapshot: int = 0) -> None:
        self.sequence += 1
        self.mirror.apply(self.sequence, snapshot, changes)

    def pool(self, key: str = KEY) -> Pool:
        pool = self.mirror.table.pool(key)
        assert pool is not None
        return pool

    def endpoint(self, number: int, key: str = KEY) -> Endpoint:
        return next(each for each in self.pool(key).endpoints if each.endpoint_id == number)

    def table(self) -> dict[str, list[int]]:
        return {pool.key: [each.endpoint_id for each in pool.endpoints] for pool in self.mirror.table.pools()}


def test_snapshot_fills_the_table() -> None:
    follower = Follower(define(1), put(1), put(1, "b.test"), PutEmptyPool("c.test", "/", PoolOptions()))

    assert follower.table() == {KEY: [1], "b.test": [1], "c.test": []}
    assert follower.endpoint(1) is follower.endpoint(1, "b.test")


def test_snapshot_shows_only_once_it_is_whole() -> None:
    follower = Follower(define(1), put(1))
    follower.begin(define(2))
    follower.tell(put(2, "b.test"), snapshot=2)
    assert follower.table() == {KEY: [1]}

    follower.mirror.finish_snapshot()
    assert follower.table() == {"b.test": [2]}
    assert follower.gone == [1]


def test_endpoints_and_options_change() -> None:
    follower = Follower(define(1), define(2), put(1), put(2))
    options = PoolOptions(algorithm="least-connection")

    follower.tell(define(3), put(3, replaces=1), ForgetEndpoints([1]))
    assert follower.table() == {KEY: [3, 2]}
    assert follower.gone == [1]
    follower.tell(RemoveEndpoint(KEY, 2), SetPoolOptions(KEY, options), ForgetEndpoints([2]))
    assert follower.table() == {KEY: [3]}
    assert follower.pool().options == options
    follower.tell(DropPool(KEY), ForgetEndpoints([3]))
    assert follower.table() == {}
    assert follower.gone == [1, 2, 3]


def test_put_brings_the_options_of_the_whole_pool() -> None:
    options = PoolOptions(route_service_url="https://rs.test")
    follower = Follower(define(1), put(1), define(2))
    follower.tell(put(2, options=options))

    assert follower.pool().options == options


def test_equal_options_are_one_object() -> None:
    follower = Follower(define(1), put(1), put(1, "b.test"))

    assert follower.pool().options is follower.pool("b.test").options
    many = [SetPoolOptions(KEY, PoolOptions(route_service_url=f"https://{n}.test")) for n in range(3000)]
    follower.tell(*many)
    assert len(follower.mirror._options) < 3000


@pytest.mark.parametrize(
    "change",
    [
        RemoveEndpoint("unknown.test", 1),
        RemoveEndpoint(KEY, 9),
        SetPoolOptions("unknown.test", PoolOptions()),
        DropPool("unknown.test"),
        ForgetEndpoints([9]),
    ],
)
def test_change_to_something_unknown_changes_nothing(change: Change) -> None:
    follower = Follower(define(1), put(1))
    follower.tell(change)

    assert (follower.table(), follower.gone) == ({KEY: [1]}, [])


def test_forgotten_endpoint_is_gone() -> None:
    follower = Follower(define(1), put(1))
    endpoint = follower.endpoint(1)
    follower.tell(RemoveEndpoint(KEY, 1), ForgetEndpoints([1]))

    assert endpoint.gone


def test_new_snapshot_keeps_the_state_of_endpoints_that_stay() -> None:
    follower = Follower(define(1), define(2), put(1), put(2))
    stays = follower.endpoint(1)
    stays.in_flight, stays.failed_at, stays.idle = 3, 7.0, []
    follower.begin(define(1), put(1), put(1, "b.test"))
    follower.mirror.finish_snapshot()

    assert follower.endpoint(1) is stays
    assert (stays.in_flight, stays.failed_at, stays.gone) == (3, 7.0, False)
    assert follower.gone == [2]


def test_snapshot_begun_again_before_its_end_keeps_that_state_too() -> None:
    follower = Follower(define(1), define(2), put(1), put(2))
    stays = follower.endpoint(2)
    follower.begin(define(1), put(1))
    follower.begin(define(2), put(2), define(3), put(3))
    follower.mirror.finish_snapshot()

    assert follower.endpoint(2) is stays
    assert (follower.table(), follower.gone) == ({KEY: [2, 3]}, [1])


def test_changes_after_a_snapshot_apply_to_it() -> None:
    follower = Follower(define(1), put(1))
    follower.begin(define(1), put(1))
    follower.tell(define(2), put(2), RemoveEndpoint(KEY, 1), ForgetEndpoints([1]))
    follower.mirror.finish_snapshot()

    assert (follower.table(), follower.gone) == ({KEY: [2]}, [1])


@pytest.mark.parametrize("sequence", [0, 1, 3])
def test_frame_out_of_order_is_a_gap_and_changes_nothing(sequence: int) -> None:
    follower = Follower(define(1), put(1))

    with pytest.raises(SequenceGap):
        follower.mirror.apply(sequence, 0, [DropPool(KEY)])
    assert follower.table() == {KEY: [1]}


def test_frame_missing_inside_a_snapshot_is_a_gap() -> None:
    follower = Follower()
    follower.begin(define(1))

    with pytest.raises(SequenceGap):
        follower.mirror.apply(follower.sequence + 2, 2, [put(1)])


def test_endpoint_never_defined_is_a_gap() -> None:
    with pytest.raises(SequenceGap, match="never defined"):
        Follower().tell(put(9))


def test_snapshot_may_begin_at_any_sequence_and_heals_a_gap() -> None:
    follower = Follower(define(1), put(1))
    follower.sequence = 500
    follower.begin(define(2), put(2))
    follower.mirror.finish_snapshot()
    follower.tell(RemoveEndpoint(KEY, 2))

    assert follower.table() == {KEY: []}


def test_end_of_a_snapshot_that_never_began_changes_nothing() -> None:
    follower = Follower(define(1), put(1))
    follower.mirror.finish_snapshot()

    assert follower.table() == {KEY: [1]}


def test_pool_emptied_by_a_failure_stays_until_control_drops_it() -> None:
    follower = Follower(define(1), put(1))
    follower.mirror.remove_failed(follower.pool(), follower.endpoint(1))
    follower.tell(RemoveEndpoint(KEY, 1), ForgetEndpoints([1]))
    assert follower.table() == {KEY: []}

    follower.tell(DropPool(KEY))
    assert follower.table() == {}


def test_what_endpoints_say_of_themselves_is_kept_once() -> None:
    record = EndpointRecord("10.0.0.1", 80, True, "guid", "i", "0", "san", tags={"component": "x"})
    twin = EndpointRecord("10.0.0.2", 80, True, "gu" + "id", "j", "0", "san", tags={"component": "x"})
    follower = Follower(DefineEndpoint(1, record), DefineEndpoint(2, twin), put(1), put(2))
    one, two = follower.endpoint(1), follower.endpoint(2)

    assert (one.record.host, one.record.tls, one.record.app, one.record.san) == ("10.0.0.1", True, "guid", "san")
    assert one.record.app is two.record.app
    assert one.tags.as_dict() == {"component": "x"}
    assert one.tags.names is two.tags.names


def test_failed_endpoint_that_was_replaced_meanwhile_is_appended() -> None:
    follower = Follower(define(1), define(2), put(1), put(2))
    follower.mirror.remove_failed(follower.pool(), follower.endpoint(1))
    follower.tell(define(3), put(3, replaces=1), ForgetEndpoints([1]))

    assert follower.table() == {KEY: [2, 3]}


def test_endpoint_keeps_the_weight_it_was_announced_with() -> None:
    follower = Follower(DefineEndpoint(1, EndpointRecord("10.0.0.1", 80, weight=7)), put(1))
    pool = follower.mirror.table.pool(KEY)

    assert pool is not None
    assert pool.endpoints[0].record.weight == 7
