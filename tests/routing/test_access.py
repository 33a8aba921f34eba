from router.routing.access import TCP, UDP, InternalTable, destination_port
from router.routing.internal_records import (
    DropIdentity,
    DropName,
    Identity,
    InternalChange,
    NameEntry,
    Policy,
    PutIdentity,
    PutName,
    PutPolicies,
    SetInternalState,
)

FRONT = Identity("10.0.0.1", "front")
BACK = Identity("10.0.0.2", "back", ports=(5000, 8080))
OTHER = Identity("10.0.0.3", "other", ports=(5000,))
NAME = "back.apps.internal"


def table(*changes: InternalChange) -> InternalTable:
    made = InternalTable()
    for change in (
        PutIdentity(FRONT),
        PutIdentity(BACK),
        PutName(NAME, [NameEntry(BACK.ip, "back", "0")]),
        PutPolicies("front", [Policy("front", "back", TCP, 5000, 5001)]),
        SetInternalState(True, True),
        *changes,
    ):
        made.apply(change)
    return made


def test_policy_allows_its_ports_and_protocol_only() -> None:
    found = table()
    assert found.allows("front", "back", TCP, 5000)
    assert found.allows("front", "back", TCP, 5001)
    assert not found.allows("front", "back", TCP, 5002)
    assert not found.allows("front", "back", UDP, 5000)


def test_policy_is_not_symmetric() -> None:
    assert not table().allows("back", "front", TCP, 5000)


def test_app_needs_a_policy_to_reach_itself() -> None:
    found = table()
    assert not found.allows("back", "back", TCP, 5000)
    found.apply(PutPolicies("back", [Policy("back", "back", TCP, 1, 65535)]))
    assert found.allows("back", "back", TCP, 5000)


def test_nothing_is_allowed_before_policies_are_ready() -> None:
    found = table(SetInternalState(False, True))
    assert not found.allows("front", "back", TCP, 5000)
    assert found.resolvable(NAME, FRONT) == []
    assert found.reachable(NAME, FRONT, 80) == []


def test_empty_policy_list_removes_all_of_a_source() -> None:
    found = table(PutPolicies("front", []))
    assert not found.allows("front", "back", TCP, 5000)
    assert found.sources() == []


def test_name_resolves_for_a_caller_with_any_policy_to_the_app() -> None:
    assert table().resolvable(NAME, FRONT) == [BACK]
    assert table().resolvable(NAME, OTHER) == []
    assert table().resolvable("unknown.apps.internal", FRONT) == []


def test_instances_of_apps_the_caller_may_not_reach_are_left_out() -> None:
    found = table(
        PutIdentity(OTHER),
        PutName(NAME, [NameEntry(OTHER.ip, "other"), NameEntry(BACK.ip, "back")]),
    )
    assert found.resolvable(NAME, FRONT) == [BACK]
    assert found.reachable(NAME, FRONT, 5000) == [(BACK, 5000)]


def test_address_that_now_belongs_to_another_app_is_not_an_instance() -> None:
    found = table(PutIdentity(Identity(BACK.ip, "other", ports=(5000,))))
    assert found.resolvable(NAME, FRONT) == []
    assert found.reachable(NAME, FRONT, 5000) == []


def test_address_without_identity_is_not_an_instance() -> None:
    assert table(DropIdentity(BACK.ip)).reachable(NAME, FRONT, 5000) == []


def test_dropped_name_leads_nowhere() -> None:
    assert table(DropName(NAME)).resolvable(NAME, FRONT) == []


def test_port_is_the_dialled_one_if_exposed_else_the_routes_else_the_lowest() -> None:
    entry = NameEntry(BACK.ip, "back", port=6000)
    assert destination_port(entry, BACK, 8080) == 8080
    assert destination_port(entry, BACK, 80) == 6000
    assert destination_port(NameEntry(BACK.ip, "back"), BACK, 80) == 5000
    assert destination_port(NameEntry(FRONT.ip, "front"), FRONT, 80) == 0


def test_policy_is_asked_for_the_chosen_port() -> None:
    found = table()
    assert found.reachable(NAME, FRONT, 80) == [(BACK, 5000)]
    assert found.reachable(NAME, FRONT, 8080) == []


def test_every_change_moves_the_version() -> None:
    found = table()
    before = found.version
    found.apply(DropName("nothing"))
    assert found.version > before


def test_snapshot_makes_an_equal_table() -> None:
    found = table(PutIdentity(OTHER), PutPolicies("other", [Policy("other", "back", UDP, 1, 2)]))
    copy = InternalTable()
    for changes in found.snapshot(2):
        for change in changes:
            copy.apply(change)
    assert copy.identities == found.identities
    assert copy.names == found.names
    assert sorted(copy.policies_of("front")) == sorted(found.policies_of("front"))
    assert copy.allows("other", "back", UDP, 2)
    assert (copy.policies_ready, copy.names_warm) == (True, True)
