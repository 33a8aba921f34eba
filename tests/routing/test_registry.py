from typing import Any

import msgspec
import pytest

from router.routing.records import (
    Change,
    DefineEndpoint,
    DropPool,
    EndpointRecord,
    ForgetEndpoints,
    PoolOptions,
    PutEndpoint,
    RemoveEndpoint,
    SetPoolOptions,
)
from router.routing.registrations import ModificationTag, RegistryRules
from router.routing.registry import Registry
from router.routing.tombstones import LIFETIME_S
from tests.support.registry import Log, Worker, announced

DEFAULTS = RegistryRules()
KEEPING = RegistryRules(empty_pool_503=True, empty_pool_timeout_s=50.0)
FIRST, SECOND = "10.0.0.1:80", "10.0.0.2:80"


def registry(rules: RegistryRules = DEFAULTS, log: Log | None = None) -> Registry:
    return Registry(rules, log)


def changes_of(table: Registry) -> list[Change]:
    return table.take_changes()


def table_of(table: Registry) -> dict[str, list[str]]:
    document = msgspec.json.decode(b"".join(table.routes_json()))
    return {key: [endpoint["address"] for endpoint in endpoints] for key, endpoints in document.items()}


def test_addresses_are_counted_once_however_many_routes_they_have() -> None:
    table = registry()
    table.register(announced("a.test", "b.test"), 0.0)
    table.register(announced("a.test", host="10.0.0.2"), 0.0)

    assert table.count_addresses() == 2


# Register.


def test_first_registration_defines_the_endpoint_and_puts_it_into_each_pool() -> None:
    table = registry()
    table.register(announced("a.test", "B.test/Path", app="app"), 0.0)

    assert changes_of(table) == [
        DefineEndpoint(1, EndpointRecord("10.0.0.1", 80, app="app")),
        PutEndpoint("a.test", "/", 1, 0, PoolOptions()),
        PutEndpoint("b.test/path", "/Path", 1, 0, PoolOptions()),
    ]


def test_repeated_registration_changes_nothing() -> None:
    table = registry()
    table.register(announced("a.test"), 0.0)
    changes_of(table)
    table.register(announced("a.test"), 1.0)

    assert changes_of(table) == []
    assert not table.has_changes


def test_uri_named_twice_counts_once() -> None:
    table = registry()
    table.register(announced("a.test", "A.TEST/", "a.test?x"), 0.0)

    assert table_of(table) == {"a.test": [FIRST]}
    assert len(changes_of(table)) == 2


def test_context_path_of_a_pool_is_that_of_its_first_registration() -> None:
    table = registry()
    table.register(announced("a.test/Path"), 0.0)
    table.register(announced("a.test/PATH", host="10.0.0.2"), 0.0)

    paths = [change.context_path for change in changes_of(table) if isinstance(change, PutEndpoint)]
    assert paths == ["/Path", "/Path"]


def test_different_announcement_of_an_address_takes_its_position() -> None:
    table = registry()
    table.register(announced("a.test"), 0.0)
    table.register(announced("a.test", host="10.0.0.2"), 0.0)
    changes_of(table)
    table.register(announced("a.test", app="other"), 1.0)

    assert changes_of(table) == [
        DefineEndpoint(3, EndpointRecord("10.0.0.1", 80, app="other")),
        PutEndpoint("a.test", "/", 3, 1, PoolOptions()),
        ForgetEndpoints([1]),
    ]
    assert table_of(table) == {"a.test": [FIRST, SECOND]}


def test_other_weight_is_news_and_keeps_the_position() -> None:
    table = registry()
    table.register(announced("a.test"), 0.0)
    changes_of(table)
    table.register(announced("a.test", weight=3), 1.0)

    assert changes_of(table) == [
        DefineEndpoint(2, EndpointRecord("10.0.0.1", 80, weight=3)),
        PutEndpoint("a.test", "/", 2, 1, PoolOptions()),
        ForgetEndpoints([1]),
    ]


