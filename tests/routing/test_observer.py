from router.routing.observer import RegistryCounters
from router.routing.registrations import RegistryRules
from router.routing.registry import Registry
from tests.support.registry import Log, announced


def test_heartbeat_is_no_event() -> None:
    log = Log()
    table = Registry(RegistryRules(), log)
    table.register(announced("a.test"), 0.0, payload=b"payload")
    before = list(log.events)
    table.heartbeat(b"payload", 1.0)
    table.register(announced("a.test"), 2.0)

    assert log.events == before


def test_registry_without_an_observer_tells_nobody() -> None:
    table = Registry(RegistryRules(suspend_pruning=True))
    table.register(announced("a.test", tls=True, algorithm="fastest", updated_at_ns=5), 0.0)
    table.register(announced("a.test", tls=True, updated_at_ns=4), 0.0)
    table.register(announced("a.test", tls=True, app="new", updated_at_ns=6), 0.0)
    table.endpoint_failed("a.test", 2, 0.0)
    table.unregister(announced("a.test"), 0.0)
    table.register(announced("b.test"), 0.0)
    table.unregister(announced("b.test"), 0.0)
    table.register(announced("c.test"), 0.0)
    table.prune(500.0, nats_connected=False)
    table.prune(500.0, nats_connected=True)
    table.prune(1000.0, nats_connected=True)

    assert table.total_routes == 0


def test_nothing_is_counted_before_anything_happens() -> None:
    counters = RegistryCounters()

    assert (counters.registered, counters.unregistered, counters.pruned) == ({}, {}, 0)
    assert counters.updated_at is None
