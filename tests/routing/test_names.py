from typing import Any

import pytest

from router.routing.container_addresses import ContainerAddresses
from router.routing.internal_records import DropName, NameEntry, PutName
from router.routing.names import (
    MAX_UNREGISTERED,
    UNREGISTERED_S,
    NameObserver,
    NameRules,
    NameTable,
    is_internal,
    name_problem,
    normal_name,
)
from router.wire.discovery import NameRegistration

STALENESS_S, RESUME_S, WARM_S = 180.0, 60.0, 60.0
RULES = NameRules(
    domains=frozenset(("apps.internal", "other.internal")),
    staleness_s=STALENESS_S,
    resume_delay_s=RESUME_S,
    warm_s=WARM_S,
)
ADDRESSES = ContainerAddresses(["10.255.0.0/16", "fd00::/64"], ["10.255.0.1"], ["10.255.0.2"])
A, B, C = "10.255.1.1", "10.255.1.2", "10.255.1.3"
NAME = "x.apps.internal"


class Log(NameObserver):
    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def registered(self, name: str, entry: NameEntry) -> None:
        self.events.append(("registered", name, entry.ip))

    def updated(self, name: str, entry: NameEntry) -> None:
        self.events.append(("updated", name, entry.ip))

    def unregistered(self, name: str, entry: NameEntry) -> None:
        self.events.append(("unregistered", name, entry.ip))

    def pruned(self, name: str, entry: NameEntry) -> None:
        self.events.append(("pruned", name, entry.ip))

    def refused(self, registration: NameRegistration, name: str, reason: str) -> None:
        self.events.append(("refused", name, registration.ip, reason))


class Names:
    """A table, the names as whoever takes its changes has them, and what the log was told."""

    def __init__(self, rules: NameRules = RULES, *, networks: bool = True) -> None:
        self.known: dict[str, list[NameEntry]] = {}
        self.changes: list[PutName | DropName] = []
        self.log = Log()
        self.table = NameTable(ADDRESSES if networks else ContainerAddresses([]), rules, self._take, self.log)
        self.table.resume(0.0)

    def _take(self, change: PutName | DropName) -> None:
        self.changes.append(change)
        if isinstance(change, PutName):
            assert change.entries
            self.known[change.name] = change.entries
        else:
            del self.known[change.name]

    def register(self, ip: str, *names: str, now: float = 0.0, **fields: Any) -> None:
        self.table.register(NameRegistration(ip=ip, names=names or (NAME,), **fields), now)

    def unregister(self, ip: str, *names: str, now: float = 0.0, **fields: Any) -> None:
        self.table.unregister(NameRegistration(ip=ip, names=names or (NAME,), **fields), now)

    def ips(self, name: str = NAME) -> list[str]:
        return [entry.ip for entry in self.known.get(name, ())]


@pytest.fixture
def names() -> Names:
    return Names()


# Register and unregister.


def test_instance_stands_behind_all_its_names(names: Names) -> None:
    names.register(A, NAME, f"0.{NAME}", app="app", index="0", port=5000)
    entry = NameEntry(A, "app", "0", 5000)
    assert names.changes == [PutName(NAME, [entry]), PutName(f"0.{NAME}", [entry])]
    assert (names.table.names, names.table.instances) == (2, 2)


def test_refresh_is_no_change_and_keeps_the_order(names: Names) -> None:
    for ip in (A, B, C):
        names.register(ip)
    del names.changes[:], names.log.events[:]
    names.register(B, now=10.0)
    names.register(A, now=20.0)
    assert names.changes == []
    assert names.log.events == []
    assert names.ips() == [A, B, C]


def test_changed_announcement_keeps_its_place(names: Names) -> None:
    names.register(A, app="old")
    names.register(B)
    names.register(A, app="new")
    assert names.known[NAME] == [NameEntry(A, "new"), NameEntry(B, "")]
    assert names.log.events[-1] == ("updated", NAME, A)


def test_every_change_has_a_list_of_its_own(names: Names) -> None:
    names.register(A)
    before = names.known[NAME]
    names.register(B)
    assert [entry.ip for entry in before] == [A]


def test_unregister_keeps_the_order_of_the_rest(names: Names) -> None:
    for ip in (A, B, C):
        names.register(ip)
    names.unregister(B)
    assert names.ips() == [A, C]


def test_name_without_instances_disappears(names: Names) -> None:
    names.register(A)
    names.unregister(A)
    assert names.changes[-1] == DropName(NAME)
    assert (names.table.names, names.table.instances) == (0, 0)
    assert names.log.events == [("registered", NAME, A), ("unregistered", NAME, A)]


def test_unregister_of_something_unknown_changes_nothing(names: Names) -> None:
    names.register(A)
    del names.changes[:]
    names.unregister(B)
    names.unregister(A, "y.apps.internal")
    names.unregister("")
    assert names.changes == []


def test_two_apps_may_stand_behind_one_name(names: Names) -> None:
    names.register(A, app="one", index="0")
    names.register(B, app="two", index="0")
    assert [entry.app for entry in names.known[NAME]] == ["one", "two"]


