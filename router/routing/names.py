"""Internal names and the instances behind them, as they are announced.

Owns what is believed and for how long; does not own how it was heard (`control.internal.discovery`) nor who may
see it (`access`). One law: only names below an internal domain and only addresses of containers get in, whoever
says so.

Instances stand in the order in which they were first heard of. The last message wins: the protocol does not say
which of two is newer, except right after an unregistration. Times are seconds of one monotonic clock, passed in as
``now``.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator

import msgspec

from router.routing.container_addresses import ContainerAddresses
from router.routing.internal_records import DropName, NameEntry, PutName
from router.wire.discovery import NameRegistration

UNREGISTERED_S = 2.0
"""For so long after an unregistration only an announcement that carries a newer time of change brings an instance
back: agents publish in parallel, so a register can arrive late. Not longer, since routine announcements carry no
time, and a route may be mapped again at once."""

MAX_UNREGISTERED = 100_000
"""Unregistrations remembered; beyond this the oldest go first."""

MAX_NAME_CHARS = 253
"""255 octets on the wire (RFC 1035 §2.3.4)."""

# RFC 1123 §2.1, and the underscore, which Cloud Foundry allows in host names.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")

Emit = Callable[[PutName | DropName], None]


class NameRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says."""

    domains: frozenset[str]
    """The internal domains, as `normal_name` gives them."""
    staleness_s: float
    """An instance that was not heard of for longer is forgotten."""
    resume_delay_s: float
    """After agents could not be heard, nothing is forgotten for so long."""
    warm_s: float
    """Names are believed complete once agents could be heard for so long, all times together."""


class NameObserver:
    """Called by the table inside the change it tells of; this one does nothing, and is the default."""

    def registered(self, name: str, entry: NameEntry) -> None:
        """An instance stands behind a name from now on."""

    def updated(self, name: str, entry: NameEntry) -> None:
        """What an instance announces of itself has changed."""

    def unregistered(self, name: str, entry: NameEntry) -> None:
        """An instance does not stand behind a name any more, because that was said."""

    def pruned(self, name: str, entry: NameEntry) -> None:
        """The same, because nothing was heard of it."""

    def refused(self, registration: NameRegistration, name: str, reason: str) -> None:
        """An announcement is not taken; the name is empty if that is not about one of its names."""


class _Instance:
    """One instance behind one name, from its first announcement until it is forgotten."""

    __slots__ = ("entry", "seen", "updated_at_ns")

    def __init__(self, entry: NameEntry, seen: float, updated_at_ns: int) -> None:
        self.entry = entry
        self.seen = seen
        self.updated_at_ns = updated_at_ns