def test_endpoint_is_forgotten_only_when_no_pool_has_it() -> None:
    table = registry()
    table.register(announced("a.test", "b.test"), 0.0)
    changes_of(table)
    table.unregister(announced("a.test"), 1.0)
    first = changes_of(table)
    table.unregister(announced("b.test"), 1.0)

    assert first == [DropPool("a.test")]
    assert changes_of(table) == [DropPool("b.test"), ForgetEndpoints([1])]


def test_identity_is_the_address_not_the_app() -> None:
    table = registry()
    table.register(announced("a.test", app="one", instance_id="1"), 0.0)
    table.register(announced("a.test", app="two", instance_id="2"), 0.0)
    table.register(announced("a.test", port=81, app="two", instance_id="2"), 0.0)

    assert table_of(table) == {"a.test": [FIRST, "10.0.0.1:81"]}


def test_last_registration_decides_for_the_whole_pool() -> None:
    table = registry()
    table.register(announced("a.test", route_service_url="https://rs.test"), 0.0)
    table.register(announced("a.test", host="10.0.0.2"), 0.0)

    put = [change for change in changes_of(table) if isinstance(change, PutEndpoint)]
    assert [change.options.route_service_url for change in put] == ["https://rs.test", ""]


def test_pure_refresh_leaves_the_pool_options_to_the_last_news() -> None:
    table = registry()
    table.register(announced("a.test", route_service_url="https://rs.test"), 0.0)
    table.register(announced("a.test", host="10.0.0.2"), 0.0)
    changes_of(table)
    table.register(announced("a.test", route_service_url="https://rs.test"), 1.0)

    assert changes_of(table) == []


def test_other_options_alone_keep_the_endpoint() -> None:
    table = registry()
    table.register(announced("a.test"), 0.0)
    changes_of(table)
    table.register(announced("a.test", algorithm="least-connection"), 1.0)

    assert changes_of(table) == [SetPoolOptions("a.test", PoolOptions(algorithm="least-connection"))]


def test_unknown_algorithm_is_reported_and_the_old_one_stays() -> None:
    log = Log()
    table = registry(log=log)
    table.register(announced("a.test", algorithm="hash", hash_header="X"), 0.0)
    table.register(announced("a.test", host="10.0.0.2", algorithm="fastest"), 0.0)

    put = changes_of(table)[-1]
    assert isinstance(put, PutEndpoint)
    assert put.options == PoolOptions(algorithm="hash", hash_header="X")
    assert ("algorithm_unknown", "a.test", "fastest") in log.events


def test_other_time_to_live_is_not_the_workers_business() -> None:
    table = registry()
    table.register(announced("a.test"), 0.0)
    changes_of(table)
    table.register(announced("a.test", stale_threshold_s=30), 1.0)

    assert changes_of(table) == []
    assert b'"ttl":30' in b"".join(table.routes_json())


def test_http2_endpoint_is_spoken_to_in_http1_if_http2_is_off() -> None:
    table = registry(RegistryRules(http2=False))
    table.register(announced("a.test", protocol="http2"), 0.0)
    table.register(announced("b.test", protocol="gopher"), 0.0)

    records = [change.record for change in changes_of(table) if isinstance(change, DefineEndpoint)]
    assert [record.protocol for record in records] == ["http1", "gopher"]


def test_segment_not_served_is_ignored_in_silence() -> None:
    log = Log()
    table = registry(RegistryRules(sharding_mode="segments", isolation_segments=frozenset(["mine"])), log)
    table.register(announced("a.test", isolation_segment="other"), 0.0)
    table.register(announced("a.test", isolation_segment="mine"), 0.0)
    table.unregister(announced("a.test", isolation_segment="other"), 0.0)

    assert table_of(table) == {"a.test": [FIRST]}
    assert log.names() == ["route_registered", "endpoint_registered"]