# Late messages.


def test_late_register_does_not_bring_an_instance_back(names: Names) -> None:
    names.register(A, now=0.0)
    names.unregister(A, now=10.0)
    names.register(A, now=10.0 + UNREGISTERED_S - 0.001)
    assert names.ips() == []


def test_register_may_come_again_after_a_moment(names: Names) -> None:
    names.unregister(A, now=10.0)
    names.register(A, now=10.0 + UNREGISTERED_S)
    assert names.ips() == [A]


@pytest.mark.parametrize(("updated_at_ns", "back"), [(0, False), (4, False), (5, False), (6, True)])
def test_only_a_newer_change_brings_an_instance_back_at_once(updated_at_ns: int, back: bool) -> None:
    names = Names()
    names.register(A, updated_at_ns=5)
    names.register(A, now=1.0)
    names.unregister(A, now=2.0)
    names.register(A, now=2.1, updated_at_ns=updated_at_ns)
    assert names.ips() == ([A] if back else [])


def test_unregistration_may_carry_a_time_of_its_own(names: Names) -> None:
    names.unregister(A, updated_at_ns=7)
    names.unregister(A, updated_at_ns=3)
    names.register(A, updated_at_ns=7)
    assert names.ips() == []
    names.register(A, updated_at_ns=8)
    assert names.ips() == [A]


def test_unregistration_holds_back_nobody_else(names: Names) -> None:
    names.unregister(A)
    names.register(B)
    names.register(A, "y.apps.internal")
    assert (names.ips(), names.ips("y.apps.internal")) == ([B], [A])


def test_flood_of_unregistrations_forgets_the_oldest() -> None:
    names = Names()
    names.unregister(A)
    names.unregister(B)
    for number in range(MAX_UNREGISTERED - 1):
        names.unregister(C, f"n{number}.apps.internal")
    names.register(A)
    names.register(B)
    assert names.ips() == [A]


# What is refused.


@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        ("127.0.0.1", "not in a container network"),
        ("::1", "not in a container network"),
        ("169.254.169.254", "not in a container network"),
        ("fe80::1", "not in a container network"),
        ("192.0.2.1", "not in a container network"),
        ("0.0.0.0", "not in a container network"),
        ("10.255.0.1", "excluded by the configuration"),
        ("10.255.0.2", "an address of this router"),
        ("backend.example", "not an IP address"),
    ],
)
def test_address_that_is_no_containers_is_refused(names: Names, ip: str, reason: str) -> None:
    names.register(ip)
    assert names.changes == []
    assert names.log.events == [("refused", "", ip, reason)]


def test_special_addresses_are_refused_even_inside_a_container_network() -> None:
    table = NameTable(ContainerAddresses(["0.0.0.0/0"]), RULES, lambda change: pytest.fail(str(change)))
    for ip in ("127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"):
        table.register(NameRegistration(ip=ip, names=(NAME,)), 0.0)
    assert table.instances == 0


def test_without_container_networks_everything_is_refused() -> None:
    names = Names(networks=False)
    names.register(A)
    assert names.log.events == [("refused", "", A, "not in a container network")]


def test_bad_name_does_not_spoil_the_good_ones(names: Names) -> None:
    names.register(A, "x.example.com", NAME, "*.apps.internal")
    assert list(names.known) == [NAME]
    assert names.log.events == [
        ("refused", "x.example.com", A, "not below an internal domain"),
        ("registered", NAME, A),
        ("refused", "*.apps.internal", A, "a wildcard"),
    ]


def test_unregistration_of_a_public_name_is_refused_too(names: Names) -> None:
    names.unregister(A, "x.example.com")
    assert names.log.events == [("refused", "x.example.com", A, "not below an internal domain")]


@pytest.mark.parametrize("spelling", ["X.Apps.INTERNAL", "x.apps.internal.", "X.APPS.INTERNAL."])
def test_spellings_of_a_name_are_the_same_name(names: Names, spelling: str) -> None:
    names.register(A, spelling)
    assert names.ips() == [A]
    names.unregister(A, spelling)
    assert names.ips() == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x.apps.internal", ""),
        ("0.x.apps.internal", ""),
        ("a-b.apps.internal", ""),
        ("a_b.apps.internal", ""),
        ("xn--bcher-kva.apps.internal", ""),
        ("x.other.internal", ""),
        (f"{'a' * 63}.apps.internal", ""),
        (f"{'a' * 64}.apps.internal", "not a host name"),
        (f"{'a.' * 120}apps.internal", ""),
        (f"{'a.' * 121}apps.internal", "not a host name"),
        ("apps.internal", "not below an internal domain"),
        ("xapps.internal", "not below an internal domain"),
        ("x.apps.internal.evil", "not below an internal domain"),
        ("x.internal", "not below an internal domain"),
        ("localhost", "not below an internal domain"),
        (".apps.internal", "not a host name"),
        ("x..apps.internal", "not a host name"),
        ("x.apps.internal..", "not a host name"),
        ("-x.apps.internal", "not a host name"),
        ("x-.apps.internal", "not a host name"),
        ("x y.apps.internal", "not a host name"),
        ("x\n.apps.internal", "not a host name"),
        ("x.apps.internal\n", "not a host name"),
        ("x:80.apps.internal", "not a host name"),
        ("x/y.apps.internal", "not a host name"),
        ("bücher.apps.internal", "not a host name"),
        ("\u212a.apps.internal", "not a host name"),
        ("", "not a host name"),
        (".", "not a host name"),
        ("*.apps.internal", "a wildcard"),
        ("x*.apps.internal", "a wildcard"),
    ],
)
def test_names_lie_below_an_internal_domain(text: str, problem: str) -> None:
    assert name_problem(normal_name(text), RULES.domains) == problem


