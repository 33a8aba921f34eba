"""The table of internal names against a simple model of its rules, under random histories.

The model keeps no order of age and emits no changes, so what the table does for speed has to come out the same. A
follower applies every change to an `InternalTable`, as control and the workers do.
"""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.routing.access import InternalTable
from router.routing.container_addresses import ContainerAddresses
from router.routing.internal_records import DropName, NameEntry, PutName
from router.routing.names import UNREGISTERED_S, NameRules, NameTable
from router.wire.discovery import NameRegistration

STALENESS_S, RESUME_S = 30.0, 10.0
NAMES = ["x.apps.internal", "0.x.apps.internal", "y.apps.internal"]
SPELLINGS = [*NAMES, "X.apps.internal.", "public.example.com", "*.apps.internal"]

registrations = st.builds(
    NameRegistration,
    ip=st.sampled_from(["10.255.0.1", "10.255.0.2", "10.255.0.3", "192.0.2.1"]),
    names=st.lists(st.sampled_from(SPELLINGS), min_size=1, max_size=3).map(tuple),
    app=st.sampled_from(["app", "other"]),
    port=st.sampled_from([0, 5000]),
    updated_at_ns=st.sampled_from([0, 1, 2, 3]),
)


@dataclass
class Known:
    entry: NameEntry
    seen: float
    updated_at_ns: int


class Model:
    """What the rules say, as plainly as possible."""

    def __init__(self) -> None:
        self.known: dict[str, list[Known]] = {name: [] for name in NAMES}
        self.buried: dict[tuple[str, str], tuple[int, float]] = {}
        self.resumed_at: float | None = 0.0

    def find(self, name: str, ip: str) -> Known | None:
        return next((each for each in self.known[name] if each.entry.ip == ip), None)

    def register(self, news: NameRegistration, now: float) -> None:
        if news.ip == "192.0.2.1":
            return
        for name in valid(news):
            known = self.find(name, news.ip)
            if known is not None:
                known.entry, known.seen = entry_of(news), now
                known.updated_at_ns = max(known.updated_at_ns, news.updated_at_ns)
                continue
            buried_ns, end = self.buried.get((name, news.ip), (0, 0.0))
            if now >= end or news.updated_at_ns > buried_ns:
                self.known[name].append(Known(entry_of(news), now, news.updated_at_ns))

    def unregister(self, news: NameRegistration, now: float) -> None:
        for name in valid(news):
            known = self.find(name, news.ip)
            buried_ns, end = self.buried.get((name, news.ip), (0, 0.0))
            latest = max(news.updated_at_ns, known.updated_at_ns if known else 0, buried_ns if now < end else 0)
            self.buried[name, news.ip] = latest, now + UNREGISTERED_S
            if known is not None:
                self.known[name].remove(known)

    def prune(self, now: float) -> None:
        if self.resumed_at is not None and now - self.resumed_at >= RESUME_S:
            for name, found in self.known.items():
                self.known[name] = [each for each in found if now - each.seen <= STALENESS_S]

    def names(self) -> dict[str, list[NameEntry]]:
        return {name: [each.entry for each in found] for name, found in self.known.items() if found}


def valid(news: NameRegistration) -> list[str]:
    return [name for name in (text.lower().rstrip(".") for text in news.names) if name in NAMES]


def entry_of(news: NameRegistration) -> NameEntry:
    return NameEntry(news.ip, news.app, news.index, news.port)


class History(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.model = Model()
        self.follower = InternalTable()
        rules = NameRules(
            domains=frozenset(("apps.internal",)),
            staleness_s=STALENESS_S,
            resume_delay_s=RESUME_S,
            warm_s=0.0,
        )
        self.table = NameTable(ContainerAddresses(["10.255.0.0/16"]), rules, self.follow)
        self.table.resume(0.0)

    def follow(self, change: PutName | DropName) -> None:
        if isinstance(change, PutName):
            assert self.follower.names.get(change.name) != change.entries, "no change is told twice"
        else:
            assert change.name in self.follower.names
        self.follower.apply(change)

    @rule(seconds=st.sampled_from([0.5, 1.5, 2.0, 10.0, 15.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(news=registrations)
    def register(self, news: NameRegistration) -> None:
        self.table.register(news, self.now)
        self.model.register(news, self.now)

    @rule(news=registrations)
    def unregister(self, news: NameRegistration) -> None:
        self.table.unregister(news, self.now)
        self.model.unregister(news, self.now)

    @rule()
    def prune(self) -> None:
        self.table.prune(self.now)
        self.model.prune(self.now)

    @rule()
    def lose_agents(self) -> None:
        self.table.suspend(self.now)
        self.model.resumed_at = None

    @rule()
    def hear_agents(self) -> None:
        self.table.resume(self.now)
        if self.model.resumed_at is None:
            self.model.resumed_at = self.now

    @invariant()
    def follower_agrees_with_the_model(self) -> None:
        assert self.follower.names == self.model.names()
        assert self.table.names == len(self.follower.names)
        assert self.table.instances == sum(map(len, self.follower.names.values()))


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