# Unregister.


def test_unregister_takes_the_endpoint_out_of_each_pool() -> None:
    table = registry()
    table.register(announced("a.test", "b.test"), 0.0)
    table.register(announced("a.test", host="10.0.0.2"), 0.0)
    changes_of(table)
    table.unregister(announced("A.test/", "b.test"), 1.0)

    assert changes_of(table) == [RemoveEndpoint("a.test", 1), DropPool("b.test"), ForgetEndpoints([1])]
    assert table_of(table) == {"a.test": [SECOND]}


@pytest.mark.parametrize(
    "fields",
    [{"port": 81}, {"host": "10.0.0.9"}],
)
def test_unregister_of_unknown_endpoint_changes_nothing(fields: dict[str, Any]) -> None:
    log = Log()
    table = registry(log=log)
    table.register(announced("a.test"), 0.0)
    changes_of(table)
    table.unregister(announced("a.test", **fields), 1.0)

    assert changes_of(table) == []
    assert log.names()[-1] == "endpoint_not_unregistered"


def test_unregister_of_unknown_route_changes_nothing() -> None:
    table = registry()
    table.register(announced("a.test/x"), 0.0)
    changes_of(table)
    table.unregister(announced("a.test", "a.test/x/y", "b.test"), 1.0)

    assert changes_of(table) == []


def test_unregister_does_not_compare_app_instance_or_certificate_name() -> None:
    table = registry()
    table.register(announced("a.test", app="app", instance_id="id", san="san"), 0.0)
    table.unregister(announced("a.test"), 1.0)

    assert table_of(table) == {}


def test_empty_pool_is_dropped_at_once_by_default() -> None:
    log = Log()
    table = registry(log=log)
    table.register(announced("a.test"), 0.0)
    table.unregister(announced("a.test"), 1.0)

    assert table.total_routes == 0
    assert log.names()[-2:] == ["endpoint_unregistered", "route_unregistered"]


def test_kept_empty_pool_goes_at_the_first_pass_after_its_time() -> None:
    table = registry(KEEPING)
    table.register(announced("a.test", route_service_url="https://rs.test"), 0.0)
    table.unregister(announced("a.test"), 10.0)
    changes_of(table)
    table.prune(60.0, nats_connected=True)
    before = table_of(table)
    table.prune(60.1, nats_connected=True)

    assert before == {"a.test": []}
    assert changes_of(table) == [DropPool("a.test")]


def test_kept_empty_pool_takes_a_new_endpoint() -> None:
    table = registry(KEEPING)
    table.register(announced("a.test"), 0.0)
    table.unregister(announced("a.test"), 10.0)
    table.register(announced("a.test", host="10.0.0.2"), 20.0)
    table.prune(100.0, nats_connected=True)

    assert table_of(table) == {"a.test": [SECOND]}


# Order of announcements.


def test_older_announcement_neither_replaces_nor_refreshes() -> None:
    log = Log()
    table = registry(log=log)
    table.register(announced("a.test", app="new", updated_at_ns=5), 0.0)
    changes_of(table)
    table.register(announced("a.test", app="old", updated_at_ns=4), 100.0)
    table.prune(121.0, nats_connected=True)

    assert log.names()[2] == "registration_ignored"
    assert table.counters.registered == {("", "added"): 1, ("", "unmodified"): 1}
    assert changes_of(table) == [DropPool("a.test"), ForgetEndpoints([1])]


@pytest.mark.parametrize(("known_ns", "new_ns"), [(5, 6), (5, 5), (5, 0), (0, 5), (0, 0)])
def test_announcement_not_known_to_be_older_replaces(known_ns: int, new_ns: int) -> None:
    table = registry()
    table.register(announced("a.test", app="one", updated_at_ns=known_ns), 0.0)
    changes_of(table)
    table.register(announced("a.test", app="two", updated_at_ns=new_ns), 0.0)

    assert any(isinstance(change, PutEndpoint) for change in changes_of(table))