@pytest.mark.parametrize(
    ("uri", "internal"),
    [
        ("x.apps.internal", True),
        ("0.x.apps.internal/path", True),
        ("apps.internal", True),
        ("APPS.internal.", True),
        ("/x.apps.internal", True),
        ("x.Apps.Internal:8080/a?b", True),
        ("x.apps.internal?b", True),
        ("x.apps.internal./a", True),
        ("*.apps.internal", True),
        ("*.x.apps.internal", True),
        ("*.internal", True),
        ("*.Internal/path", True),
        ("xapps.internal", False),
        ("internal", False),
        ("x.internal", False),
        ("x.apps.internal.example.com", False),
        ("example.com/x.apps.internal", False),
        ("*.example.com", False),
        ("*", False),
        ("", False),
    ],
)
def test_public_route_is_internal_if_it_could_serve_an_internal_name(uri: str, internal: bool) -> None:
    assert is_internal(uri, RULES.domains) is internal
    assert not is_internal(uri, frozenset())


# Staleness.


def test_instance_is_kept_at_the_threshold_and_forgotten_beyond(names: Names) -> None:
    names.register(A, now=100.0)
    names.table.prune(100.0 + STALENESS_S)
    assert names.ips() == [A]
    names.table.prune(100.001 + STALENESS_S)
    assert names.ips() == []
    assert names.log.events[-1] == ("pruned", NAME, A)


def test_only_what_was_not_refreshed_is_forgotten(names: Names) -> None:
    for ip in (A, B, C):
        names.register(ip, now=0.0)
    names.register(A, now=100.0)
    names.register(C, now=200.0)
    names.table.prune(200.0)
    assert names.ips() == [A, C]
    names.table.prune(300.0)
    assert names.ips() == [C]


def test_pruned_instance_comes_back_at_the_end(names: Names) -> None:
    for ip in (A, B):
        names.register(ip, now=0.0)
    names.register(B, now=100.0)
    names.table.prune(200.0)
    names.register(A, now=201.0)
    assert names.ips() == [B, A]


def test_nothing_is_forgotten_while_agents_cannot_be_heard(names: Names) -> None:
    names.register(A, now=0.0)
    names.table.suspend(10.0)
    names.table.prune(10_000.0)
    assert names.ips() == [A]


def test_nothing_is_forgotten_until_agents_had_time_to_announce_again(names: Names) -> None:
    for ip in (A, B):
        names.register(ip, now=0.0)
    names.table.suspend(10.0)
    names.table.resume(1000.0)
    names.table.prune(1000.0 + RESUME_S - 0.001)
    assert names.ips() == [A, B]
    names.register(B, now=1030.0)
    names.table.prune(1000.0 + RESUME_S)
    assert names.ips() == [B]


def test_pass_may_be_made_in_steps_while_other_things_happen(names: Names) -> None:
    everyone = [f"10.255.2.{number}" for number in range(10)]
    for ip in everyone:
        names.register(ip, now=0.0)
    steps = names.table.prune_in_steps(1000.0, 4)
    next(steps)
    assert names.ips() == everyone[4:]
    names.register(everyone[5], now=1000.0)
    names.unregister(everyone[6], now=1000.0)
    for _ in steps:
        pass
    assert names.ips() == [everyone[5]]


def test_pass_ends_when_agents_are_lost_in_the_middle(names: Names) -> None:
    for ip in (A, B, C):
        names.register(ip, now=0.0)
    steps = names.table.prune_in_steps(1000.0, 1)
    next(steps)
    names.table.suspend(1000.0)
    assert list(steps) == []
    assert names.ips() == [B, C]


# Warming.


def test_names_are_cold_until_agents_could_be_heard_for_long_enough(names: Names) -> None:
    assert names.table.cold_s(0.0) == WARM_S
    assert names.table.cold_s(45.0) == 15.0
    assert names.table.cold_s(61.0) == 0.0


def test_time_without_agents_does_not_warm(names: Names) -> None:
    names.table.suspend(20.0)
    assert names.table.cold_s(100.0) is None
    names.table.resume(100.0)
    assert names.table.cold_s(100.0) == 40.0
    names.table.resume(110.0)
    assert names.table.cold_s(140.0) == 0.0


def test_nothing_warms_before_the_first_connection() -> None:
    table = NameTable(ADDRESSES, RULES, lambda change: None)
    table.suspend(5.0)
    assert table.cold_s(1000.0) is None