class NameTable:
    """Takes what is announced, and emits a change whenever other instances stand behind a name.

    Args:
        addresses: which addresses can be containers'.
        rules: which names there may be, and how long things hold.
        emit: takes each change, e.g. `InternalHub.put`.
        observer: is told what happens.
    """

    def __init__(
        self, addresses: ContainerAddresses, rules: NameRules, emit: Emit, observer: NameObserver | None = None
    ) -> None:
        self._addresses = addresses
        self._rules = rules
        self._emit = emit
        self._observer = observer or NameObserver()
        self._names: dict[str, dict[str, _Instance]] = {}
        """By name, then by address."""
        # A plain dict takes longer and longer to find its first item as items before it are deleted.
        self._by_age: OrderedDict[tuple[str, str], _Instance] = OrderedDict()
        """The same instances, the one not heard of for longest first."""
        self._unregistered = _Unregistered()
        self._heard_since: float | None = None
        """Since when agents can be heard; None while they cannot."""
        self._heard_s = 0.0
        """For how long they could be heard before that."""

    @property
    def names(self) -> int:
        return len(self._names)

    @property
    def instances(self) -> int:
        """How many there are, each counted with every name it stands behind."""
        return len(self._by_age)

    # What is announced.

    def register(self, registration: NameRegistration, now: float) -> None:
        """Put an instance behind each of its names, or note that it is still there."""
        problem = self._addresses.problem(registration.ip)
        if problem:
            self._observer.refused(registration, "", problem)
            return
        entry = NameEntry(registration.ip, registration.app, registration.index, registration.port)
        for name in self._valid_names(registration):
            self._put(name, entry, registration.updated_at_ns, now)

    def unregister(self, registration: NameRegistration, now: float) -> None:
        """Take an instance from behind each of the names; what is not there stays so, even if announced late."""
        ip = registration.ip
        if not ip:
            return
        for name in self._valid_names(registration):
            instance = self._by_age.get((name, ip))
            known_ns = 0 if instance is None else instance.updated_at_ns
            self._unregistered.note(name, ip, max(registration.updated_at_ns, known_ns), now)
            if instance is not None:
                self._remove(name, ip)
                self._observer.unregistered(name, instance.entry)

    def _valid_names(self, registration: NameRegistration) -> Iterator[str]:
        domains = self._rules.domains
        for text in registration.names:
            name = normal_name(text)
            problem = name_problem(name, domains)
            if problem:
                self._observer.refused(registration, text, problem)
            else:
                yield name

    def _put(self, name: str, entry: NameEntry, updated_at_ns: int, now: float) -> None:
        place = name, entry.ip
        instance = self._by_age.get(place)
        if instance is None:
            self._add(name, entry, updated_at_ns, now)
            return
        self._by_age.move_to_end(place)
        instance.seen = now
        instance.updated_at_ns = max(instance.updated_at_ns, updated_at_ns)
        if instance.entry != entry:
            instance.entry = entry
            self._observer.updated(name, entry)
            self._tell(name)

    def _add(self, name: str, entry: NameEntry, updated_at_ns: int, now: float) -> None:
        if self._unregistered.covers(name, entry.ip, updated_at_ns, now):
            return
        instance = _Instance(entry, now, updated_at_ns)
        self._by_age[name, entry.ip] = self._names.setdefault(name, {})[entry.ip] = instance
        self._observer.registered(name, entry)
        self._tell(name)

    def _remove(self, name: str, ip: str) -> None:
        del self._by_age[name, ip]
        instances = self._names[name]
        del instances[ip]
        if not instances:
            del self._names[name]
        self._tell(name)

    def _tell(self, name: str) -> None:
        instances = self._names.get(name)
        if instances is None:
            self._emit(DropName(name))
        else:
            self._emit(PutName(name, [instance.entry for instance in instances.values()]))

    # Time.

    def resume(self, now: float) -> None:
        """Agents can be heard from now on."""
        if self._heard_since is None:
            self._heard_since = now

    def suspend(self, now: float) -> None:
        """Agents cannot be heard from now on: everything stays as it is."""
        if self._heard_since is not None:
            self._heard_s += now - self._heard_since
            self._heard_since = None

    def cold_s(self, now: float) -> float | None:
        """Return for how much longer agents must be heard before names are warm; None while they cannot be heard.

        Once warm, names stay so: that is for the caller to remember.
        """
        if self._heard_since is None:
            return None
        return max(0.0, self._rules.warm_s - self._heard_s - (now - self._heard_since))

    def prune(self, now: float) -> None:
        """Make one whole prune pass; see `prune_in_steps`."""
        for _ in self.prune_in_steps(now):
            pass

    def prune_in_steps(self, now: float, instances_per_step: int = 500) -> Iterator[None]:
        """Forget instances that were not heard of for longer than ``staleness_s``.

        Nothing happens while agents cannot be heard, nor for ``resume_delay_s`` after that, in which everything
        that still runs is announced again. Between steps other calls are welcome.
        """
        forgotten = 0
        while self._may_prune(now) and (place := self._stale(now)) is not None:
            name, ip = place
            entry = self._by_age[place].entry
            self._remove(name, ip)
            self._observer.pruned(name, entry)
            forgotten += 1
            if forgotten % instances_per_step == 0:
                yield

    def _may_prune(self, now: float) -> bool:
        return self._heard_since is not None and now - self._heard_since >= self._rules.resume_delay_s

    def _stale(self, now: float) -> tuple[str, str] | None:
        """Return the place of an instance that is to be forgotten, the oldest one."""
        place, instance = next(iter(self._by_age.items()), (None, None))
        return place if instance is not None and now - instance.seen > self._rules.staleness_s else None


class _Unregistered:
    """Recent unregistrations, so that a register they overtook does not bring an instance back."""

    def __init__(self) -> None:
        # In the order of their end, since all live equally long.
        self._ends: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def note(self, name: str, ip: str, updated_at_ns: int, now: float) -> None:
        """Remember an unregistration of an instance that was last announced with this time of change."""
        ends = self._ends
        self._forget(now)
        known_ns, _ = ends.pop((name, ip), (0, 0.0))
        ends[name, ip] = max(updated_at_ns, known_ns), now + UNREGISTERED_S

    def covers(self, name: str, ip: str, updated_at_ns: int, now: float) -> bool:
        """Whether an announcement with this time of change says nothing against an unregistration."""
        if not self._ends:
            return False
        known_ns, end = self._ends.get((name, ip), (0, now))
        return now < end and updated_at_ns <= known_ns

    def _forget(self, now: float) -> None:
        ends = self._ends
        while ends and (len(ends) >= MAX_UNREGISTERED or now >= ends[next(iter(ends))][1]):
            ends.popitem(last=False)


def normal_name(text: str) -> str:
    """Return a name in lower case, without a trailing dot (RFC 4343: names that differ in case are the same)."""
    # Outside ASCII, lower case would make names of what is none: "\u212a" would become "k".
    return text.lower().removesuffix(".") if text.isascii() else text


def name_problem(name: str, domains: Collection[str]) -> str:
    """Return why a name cannot be an internal one; empty if it can.

    Args:
        name: as `normal_name` gives it.
        domains: the internal domains, likewise; a name lies below one of them, at any depth.
    """
    if "*" in name:
        return "a wildcard"
    if len(name) > MAX_NAME_CHARS or not all(map(_LABEL.fullmatch, name.split("."))):
        return "not a host name"
    if not any(name.endswith(f".{domain}") for domain in domains):
        return "not below an internal domain"
    return ""


def is_internal(uri: str, domains: Collection[str]) -> bool:
    """Tell whether a public route with this uri could serve requests to an internal name.

    Args:
        uri: host and perhaps a port and a path, in any case.
        domains: the internal domains, as `normal_name` gives them; a wildcard above one covers its names too.
    """
    if not domains:
        return False
    host = uri.lower().lstrip("/").partition("/")[0].partition("?")[0].partition(":")[0].rstrip(".")
    wildcard = host[1:] if host.startswith("*.") else ""
    return any(
        host == domain or host.endswith(f".{domain}") or (wildcard and domain.endswith(wildcard))
        for domain in domains
    )