@pytest.mark.parametrize(
    ("known_ns", "late_ns", "revived"), [(5, 4, 0), (5, 5, 0), (5, 6, 1), (5, 0, 1), (0, 5, 1)]
)
def test_late_register_does_not_revive_what_was_unregistered(known_ns: int, late_ns: int, revived: int) -> None:
    table = registry()
    table.register(announced("a.test", updated_at_ns=known_ns), 0.0)
    table.unregister(announced("a.test"), 1.0)
    table.register(announced("a.test", updated_at_ns=late_ns), 2.0)

    assert table.total_routes == revived


def test_register_overtaken_by_its_own_unregister_is_ignored() -> None:
    table = registry()
    table.unregister(announced("a.test", updated_at_ns=5), 0.0)
    table.register(announced("a.test", updated_at_ns=5), 1.0)

    assert table.total_routes == 0


def test_tombstone_is_as_new_as_the_unregistration() -> None:
    table = registry()
    table.register(announced("a.test", updated_at_ns=5), 0.0)
    table.unregister(announced("a.test", updated_at_ns=8), 1.0)
    table.register(announced("a.test", updated_at_ns=7), 2.0)

    assert table.total_routes == 0


def test_same_announcement_is_taken_again_when_the_tombstone_has_ended() -> None:
    table = registry()
    table.register(announced("a.test", updated_at_ns=5), 0.0)
    table.unregister(announced("a.test", updated_at_ns=5), 1.0)
    table.register(announced("a.test", updated_at_ns=5), 1.0 + LIFETIME_S)

    assert table.total_routes == 1


def test_late_register_does_not_bring_back_a_kept_empty_pool_either() -> None:
    table = registry(KEEPING)
    table.register(announced("a.test", updated_at_ns=5), 0.0)
    table.unregister(announced("a.test", updated_at_ns=5), 1.0)
    table.register(announced("a.test", updated_at_ns=5), 2.0)

    assert table_of(table) == {"a.test": []}


@pytest.mark.parametrize(("known_ns", "ns", "left"), [(5, 4, 1), (5, 5, 0), (5, 6, 0), (5, 0, 0), (0, 4, 0)])
def test_older_unregister_does_not_remove_a_newer_register(known_ns: int, ns: int, left: int) -> None:
    table = registry()
    table.register(announced("a.test", updated_at_ns=known_ns), 0.0)
    table.unregister(announced("a.test", updated_at_ns=ns), 1.0)

    assert table.total_routes == left


def test_modification_tag_that_is_not_newer_changes_nothing() -> None:
    table = registry()
    table.register(announced("a.test", app="one"), 0.0, tag=ModificationTag("g", 2))
    table.register(announced("a.test", app="two"), 0.0, tag=ModificationTag("g", 2))
    table.register(announced("a.test", app="two"), 0.0, tag=ModificationTag("g", 1))
    table.unregister(announced("a.test"), 0.0, tag=ModificationTag("g", 1))

    assert table.counters.registered == {("", "added"): 1, ("", "unmodified"): 2}
    assert table.total_routes == 1


def test_newer_modification_tag_replaces_and_an_equal_one_removes() -> None:
    table = registry()
    table.register(announced("a.test", app="one"), 0.0, tag=ModificationTag("g", 2))
    table.register(announced("a.test", app="two"), 0.0, tag=ModificationTag("g", 3))
    table.unregister(announced("a.test"), 0.0, tag=ModificationTag("g", 3))

    assert table.counters.registered == {("", "added"): 1, ("", "updated"): 1}
    assert table.total_routes == 0


# Heartbeats.


def test_payload_never_heard_is_no_heartbeat() -> None:
    assert not registry().heartbeat(b"payload", 0.0)


