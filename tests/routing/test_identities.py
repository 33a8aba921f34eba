import itertools
from typing import Any

import pytest

from router.routing.container_addresses import ContainerAddresses
from router.routing.identities import IdentityRules, IdentityTable
from router.routing.identity_observer import IdentityObserver
from router.routing.internal_records import DropIdentity, Identity, PutIdentity
from router.wire.identities import AddressesGone, Workload, WorkloadsSaid

IP = "10.255.1.2"
OTHER = "10.255.1.3"
RULES = IdentityRules(ttl_s=120.0, quarantine_s=180.0, keep_s=600.0)
ADDRESSES = ContainerAddresses(["10.255.0.0/16"], excluded=["10.255.0.1"], own=["10.255.0.53"])


def workload(ip: str = IP, app: str = "a", generation: int = 0, **fields: Any) -> Workload:
    return Workload(ip=ip, app=app, generation=generation, **fields)


class Told(IdentityObserver):
    """What the table told, as short lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def put(self, identity: Identity) -> None:
        self.lines.append(f"put {identity.app}")

    def dropped(self, identity: Identity, reason: str) -> None:
        self.lines.append(f"dropped {identity.app}: {reason}")

    def refused(self, agent: str, workload: Workload, reason: str) -> None:
        self.lines.append(f"refused {workload.ip} of {agent}: {reason}")

    def conflict(self, ip: str, claims: list[tuple[str, Identity]], believed: Identity | None) -> None:
        who = " ".join(agent for agent, _ in claims)
        self.lines.append(f"conflict of {who}: {'nobody' if believed is None else believed.app}")

    def conflict_over(self, ip: str) -> None:
        self.lines.append("conflict over")

    def quarantined(self, claims: list[tuple[str, Identity]], floor: int) -> None:
        self.lines.append(f"quarantined {claims[0][1].app} below {floor}")

    def out_of_order(self, agent: str, sequence: int, last: int) -> None:
        self.lines.append(f"out of order {agent} {sequence} after {last}")

    def missed(self, agent: str, messages: int) -> None:
        self.lines.append(f"missed {messages} of {agent}")


class World:
    """A table at a time, agents that count their messages, and what the table emitted."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told = Told()
        self.emitted: list[PutIdentity | DropIdentity] = []
        self.table = IdentityTable(ADDRESSES, RULES, self.emitted.append, self.told)
        self._sequences: dict[str, int] = {}

    def sequence(self, agent: str) -> int:
        self._sequences[agent] = self._sequences.get(agent, 0) + 1
        return self._sequences[agent]

    def lose_message(self, agent: str) -> None:
        self.sequence(agent)

    def put(self, *workloads: Workload, agent: str = "one", ttl: float | None = None) -> bool:
        return self.table.put(self._said(agent, workloads, ttl=ttl), self.now)

    def snapshot(self, *workloads: Workload, agent: str = "one", first: int | None = None) -> bool:
        return self.table.snapshot(self._said(agent, workloads, first=first), self.now)

    def drop(self, *ips: str, agent: str = "one") -> bool:
        gone = AddressesGone(agent=agent, sequence=self.sequence(agent), addresses=list(ips))
        return self.table.drop(gone, self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.table.expire(self.now)

    def app(self, ip: str = IP) -> str:
        """Return the app an address belongs to, by what was emitted; empty if to none."""
        found = ""
        for change in self.emitted:
            if isinstance(change, PutIdentity):
                found = change.identity.app if change.identity.ip == ip else found
            elif change.ip == ip:
                found = ""
        held = self.table.believed.get(ip)
        assert found == ("" if held is None else held.app)
        return found

    def _said(self, agent: str, workloads: tuple[Workload, ...], **fields: Any) -> WorkloadsSaid:
        return WorkloadsSaid(agent=agent, sequence=self.sequence(agent), workloads=list(workloads), **fields)


@pytest.fixture
def world() -> World:
    return World()


def test_workload_becomes_an_identity_with_all_it_says_of_itself(world: World) -> None:
    world.put(workload(space="s", organization="o", instance="i", index="0", generation=3, ports=(80, 90)))
    identity = Identity(IP, "a", "s", "o", "i", "0", 3, (80, 90))
    assert world.emitted == [PutIdentity(identity)]
    assert world.table.believed == {IP: identity}
    assert world.table.agents() == {"one": 1}


def test_repetition_is_no_change(world: World) -> None:
    world.put(workload())
    world.put(workload())
    world.snapshot(workload())
    assert len(world.emitted) == 1


def test_dropped_address_belongs_to_nobody(world: World) -> None:
    world.put(workload(), workload(OTHER))
    world.drop(IP, "10.255.7.7")
    assert world.emitted[2:] == [DropIdentity(IP)]
    assert world.app(OTHER) == "a"
    assert world.told.lines[-1] == "dropped a: dropped by its agent"


def test_address_that_is_reused_belongs_to_the_new_container_alone(world: World) -> None:
    world.put(workload(app="a", generation=1))
    world.drop(IP)
    world.put(workload(app="b", generation=2))
    assert [type(change) for change in world.emitted] == [PutIdentity, DropIdentity, PutIdentity]
    assert world.app() == "b"


def test_new_container_replaces_the_old_one_also_when_the_drop_was_lost(world: World) -> None:
    world.put(workload(app="a", generation=1))
    world.put(workload(app="b", generation=2))
    assert world.app() == "b"


def test_snapshot_replaces_all_this_agent_has_said_and_nothing_of_others(world: World) -> None:
    world.put(workload(IP), workload(OTHER))
    world.put(workload("10.255.2.1"), agent="two")
    world.snapshot(workload(OTHER), workload("10.255.1.4"))
    assert set(world.table.believed) == {OTHER, "10.255.1.4", "10.255.2.1"}
    assert "dropped a: not in its agent's snapshot" in world.told.lines


def test_empty_snapshot_leaves_an_agent_with_nothing(world: World) -> None:
    world.put(workload())
    world.snapshot()
    assert world.app() == ""


def test_snapshot_of_several_messages_is_one(world: World) -> None:
    world.put(workload(IP), workload(OTHER), workload("10.255.1.9"))
    first = world.sequence("one") + 1
    world.table.put(WorkloadsSaid(agent="one", sequence=first - 1, workloads=[]), world.now)
    world.put(workload(IP))
    world.snapshot(workload(OTHER), first=first)
    assert set(world.table.believed) == {IP, OTHER}


def test_snapshot_with_a_lost_part_takes_nothing_back(world: World) -> None:
    world.snapshot(workload(IP), workload(OTHER))
    first = 2
    world.lose_message("one")
    world.snapshot(workload("10.255.1.9"), first=first)
    assert set(world.table.believed) == {IP, OTHER, "10.255.1.9"}
    assert world.table.incomplete == {"one"}


def test_agent_is_incomplete_from_a_lost_message_to_its_next_whole_snapshot(world: World) -> None:
    world.put(workload())
    assert world.table.incomplete == set()
    world.lose_message("one")
    world.put(workload(OTHER))
    assert world.table.incomplete == {"one"}
    assert world.told.lines[-2] == "missed 1 of one"
    world.snapshot(workload(OTHER))
    assert world.table.incomplete == set()
    assert world.app() == ""


def test_late_message_changes_nothing(world: World) -> None:
    late = WorkloadsSaid(agent="one", sequence=world.sequence("one"), workloads=[workload()])
    world.put(workload(OTHER))
    world.drop(IP)

    assert not world.table.put(late, world.now)
    assert not world.table.snapshot(late, world.now)
    assert not world.table.drop(AddressesGone(agent="one", sequence=3, addresses=[OTHER]), world.now)
    assert set(world.table.believed) == {OTHER}
    assert world.told.lines[-1] == "out of order one 3 after 3"


def test_identity_that_is_not_repeated_lapses_when_its_time_is_over(world: World) -> None:
    world.put(workload())
    world.wait(119.9)
    assert world.app() == "a"
    world.wait(0.1)
    assert world.app() == ""
    assert world.told.lines[-1] == "dropped a: not repeated by its agent"


def test_repeated_identity_does_not_lapse(world: World) -> None:
    for _ in range(10):
        world.put(workload())
        world.wait(100)
    assert len(world.emitted) == 1


def test_agent_may_ask_for_less_time_and_not_for_more(world: World) -> None:
    world.put(workload(IP), ttl=10)
    world.put(workload(OTHER), ttl=1000)
    world.wait(10)
    assert (world.app(IP), world.app(OTHER)) == ("", "a")
    world.wait(110)
    assert world.app(OTHER) == ""


def test_repetition_with_less_time_shortens_it(world: World) -> None:
    world.put(workload())
    world.wait(1)
    world.put(workload(), ttl=5)
    world.wait(5)
    assert world.app() == ""


def test_agent_that_was_silent_for_long_may_count_its_messages_anew(world: World) -> None:
    for _ in range(5):
        world.put(workload())
    restarted = WorkloadsSaid(agent="one", sequence=0, workloads=[workload(app="b")])
    assert not world.table.put(restarted, world.now)
    world.wait(120)
    assert world.table.put(restarted, world.now)
    assert world.app() == "b"


def test_agent_is_not_forgotten_with_its_last_identity_since_a_message_may_be_late(world: World) -> None:
    late = WorkloadsSaid(agent="one", sequence=world.sequence("one"), workloads=[workload()])
    world.put(workload())
    world.drop(IP)
    world.wait(119)
    assert not world.table.put(late, world.now)
    assert world.table.agents() == {"one": 0}
    world.wait(1)
    assert world.table.agents() == {}


@pytest.mark.parametrize("order", list(itertools.permutations(["old", "new", "newest"])))
def test_newest_generation_is_believed_whoever_comes_first(world: World, order: tuple[str, ...]) -> None:
    generations = {"old": 1, "new": 2, "newest": 3}
    for name in order:
        world.put(workload(app=name, generation=generations[name]), agent=f"agent-{name}")
    assert world.app() == "newest"
    assert world.table.conflicts == {IP}
    world.drop(IP, agent="agent-old")
    world.drop(IP, agent="agent-new")
    assert world.app() == "newest"
    assert world.table.conflicts == set()


@pytest.mark.parametrize("first", ["one", "two"])
def test_agents_that_differ_over_one_generation_are_both_not_believed(world: World, first: str) -> None:
    apps = {"one": "a", "two": "b"}
    second = "two" if first == "one" else "one"
    world.put(workload(app=apps[first], generation=5), agent=first)
    world.put(workload(app=apps[second], generation=5), agent=second)
    assert world.app() == ""
    assert world.told.lines[-1] == f"conflict of {first} {second}: nobody"

    world.drop(IP, agent=second)
    assert world.app() == apps[first]
    assert world.told.lines[-1] == "conflict over"


def test_conflict_is_told_once(world: World) -> None:
    for _ in range(3):
        world.put(workload(app="a"), agent="one")
        world.put(workload(app="b"), agent="two")
    assert [line for line in world.told.lines if line.startswith("conflict")] == ["conflict of one two: nobody"]


def test_two_agents_that_agree_are_no_conflict_and_both_have_to_drop(world: World) -> None:
    world.put(workload(), agent="one")
    world.put(workload(), agent="two")
    world.drop(IP, agent="one")
    assert world.app() == "a"
    assert len(world.emitted) == 1
    world.drop(IP, agent="two")
    assert world.app() == ""
    assert world.table.conflicts == set()


def test_older_generation_of_another_agent_does_not_come_back_with_the_end_of_the_newer(world: World) -> None:
    world.put(workload(app="stale", generation=1), agent="one")
    world.put(workload(app="fresh", generation=2), agent="two")
    world.drop(IP, agent="two")
    assert world.app() == ""
    assert "quarantined stale below 2" in world.told.lines

    world.put(workload(app="stale", generation=1), agent="three")
    assert world.app() == ""


def test_quarantine_ends_and_what_is_still_claimed_is_believed(world: World) -> None:
    world.put(workload(app="stale", generation=1), agent="one")
    world.put(workload(app="fresh", generation=2), agent="two")
    world.drop(IP, agent="two")
    world.wait(100)
    world.put(workload(app="stale", generation=1), agent="one")
    world.wait(79.9)
    assert world.app() == ""
    world.wait(0.1)
    assert world.app() == "stale"


def test_same_generation_may_come_back_at_once_after_it_lapsed(world: World) -> None:
    world.put(workload(generation=7))
    world.wait(120)
    assert world.app() == ""
    world.put(workload(generation=7))
    assert world.app() == "a"


def test_agent_that_takes_a_generation_back_is_refused_and_told_once(world: World) -> None:
    world.put(workload(app="new", generation=9))
    world.put(workload(app="old", generation=8))
    world.put(workload(app="old", generation=8))
    assert world.app() == "new"
    refusals = [line for line in world.told.lines if line.startswith("refused")]
    assert refusals == [f"refused {IP} of one: older than what this agent has said before"]


def test_without_generations_the_last_word_of_the_agent_holds_at_once(world: World) -> None:
    world.put(workload(app="a"))
    world.drop(IP)
    world.put(workload(app="b"))
    assert world.app() == "b"


@pytest.mark.parametrize("ip", ["10.254.1.1", "10.255.0.1", "10.255.0.53", "127.0.0.1"])
def test_address_that_is_no_containers_is_refused_and_costs_the_others_nothing(world: World, ip: str) -> None:
    world.snapshot(workload(ip), workload(OTHER))
    world.snapshot(workload(ip), workload(OTHER))
    assert set(world.table.believed) == {OTHER}
    assert len([line for line in world.told.lines if line.startswith("refused")]) == 1


def test_refused_address_is_told_again_after_it_was_gone(world: World) -> None:
    world.snapshot(workload("127.0.0.1"))
    world.snapshot()
    world.snapshot(workload("127.0.0.1"))
    assert len(world.told.lines) == 2


def test_while_agents_cannot_be_heard_identities_hold_for_their_time_and_what_is_kept(world: World) -> None:
    world.put(workload())
    world.wait(100)
    world.table.suspend(world.now)
    world.table.suspend(world.now + 1)
    world.wait(619.9)
    assert world.app() == "a"
    world.wait(0.1)
    assert world.app() == ""


def test_after_a_short_absence_an_identity_has_the_time_it_had_left(world: World) -> None:
    world.put(workload())
    world.wait(100)
    world.table.suspend(world.now)
    world.wait(300)
    world.table.resume(world.now)
    world.wait(19.9)
    assert world.app() == "a"
    world.wait(0.1)
    assert world.app() == ""


def test_many_short_absences_do_not_keep_an_identity_for_ever(world: World) -> None:
    world.put(workload())
    for _ in range(8):
        world.table.suspend(world.now)
        world.wait(90)
        assert world.app() == "a" or world.now >= 1720
        world.table.resume(world.now)
        world.wait(0)
    assert world.now == 1720
    assert world.app() == ""


def test_resuming_without_an_absence_changes_nothing(world: World) -> None:
    world.put(workload())
    world.table.resume(world.now + 50)
    world.wait(120)
    assert world.app() == ""


def test_file_replaces_what_it_said_before_and_does_not_lapse(world: World) -> None:
    world.table.replace("the file", [workload(IP), workload(OTHER)], world.now)
    world.wait(10_000)
    assert set(world.table.believed) == {IP, OTHER}
    world.table.replace("the file", [workload(OTHER, app="b")], world.now)
    assert (world.app(IP), world.app(OTHER)) == ("", "b")
    world.table.replace("the file", [], world.now)
    world.wait(120)
    assert world.table.agents() == {}


def test_file_and_agent_compete_like_two_agents(world: World) -> None:
    world.table.replace("the file", [workload(app="f")], world.now)
    world.put(workload(app="a", generation=1))
    assert world.app() == "a"
    assert world.told.lines[-1] == "conflict of the file one: a"


def test_other_configuration_counts_for_what_was_said_before(world: World) -> None:
    world.put(workload(IP), workload(OTHER), workload("10.255.9.9"), ttl=60)
    world.table.replace("the file", [workload("10.255.3.3")], world.now)
    stricter = ContainerAddresses(["10.255.0.0/16"], excluded=[IP])
    world.table.judge_again(stricter, IdentityRules(ttl_s=30.0, quarantine_s=1.0, keep_s=1.0), world.now)
    assert set(world.table.believed) == {OTHER, "10.255.9.9", "10.255.3.3"}
    assert world.told.lines[-1] == f"refused {IP} of one: excluded by the configuration"
    world.wait(30)
    assert set(world.table.believed) == {"10.255.3.3"}
