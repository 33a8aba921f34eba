"""Which workload each container address belongs to, made of what agents and files say.

Owns who is believed and for how long; does not own how it was heard (`control.internal.identity_feed`). One law:
what is believed follows from what is claimed at the moment, whatever order it came in, and doubt means nobody:

- Of several claims to an address the highest generation is believed. If its claims differ, none is.
- An older generation is not believed after a newer one, until the quarantine is over.
- A claim that is not repeated lapses. While agents cannot be heard, claims do not age, but only for so long.

Times are seconds of one monotonic clock, passed in as ``now``.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from router.routing.container_addresses import ContainerAddresses
from router.routing.identity_observer import IdentityObserver
from router.routing.internal_records import DropIdentity, Identity, PutIdentity
from router.wire.identities import AddressesGone, Workload, WorkloadsSaid

Emit = Callable[[PutIdentity | DropIdentity], None]


class IdentityRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says."""

    ttl_s: float
    """Longest time for which a claim holds that is not repeated; agents may ask for less."""
    quarantine_s: float
    """For how long an older generation is not believed after a newer one."""
    keep_s: float
    """For how long claims do not age while agents cannot be heard."""


class _Claim:
    """What one agent says of one address, as long as it does."""

    __slots__ = ("agent", "heard", "identity", "lapses", "sequence", "ttl_s", "workload")

    def __init__(self, agent: str, workload: Workload) -> None:
        self.agent = agent
        self.workload = workload
        self.identity = _identity(workload)
        self.sequence = 0
        self.heard = 0.0
        self.ttl_s = math.inf
        self.lapses = math.inf


class _Refusal(NamedTuple):
    """A claim that was not taken, so that it is told once."""

    workload: Workload
    reason: str
    sequence: int


class _Agent:
    """An agent that has been heard of, as long as it claims anything or its next message may be a late one."""

    __slots__ = ("claims", "heard", "name", "refused", "run_start", "sequence")

    def __init__(self, name: str) -> None:
        self.name = name
        self.claims: dict[str, _Claim] = {}
        self.refused: dict[str, _Refusal] = {}
        self.sequence = -1
        self.run_start = 0
        """Since this sequence no message is missing."""
        self.heard = 0.0