def test_heartbeat_refreshes_every_route_of_the_message() -> None:
    table = registry()
    table.register(announced("a.test", "b.test"), 0.0, payload=b"payload")
    changes_of(table)

    assert table.heartbeat(b"payload", 100.0)
    table.prune(200.0, nats_connected=True)
    assert table_of(table) == {"a.test": [FIRST], "b.test": [FIRST]}
    assert changes_of(table) == []
    assert table.counters.registered["", "refreshed"] == 2


def end_by_unregister(table: Registry) -> None:
    table.unregister(announced("a.test"), 1.0)


def end_by_replacement(table: Registry) -> None:
    table.register(announced("a.test", app="other"), 1.0)


def end_by_other_time_to_live(table: Registry) -> None:
    table.register(announced("a.test", stale_threshold_s=7), 1.0)


def end_by_prune(table: Registry) -> None:
    table.prune(1000.0, nats_connected=True)


def end_by_new_rules(table: Registry) -> None:
    table.apply_rules(RegistryRules(stale_threshold_s=5.0))


@pytest.mark.parametrize(
    "end",
    [end_by_unregister, end_by_replacement, end_by_other_time_to_live, end_by_prune, end_by_new_rules],
)
def test_payload_is_no_heartbeat_once_anything_it_registered_has_changed(end: Any) -> None:
    table = registry()
    table.register(announced("a.test", "b.test"), 0.0, payload=b"payload")
    end(table)

    assert not table.heartbeat(b"payload", 1.0)


def test_payload_that_was_not_taken_whole_is_no_heartbeat() -> None:
    table = registry()
    table.register(announced("a.test", app="new", updated_at_ns=5), 0.0)
    table.register(announced("a.test", "b.test", app="old", updated_at_ns=4), 0.0, payload=b"payload")

    assert not table.heartbeat(b"payload", 1.0)


def test_failed_endpoint_comes_back_with_its_next_heartbeat() -> None:
    table = registry()
    table.register(announced("a.test", tls=True), 0.0, payload=b"payload")
    table.endpoint_failed("a.test", 1, 1.0)

    assert not table.heartbeat(b"payload", 2.0)
    table.register(announced("a.test", tls=True), 2.0, payload=b"payload")
    assert table_of(table) == {"a.test": [FIRST]}


# Failed connections.


def test_failed_tls_endpoint_is_removed_at_once_from_that_pool() -> None:
    table = registry()
    table.register(announced("a.test", "b.test", tls=True), 0.0)
    changes_of(table)
    table.endpoint_failed("a.test", 1, 1.0)

    assert changes_of(table) == [RemoveEndpoint("a.test", 1)]
    assert table_of(table) == {"a.test": [], "b.test": [FIRST]}


def test_pool_emptied_by_a_failure_stays_until_the_next_prune_pass() -> None:
    table = registry()
    table.register(announced("a.test", tls=True), 0.0)
    table.endpoint_failed("a.test", 1, 1.0)
    changes_of(table)
    table.prune(1.0, nats_connected=True)

    assert changes_of(table) == [DropPool("a.test")]


@pytest.mark.parametrize(("key", "endpoint_id"), [("a.test", 2), ("b.test", 1), ("a.test", 3)])
def test_failure_report_about_what_is_not_there_is_ignored(key: str, endpoint_id: int) -> None:
    table = registry()
    table.register(announced("a.test", tls=True), 0.0)
    table.register(announced("b.test", host="10.0.0.2", tls=True), 0.0)
    changes_of(table)
    table.endpoint_failed(key, endpoint_id, 1.0)

    assert changes_of(table) == []


def test_plain_endpoint_is_not_removed_for_a_failure() -> None:
    table = registry()
    table.register(announced("a.test"), 0.0)
    changes_of(table)
    table.endpoint_failed("a.test", 1, 1.0)

    assert changes_of(table) == []


# Pruning.


