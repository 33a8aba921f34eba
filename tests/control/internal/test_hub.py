from router.control.internal.hub import InternalHub
from router.routing.access import TCP
from router.routing.internal_records import Identity, Policy, PutIdentity, PutPolicies, SetInternalState

ONE = Policy("a", "b", TCP, 80, 80)
TWO = Policy("a", "c", TCP, 80, 80)
THREE = Policy("d", "b", TCP, 1, 2)


def test_change_is_applied_announced_and_taken_once() -> None:
    calls: list[None] = []
    hub = InternalHub(lambda: calls.append(None))
    hub.put(PutIdentity(Identity("10.0.0.1", "a")))
    assert hub.table.identities["10.0.0.1"].app == "a"
    assert len(calls) == 1
    assert hub.take_changes() == [PutIdentity(Identity("10.0.0.1", "a"))]
    assert hub.take_changes() == []


def test_only_sources_whose_policies_differ_change() -> None:
    hub = InternalHub(lambda: None)
    hub.set_policies([ONE, TWO, THREE])
    hub.take_changes()
    hub.set_policies([TWO, ONE, THREE])
    assert hub.take_changes() == []
    hub.set_policies([ONE, THREE])
    assert hub.take_changes() == [PutPolicies("a", [ONE])]
    hub.set_policies([ONE])
    assert hub.take_changes() == [PutPolicies("d", [])]


def test_same_state_is_no_change() -> None:
    hub = InternalHub(lambda: None)
    hub.set_ready(policies=True)
    hub.set_ready(names=True)
    hub.set_ready(policies=True, names=True)
    assert hub.take_changes() == [SetInternalState(True, False), SetInternalState(True, True)]


def test_snapshot_holds_what_was_put() -> None:
    hub = InternalHub(lambda: None)
    hub.set_policies([ONE])
    assert [change for changes in hub.snapshot(10) for change in changes] == [
        PutPolicies("a", [ONE]),
        SetInternalState(False, False),
    ]