class IdentityTable:
    """Takes what is said, and emits a change whenever an address gets another identity or none.

    Args:
        addresses: which addresses can be containers'.
        rules: how long things hold.
        emit: takes each change, e.g. `InternalHub.put`.
        observer: is told what happens.

    Attributes:
        believed: the identity of each address.
        conflicts: addresses that agents differ over.
        incomplete: agents of which a message was lost, a drop perhaps, and no whole snapshot was heard since.
    """

    def __init__(
        self,
        addresses: ContainerAddresses,
        rules: IdentityRules,
        emit: Emit,
        observer: IdentityObserver | None = None,
    ) -> None:
        self.believed: dict[str, Identity] = {}
        self.conflicts: set[str] = set()
        self.incomplete: set[str] = set()
        self._addresses = addresses
        self._rules = rules
        self._emit = emit
        self._observer = observer or IdentityObserver()
        self._agents: dict[str, _Agent] = {}
        self._claims: dict[str, list[_Claim]] = {}
        self._floors: dict[str, tuple[int, float]] = {}
        """Generation that was believed last, and until when an older one is not."""
        self._away_since: float | None = None
        self._look_at = math.inf
        """No claim lapses and no floor ends before."""

    def agents(self) -> dict[str, int]:
        """Return how many addresses each agent that is remembered claims."""
        return {name: len(agent.claims) for name, agent in self._agents.items()}

    def put(self, said: WorkloadsSaid, now: float) -> bool:
        """Take claims beside those there are. False if a later message of the agent came first."""
        agent = self._next(said.agent, said.sequence, now)
        if agent is None:
            return False
        ttl_s = self._rules.ttl_s if said.ttl is None else min(said.ttl, self._rules.ttl_s)
        for workload in said.workloads:
            self._claim(agent, workload, ttl_s, now)
        return True

    def snapshot(self, said: WorkloadsSaid, now: float) -> bool:
        """Take claims, and forget what the agent has not said again. False as in `put`.

        If a message between the snapshot's first and this one is missing, nothing is forgotten: what it said
        cannot be known.
        """
        if not self.put(said, now):
            return False
        agent = self._agents[said.agent]
        first = said.sequence if said.first is None else said.first
        if first == said.sequence or first >= agent.run_start:
            self._forget_before(agent, first, now)
            self.incomplete.discard(said.agent)
        return True

    def drop(self, gone: AddressesGone, now: float) -> bool:
        """Forget claims. False as in `put`; addresses the agent does not claim are passed over."""
        agent = self._next(gone.agent, gone.sequence, now)
        if agent is None:
            return False
        for ip in gone.addresses:
            agent.refused.pop(ip, None)
            if ip in agent.claims:
                self._withdraw(agent, ip, "dropped by its agent", now)
        return True

    def replace(self, source: str, workloads: Iterable[Workload], now: float) -> None:
        """Take the whole set of a source that need not repeat it, such as a file."""
        agent = self._agents.setdefault(source, _Agent(source))
        agent.sequence += 1
        for workload in workloads:
            self._claim(agent, workload, math.inf, now)
        self._forget_before(agent, agent.sequence, now)

    def suspend(self, now: float) -> None:
        """Agents cannot be heard from now on."""
        if self._away_since is None:
            self._away_since = now

    def resume(self, now: float) -> None:
        """Agents can be heard again: claims age on, each by the time it had left."""
        if self._away_since is None:
            return
        away_s = now - self._away_since
        self._away_since = None
        for agent in self._agents.values():
            agent.heard += away_s
            for claim in agent.claims.values():
                claim.lapses = min(claim.lapses + away_s, self._last_moment(claim))
        self._look_at = now

    def expire(self, now: float) -> None:
        """Forget what has lapsed. Cheap when nothing has; to be called about once a second."""
        if now < self._look_at:
            return
        self._look_at = math.inf
        for agent in list(self._agents.values()):
            self._expire_claims(agent, now)
        for ip, (_, until) in list(self._floors.items()):
            if now >= until:
                del self._floors[ip]
                self._settle(ip, "", now)
            else:
                self._look_at = min(self._look_at, until)

    def judge_again(self, addresses: ContainerAddresses, rules: IdentityRules, now: float) -> None:
        """Apply another configuration to all claims there are."""
        self._addresses, self._rules = addresses, rules
        for agent in self._agents.values():
            for ip, claim in list(agent.claims.items()):
                if problem := addresses.problem(ip):
                    self._refuse(agent, claim.workload, problem, now)
                elif claim.ttl_s > rules.ttl_s and claim.ttl_s != math.inf:
                    claim.ttl_s = rules.ttl_s
                    claim.lapses = min(claim.lapses, claim.heard + rules.ttl_s)
        self._look_at = now

    def _next(self, name: str, sequence: int, now: float) -> _Agent | None:
        """Return the agent if this message comes after all it has sent so far."""
        agent = self._agents.get(name)
        if agent is None:
            agent = self._agents[name] = _Agent(name)
        if sequence <= agent.sequence:
            self._observer.out_of_order(name, sequence, agent.sequence)
            return None
        if sequence != agent.sequence + 1:
            agent.run_start = sequence
            if agent.sequence >= 0:
                self.incomplete.add(name)
                self._observer.missed(name, sequence - agent.sequence - 1)
        agent.sequence = sequence
        agent.heard = now
        self._look_at = min(self._look_at, now + self._rules.ttl_s)
        return agent

    def _claim(self, agent: _Agent, workload: Workload, ttl_s: float, now: float) -> None:
        claim = agent.claims.get(workload.ip)
        if claim is not None and claim.workload == workload:
            self._renew(claim, agent, ttl_s, now)
            return
        if claim is not None and workload.generation < claim.workload.generation:
            self._tell_refused(agent, workload, "older than what this agent has said before")
            return
        if problem := self._addresses.problem(workload.ip):
            self._refuse(agent, workload, problem, now)
            return
        agent.refused.pop(workload.ip, None)
        if claim is not None:
            self._claims[workload.ip].remove(claim)
        claim = agent.claims[workload.ip] = _Claim(agent.name, workload)
        self._claims.setdefault(workload.ip, []).append(claim)
        self._renew(claim, agent, ttl_s, now)
        self._settle(workload.ip, "replaced", now)

    def _renew(self, claim: _Claim, agent: _Agent, ttl_s: float, now: float) -> None:
        claim.sequence = agent.sequence
        claim.heard = now
        claim.ttl_s = ttl_s
        claim.lapses = now + ttl_s
        if claim.lapses < self._look_at:
            self._look_at = claim.lapses

    def _refuse(self, agent: _Agent, workload: Workload, reason: str, now: float) -> None:
        if workload.ip in agent.claims:
            self._withdraw(agent, workload.ip, reason, now)
        self._tell_refused(agent, workload, reason)

    def _tell_refused(self, agent: _Agent, workload: Workload, reason: str) -> None:
        held = agent.refused.get(workload.ip)
        agent.refused[workload.ip] = _Refusal(workload, reason, agent.sequence)
        if held is None or (held.workload, held.reason) != (workload, reason):
            self._observer.refused(agent.name, workload, reason)

    def _forget_before(self, agent: _Agent, sequence: int, now: float) -> None:
        for ip, claim in list(agent.claims.items()):
            if claim.sequence < sequence:
                self._withdraw(agent, ip, "not in its agent's snapshot", now)
        agent.refused = {ip: refusal for ip, refusal in agent.refused.items() if refusal.sequence >= sequence}

    def _expire_claims(self, agent: _Agent, now: float) -> None:
        for ip, claim in list(agent.claims.items()):
            lapses = claim.lapses if self._away_since is None else self._last_moment(claim)
            if now >= lapses:
                self._withdraw(agent, ip, "not repeated by its agent", now)
            elif lapses < self._look_at:
                self._look_at = lapses
        # For a while its last message may be overtaken by earlier ones; after that it may start anew.
        forget_at = agent.heard + self._rules.ttl_s
        if not agent.claims and now >= forget_at:
            del self._agents[agent.name]
            self.incomplete.discard(agent.name)
        elif not agent.claims:
            self._look_at = min(self._look_at, forget_at)

    def _last_moment(self, claim: _Claim) -> float:
        return claim.heard + claim.ttl_s + self._rules.keep_s

    def _withdraw(self, agent: _Agent, ip: str, reason: str, now: float) -> None:
        claim = agent.claims.pop(ip)
        others = self._claims[ip]
        others.remove(claim)
        if not others:
            del self._claims[ip]
        if not agent.claims:
            self._look_at = now
        self._settle(ip, reason, now)

    def _settle(self, ip: str, reason: str, now: float) -> None:
        """Make what is believed of an address follow from the claims to it."""
        claims = self._claims.get(ip, [])
        held = self.believed.get(ip)
        believed = self._choose(ip, claims, now)
        if believed != held:
            if held is not None and held.generation:
                self._raise_floor(ip, held.generation, now)
                believed = self._choose(ip, claims, now)
            self._believe(ip, held, believed, reason)
        if believed is None and claims and _newest(claims) < self._floor(ip, now):
            self._observer.quarantined(_told(claims), self._floor(ip, now))
        self._note_conflict(ip, claims, believed)

    def _choose(self, ip: str, claims: list[_Claim], now: float) -> Identity | None:
        if not claims or _newest(claims) < self._floor(ip, now):
            return None
        newest = _newest(claims)
        found = [claim.identity for claim in claims if claim.identity.generation == newest]
        return found[0] if all(identity == found[0] for identity in found) else None

    def _floor(self, ip: str, now: float) -> int:
        floor, until = self._floors.get(ip, (0, 0.0))
        return floor if now < until else 0

    def _raise_floor(self, ip: str, generation: int, now: float) -> None:
        until = now + self._rules.quarantine_s
        self._floors[ip] = (max(self._floor(ip, now), generation), until)
        self._look_at = min(self._look_at, until)

    def _believe(self, ip: str, held: Identity | None, believed: Identity | None, reason: str) -> None:
        if believed is None:
            if held is not None:
                del self.believed[ip]
                self._emit(DropIdentity(ip))
                self._observer.dropped(held, reason)
            return
        self.believed[ip] = believed
        self._emit(PutIdentity(believed))
        self._observer.put(believed)

    def _note_conflict(self, ip: str, claims: list[_Claim], believed: Identity | None) -> None:
        if all(claim.identity == claims[0].identity for claim in claims):
            if ip in self.conflicts:
                self.conflicts.remove(ip)
                self._observer.conflict_over(ip)
        elif ip not in self.conflicts:
            self.conflicts.add(ip)
            self._observer.conflict(ip, _told(claims), believed)


def _newest(claims: list[_Claim]) -> int:
    return max(claim.identity.generation for claim in claims)


def _told(claims: list[_Claim]) -> list[tuple[str, Identity]]:
    return [(claim.agent, claim.identity) for claim in claims]


def _identity(workload: Workload) -> Identity:
    return Identity(
        ip=workload.ip,
        app=workload.app,
        space=workload.space,
        organization=workload.organization,
        instance=workload.instance,
        index=workload.index,
        generation=workload.generation,
        ports=workload.ports,
    )