def test_endpoint_not_heard_of_for_its_time_to_live_is_pruned() -> None:
    log = Log()
    table = registry(log=log)
    table.register(announced("a.test", isolation_segment="s"), 0.0)
    table.register(announced("a.test", host="10.0.0.2"), 1.0)
    table.register(announced("b.test", host="10.0.0.3", stale_threshold_s=30), 90.0)
    changes_of(table)
    table.prune(120.0, nats_connected=True)
    at_120 = table_of(table)
    table.prune(120.5, nats_connected=True)

    assert at_120 == {"a.test": [FIRST, SECOND], "b.test": ["10.0.0.3:80"]}
    assert changes_of(table) == [
        RemoveEndpoint("a.test", 1),
        DropPool("b.test"),
        ForgetEndpoints([1, 3]),
    ]
    assert log.events[-2:] == [
        ("route_pruned", "a.test", [FIRST], "s"),
        ("route_pruned", "b.test", ["10.0.0.3:80"], ""),
    ]
    assert table.counters.pruned == 2


def test_tls_endpoint_never_ages() -> None:
    table = registry()
    table.register(announced("a.test", tls=True), 0.0)
    table.prune(1e9, nats_connected=True)

    assert table_of(table) == {"a.test": [FIRST]}


def test_pool_emptied_by_pruning_is_kept_for_its_time() -> None:
    table = registry(KEEPING)
    table.register(announced("a.test"), 0.0)
    changes_of(table)
    table.prune(121.0, nats_connected=True)
    first = changes_of(table)
    table.prune(171.5, nats_connected=True)

    assert first == [RemoveEndpoint("a.test", 1), ForgetEndpoints([1])]
    assert changes_of(table) == [DropPool("a.test")]


def test_nothing_is_pruned_while_suspended_and_all_is_fresh_afterwards() -> None:
    log = Log()
    table = registry(RegistryRules(suspend_pruning=True), log)
    table.register(announced("a.test"), 0.0)
    table.prune(1000.0, nats_connected=False)
    table.prune(2000.0, nats_connected=True)
    table.prune(2120.0, nats_connected=True)
    until_then = table_of(table)
    table.prune(2120.5, nats_connected=True)

    assert until_then == {"a.test": [FIRST]}
    assert table_of(table) == {}
    assert log.names()[2:] == ["prune_suspended", "route_pruned"]


def test_pruning_goes_on_without_nats_unless_it_is_to_be_suspended() -> None:
    table = registry()
    table.register(announced("a.test"), 0.0)
    table.prune(121.0, nats_connected=False)

    assert table_of(table) == {}


def test_table_may_change_between_the_steps_of_a_pass() -> None:
    table = registry()
    for number in range(10):
        table.register(announced(f"{number}.test"), 0.0)
    steps = table.prune_in_steps(121.0, nats_connected=True, pools_per_step=2)
    next(steps)
    table.unregister(announced("5.test"), 121.0)
    table.register(announced("6.test"), 121.0)
    table.register(announced("new.test"), 121.0)
    for _ in steps:
        pass

    assert sorted(table_of(table)) == ["6.test", "new.test"]


# New rules.


def test_endpoints_of_segments_not_served_any_more_go() -> None:
    table = registry()
    table.register(announced("a.test", "b.test", isolation_segment="other"), 0.0)
    table.register(announced("a.test", host="10.0.0.2", isolation_segment="mine"), 0.0)
    changes_of(table)
    table.apply_rules(RegistryRules(sharding_mode="segments", isolation_segments=frozenset(["mine"])))

    assert table_of(table) == {"a.test": [SECOND]}
    assert changes_of(table)[-1] == ForgetEndpoints([1])


def test_new_rules_hold_for_the_next_announcement() -> None:
    table = registry()
    table.register(announced("a.test", protocol="http2"), 0.0, payload=b"payload")
    table.apply_rules(RegistryRules(stale_threshold_s=10.0, http2=False))
    table.register(announced("a.test", protocol="http2"), 1.0, payload=b"payload")

    assert b'"protocol":"http1","tls":false,"ttl":10' in b"".join(table.routes_json())


