"""All policies as records of the apps they name: what a change does to them, and the numbers that stand for apps.

Owns which records a change touches and which tag an app gets; does not own where records are kept. One law: a tag
that was given up stands for nobody for a minute, since agents that mark packets lag behind by some seconds.

Everything about one app is in one record, so that records can be kept apart and changed one by one.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from zlib import crc32

import msgspec

from router.routing.internal_records import Policy

MAX_TAG = 65535
"""Packet marks carry 16 bits (VXLAN group policy); 0 is no mark."""

QUARANTINE_NS = 60 * 1_000_000_000
"""For so long a tag that was given up is not given to another app."""


class TagsExhausted(Exception):
    """More apps are named in policies than there are tags."""


class Allowed(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One policy of an app, the app itself left out."""

    destination: str
    protocol: str
    start: int
    end: int


class AppRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of an app that policies name."""

    tag: int
    policies: tuple[Allowed, ...] = ()
    """Those with this app as their source, in order, each once."""
    freed_ns: int = 0
    """When no policy named the app any more, nanoseconds since the epoch; 0 while one does."""


Changes = Mapping[str, AppRecord | None]
"""New records by app; None where one is gone."""


def part_of(app: str, parts: int) -> int:
    """Return which of so many parts an app's record belongs to: the same on every router and in every release."""
    return crc32(app.encode()) % parts


def with_source(source: str, allowed: Iterable[Allowed]) -> list[Policy]:
    """Return policies of an app as policies."""
    return [Policy(source, each.destination, each.protocol, each.start, each.end) for each in allowed]


class PolicyBook:
    """All records at one moment. `apply` is the only way to change it.

    Attributes:
        records: by app, those included whose tag is in quarantine.
    """

    def __init__(self) -> None:
        self.records: dict[str, AppRecord] = {}
        self._named: Counter[str] = Counter()
        """How many times policies name an app."""
        self._freed: set[str] = set()
        """Apps whose tag is in quarantine."""

    def apply(self, changes: Changes) -> list[str]:
        """Take over new records; return the apps whose own policies are other than before."""
        differing = []
        for app, record in changes.items():
            before = self.records.pop(app, None)
            self._freed.discard(app)
            if record is not None:
                self.records[app] = record
                if record.freed_ns:
                    self._freed.add(app)
            old = () if before is None else before.policies
            new = () if record is None else record.policies
            if old != new:
                self._count(app, old, -1)
                self._count(app, new, 1)
                differing.append(app)
        return differing

    def _count(self, source: str, allowed: Iterable[Allowed], step: int) -> None:
        for app in _names(source, allowed):
            self._named[app] += step
            if not self._named[app]:
                del self._named[app]

    def policies_of(self, source: str) -> list[Policy]:
        """Return the policies with this source app."""
        record = self.records.get(source)
        return [] if record is None else with_source(source, record.policies)

    @property
    def size(self) -> int:
        """How many policies there are."""
        return sum(len(record.policies) for record in self.records.values())

    @property
    def tags(self) -> dict[str, int]:
        """Tags of all apps that a policy names."""
        return {app: record.tag for app, record in self.records.items() if not record.freed_ns}

    def change(self, *, add: Collection[Policy] = (), remove: Collection[Policy] = (), now_ns: int) -> Changes:
        """Return the records that adding and removing these policies makes; nothing is changed yet.

        Policies to add that are there already, and policies to remove that are not, make no difference.

        Args:
            now_ns: nanoseconds since the epoch.

        Raises:
            TagsExhausted: there would be more than `MAX_TAG` apps.
        """
        policies = self._changed_policies(add, remove)
        named = self._named_after(policies)
        changes: dict[str, AppRecord | None] = {}
        for app in self._freed:
            if self.records[app].freed_ns + QUARANTINE_NS <= now_ns and app not in named:
                changes[app] = None
        tags = self._free_tags(frozenset(changes))
        for app in sorted({*policies, *named}):
            before = self.records.get(app)
            own = policies.get(app, () if before is None else before.policies)
            freed_ns = now_ns if named.get(app) == 0 else 0
            if before is not None:
                if (own, freed_ns) != (before.policies, before.freed_ns):
                    changes[app] = AppRecord(before.tag, own, freed_ns)
            elif not freed_ns:
                changes[app] = AppRecord(_next(tags), own)
        return changes

    def _changed_policies(self, add: Iterable[Policy], remove: Iterable[Policy]) -> dict[str, tuple[Allowed, ...]]:
        """Return the policies that each app is the source of after a change, for those apps where they differ."""
        wanted: dict[str, set[Allowed]] = {}
        for policies, keep in ((add, True), (remove, False)):
            for policy in policies:
                if policy.source not in wanted:
                    wanted[policy.source] = set(self._own(policy.source))
                allowed = Allowed(policy.destination, policy.protocol, policy.start, policy.end)
                if keep:
                    wanted[policy.source].add(allowed)
                else:
                    wanted[policy.source].discard(allowed)
        return {app: own for app, found in wanted.items() if (own := tuple(sorted(found))) != self._own(app)}

    def _own(self, source: str) -> tuple[Allowed, ...]:
        record = self.records.get(source)
        return () if record is None else record.policies

    def _named_after(self, policies: Mapping[str, tuple[Allowed, ...]]) -> dict[str, int]:
        """Return how many times apps are named after a change, for those where that may differ."""
        steps: Counter[str] = Counter()
        for source, own in policies.items():
            steps.update(_names(source, own))
            steps.subtract(_names(source, self._own(source)))
        return {app: self._named[app] + step for app, step in steps.items()}

    def _free_tags(self, gone: Collection[str]) -> Iterator[int]:
        """Yield tags for new apps; as a rule a change needs none, and then this costs nothing."""
        used = {record.tag for app, record in self.records.items() if app not in gone}
        yield from (tag for tag in range(1, MAX_TAG + 1) if tag not in used)


def _next(tags: Iterator[int]) -> int:
    for tag in tags:
        return tag
    raise TagsExhausted(f"all {MAX_TAG} tags are in use: so many apps are named in policies")


def _names(source: str, allowed: Iterable[Allowed]) -> Iterator[str]:
    """Yield every app that policies of one source name, once for each time."""
    for each in allowed:
        yield source
        yield each.destination