# Counters.


def test_counters_tell_components_and_actions_apart() -> None:
    table = registry()
    emitted = {"component": "route-emitter"}
    table.register(announced("a.test", "b.test", tags=emitted), 1.0, payload=b"payload")
    table.register(announced("a.test", tags=emitted), 2.0)
    table.register(announced("a.test", host="10.0.0.2"), 3.0)
    table.register(announced("a.test", host="10.0.0.2", app="app"), 4.0)
    table.unregister(announced("a.test", "b.test", "none.test", tags=emitted), 5.0)

    assert table.counters.registered == {
        ("route-emitter", "added"): 2,
        ("route-emitter", "refreshed"): 1,
        ("", "added"): 1,
        ("", "updated"): 1,
    }
    assert table.counters.unregistered == {"route-emitter": 3}
    assert table.counters.updated_at == 5.0
    assert table.total_routes == 1


# Snapshots.


def test_snapshot_with_changes_not_taken_is_an_error() -> None:
    table = registry()
    table.register(announced("a.test"), 0.0)

    with pytest.raises(RuntimeError):
        table.snapshot()


def test_worker_with_snapshot_and_later_changes_has_the_table() -> None:
    table = registry(KEEPING)
    early = Worker(table)
    early.take_snapshot()
    table.register(announced("a.test", "b.test"), 0.0)
    table.register(announced("a.test", host="10.0.0.2"), 0.0)
    table.register(announced("empty.test"), 0.0)
    table.unregister(announced("empty.test"), 0.0)
    late = Worker(table)
    late.take_snapshot([early])
    table.unregister(announced("a.test"), 1.0)
    changes = table.take_changes()
    early.apply(changes)
    late.apply(changes)

    assert early.table() == late.table() == table_of(table)


def test_snapshot_shows_the_moment_it_was_taken() -> None:
    table = registry()
    for number in range(10):
        table.register(announced(f"{number}.test"), 0.0)
    changes_of(table)
    chunks = table.snapshot(4)
    first = next(chunks)
    table.unregister(announced("9.test"), 0.0)
    table.register(announced("new.test"), 0.0)
    rest = [change for chunk in chunks for change in chunk]

    assert len(first) == 4
    assert [change.key for change in [*first, *rest] if isinstance(change, PutEndpoint)] == [
        f"{number}.test" for number in range(10)
    ]


# Internal names.

INTERNAL = RegistryRules(internal_domains=frozenset(("apps.internal",)))


def test_public_route_for_an_internal_name_is_refused() -> None:
    log = Log()
    table = registry(INTERNAL, log)
    table.register(announced("x.apps.internal", "a.test", "*.internal"), 0.0, payload=b"p")
    assert table_of(table) == {"a.test": [FIRST]}
    assert [event[:2] for event in log.events[:2]] == [
        ("internal_refused", "x.apps.internal"),
        ("internal_refused", "*.internal"),
    ]
    assert table.heartbeat(b"p", 1.0)


def test_announcement_of_nothing_but_internal_names_changes_nothing() -> None:
    table = registry(INTERNAL)
    table.register(announced("x.apps.internal"), 0.0, payload=b"p")
    assert changes_of(table) == []
    assert not table.heartbeat(b"p", 1.0)
    assert table.total_routes == 0


def test_unregistration_of_an_internal_name_is_refused() -> None:
    log = Log()
    table = registry(INTERNAL, log)
    table.register(announced("a.test"), 0.0)
    del log.events[:]
    table.unregister(announced("x.apps.internal"), 0.0)
    assert [event[:2] for event in log.events] == [("internal_refused", "x.apps.internal")]
    assert table_of(table) == {"a.test": [FIRST]}
