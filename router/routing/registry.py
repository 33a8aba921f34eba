"""The authoritative route table: what is announced goes in, what changes for the workers comes out.

Owns routes, times of last hearing, order of announcements and pruning; does not own NATS, the clock or the way to
the workers. One law: `take_changes` and `snapshot` tell the same story, so a worker that applies a snapshot and
then every later change has this table.

Protocol for whoever feeds workers: call `take_changes` whenever something may have changed and send the list to
every worker as the next frame. To bring a new worker up, call `take_changes` first (and send it to the others),
then `snapshot` in the same turn of the loop; its chunks may be encoded and sent at leisure, provided later changes
queue up for that worker behind the last chunk.
"""

from collections.abc import Iterable, Iterator

from router.routing.heartbeats import Heartbeats
from router.routing.names import is_internal
from router.routing.observer import RegistryCounters, RegistryObserver
from router.routing.records import (
    Change,
    DefineEndpoint,
    DropPool,
    ForgetEndpoints,
    PutEndpoint,
    RemoveEndpoint,
    SetPoolOptions,
)
from router.routing.registrations import (
    ALGORITHMS,
    UNTAGGED,
    Membership,
    ModificationTag,
    Offer,
    RegisteredEndpoint,
    RegisteredPool,
    RegistryRules,
    is_older,
    merged_options,
)
from router.routing.route_list import routes_json
from router.routing.routekey import split_uri
from router.routing.sharing import Shared
from router.routing.snapshot import TableSnapshot
from router.routing.tombstones import Tombstones
from router.wire.registration import Registration


class Registry:
    """All pools, by route key. ``now`` is always seconds of one monotonic clock.

    Args:
        rules: what the configuration says about the table.
        observer: told of every event, for the log.
    """

    def __init__(self, rules: RegistryRules, observer: RegistryObserver | None = None) -> None:
        self.counters = RegistryCounters()
        self._rules = rules
        self._observer = observer or RegistryObserver()
        self._pools: dict[str, RegisteredPool] = {}
        self._heartbeats = Heartbeats()
        self._tombstones = Tombstones()
        self._shared = Shared()
        self._suspended = False
        self._last_id = 0
        self._changes: list[Change] = []
        self._forgotten: list[int] = []

    @property
    def total_routes(self) -> int:
        """Route keys in the table, kept empty ones included."""
        return len(self._pools)

    @property
    def has_changes(self) -> bool:
        return bool(self._changes)

    def count_addresses(self) -> int:
        """Return how many different endpoint addresses there are, in a walk through the whole table."""
        return len({address for pool in self._pools.values() for address in pool.members})

    def heartbeat(self, payload: bytes, now: float) -> bool:
        """Refresh what this payload registered, if it has been heard before and is in force unchanged.

        False means that it must be decoded and given to `register`.
        """
        memberships = self._heartbeats.find(payload)
        if memberships is None:
            return False
        for membership in memberships:
            membership.seen = now
        component = memberships[0].endpoint.record.tags.get("component", "")
        self.counters.registered[component, "refreshed"] += len(memberships)
        self.counters.updated_at = now
        return True

    def register(
        self, registration: Registration, now: float, *, tag: ModificationTag = UNTAGGED, payload: bytes = b""
    ) -> None:
        """Put the endpoint into the pool of each uri, or refresh it there.

        Args:
            registration: what was announced; ignored if its isolation segment is not served here.
            now: the time of hearing.
            tag: order of announcements from a routing API.
            payload: the bytes it was decoded from, which `heartbeat` then knows.
        """
        if not self._rules.serves(registration.isolation_segment):
            return
        self.counters.updated_at = now
        offer = Offer(registration, self._rules, tag, self._shared)
        places = self._places(registration)
        memberships = [self._put(key, path, offer, now) for key, path in places.items()]
        taken = tuple(membership for membership in memberships if membership is not None)
        if payload and taken and len(taken) == len(memberships):
            self._heartbeats.remember(payload, taken)

    def unregister(self, registration: Registration, now: float, *, tag: ModificationTag = UNTAGGED) -> None:
        """Take the endpoint out of the pool of each uri. What is not there stays so, even if announced late."""
        if not self._rules.serves(registration.isolation_segment):
            return
        self.counters.updated_at = now
        offer = Offer(registration, self._rules, tag, self._shared)
        component = registration.tags.get("component", "")
        for key in self._places(registration):
            self.counters.unregistered[component] += 1
            refusal = self._unregister(key, offer, now)
            if refusal:
                self._observer.endpoint_not_unregistered(key, registration, refusal)

    def endpoint_failed(self, key: str, endpoint_id: int, now: float) -> None:
        """A worker could not connect to this TLS endpoint: remove it at once. Its next heartbeat brings it back.

        Plain endpoints and ids that are not in the pool (any more) are ignored. A pool that becomes empty stays
        until the next prune pass.
        """
        pool = self._pools.get(key)
        membership = pool.member(endpoint_id) if pool is not None else None
        if pool is None or membership is None or not membership.endpoint.record.tls:
            return
        self._remove(pool, membership.endpoint.record.address, now)
        self._changes.append(RemoveEndpoint(key, endpoint_id))
        self._observer.failed_endpoint_pruned(key, membership)

    def prune(self, now: float, nats_connected: bool) -> None:
        """Make one whole prune pass; see `prune_in_steps`."""
        for _ in self.prune_in_steps(now, nats_connected):
            pass

    def prune_in_steps(self, now: float, nats_connected: bool, pools_per_step: int = 1000) -> Iterator[None]:
        """Drop plain endpoints not heard of for their time to live, and empty pools past their time.

        Nothing happens while pruning is suspended because NATS is away; the first pass after that takes everything
        for heard of at ``now``. The iterator must be run to its end; between steps other calls are welcome.
        """
        if self._rules.suspend_pruning and not nats_connected:
            self._suspended = True
            self._observer.prune_suspended()
            return
        after_suspension, self._suspended = self._suspended, False
        for count, key in enumerate(list(self._pools), 1):
            pool = self._pools.get(key)
            if pool is not None:
                if after_suspension:
                    for membership in pool.members.values():
                        membership.seen = now
                self._prune_pool(pool, now)
            if count % pools_per_step == 0:
                yield

    def apply_rules(self, rules: RegistryRules) -> None:
        """Go on under other rules: endpoints of segments not served any more go now, the rest at its next time."""
        self._rules = rules
        # The next hearing of each payload must be judged by the new rules.
        self._heartbeats.clear()
        for pool in list(self._pools.values()):
            for address, membership in list(pool.members.items()):
                if not rules.serves(membership.endpoint.record.isolation_segment):
                    self._remove(pool, address, 0.0)
                    self._changes.append(RemoveEndpoint(pool.key, membership.endpoint.id))
            if not pool.members and not rules.keeps_empty_pools:
                self._drop(pool)

    def take_changes(self) -> list[Change]:
        """Return what has changed since the last call, in order."""
        changes, self._changes = self._changes, []
        if self._forgotten:
            changes.append(ForgetEndpoints(self._forgotten))
            self._forgotten = []
        return changes

    def snapshot(self, chunk: int = 2000) -> Iterator[list[Change]]:
        """Return the table as it is now, as changes to an empty one, in lists of at most ``chunk``.

        The lists are made as they are asked for; what happens to the table meanwhile comes with `take_changes`.
        Raises `RuntimeError` if there are changes that were not taken: they would be told twice.
        """
        if self._changes:
            raise RuntimeError("take_changes() must come before snapshot()")
        return TableSnapshot(self._pools.values()).chunks(chunk)

    def routes_json(self, routes_per_chunk: int = 500) -> Iterator[bytes]:
        """Return the ``/routes`` document in pieces; routes that go meanwhile are left out of later pieces."""
        return routes_json(self._pools, routes_per_chunk)

    def _places(self, registration: Registration) -> dict[str, str]:
        """Return route keys and context paths of the uris that may be public."""
        domains = self._rules.internal_domains
        uris: Iterable[str] = registration.uris
        if domains:
            uris = []
            for uri in registration.uris:
                if is_internal(uri, domains):
                    self._observer.internal_refused(uri, registration)
                else:
                    uris.append(uri)
        return dict(map(split_uri, uris))

    def _put(self, key: str, context_path: str, offer: Offer, now: float) -> Membership | None:
        """Put an offer into one pool and return its membership, or None if something newer stands against it."""
        pool = self._pools.get(key)
        known = pool.members.get(offer.address) if pool is not None else None
        if pool is None or known is None:
            if self._tombstones.cover(key, offer.address, offer.record.updated_at_ns, now):
                self._ignore(key, offer, "unregistered since")
                return None
            return self._add(pool or self._new_pool(key, context_path), offer, now)
        if offer.repeats(known):
            known.seen = now
            self._count(offer, "refreshed")
            return known
        if not offer.may_replace(known):
            self._ignore(key, offer, "older than what is known")
            return None
        return self._replace(pool, known, offer, now)

    def _ignore(self, key: str, offer: Offer, reason: str) -> None:
        self._count(offer, "unmodified")
        self._observer.registration_ignored(key, offer.address, reason)

    def _count(self, offer: Offer, action: str) -> None:
        self.counters.registered[offer.record.tags.get("component", ""), action] += 1

    def _new_pool(self, key: str, context_path: str) -> RegisteredPool:
        pool = self._pools[key] = RegisteredPool(key, context_path)
        self._observer.route_registered(key)
        return pool

    def _add(self, pool: RegisteredPool, offer: Offer, now: float) -> Membership:
        membership = self._join(pool, self._defined(offer), offer, now)
        self._set_options(pool, offer)
        self._changes.append(self._placed(pool, membership, 0))
        self._count(offer, "added")
        self._observer.endpoint_registered(pool.key, membership)
        return membership

    def _replace(self, pool: RegisteredPool, known: Membership, offer: Offer, now: float) -> Membership:
        """Let an offer take the place of what its address announced before."""
        unchanged = known.endpoint.record == offer.record
        endpoint = known.endpoint if unchanged else self._defined(offer)
        membership = self._join(pool, endpoint, offer, now)
        self._leave(known)
        options_changed = self._set_options(pool, offer)
        if not unchanged:
            self._changes.append(self._placed(pool, membership, known.endpoint.id))
        elif options_changed:
            self._changes.append(SetPoolOptions(pool.key, pool.options))
        self._count(offer, "updated")
        self._observer.endpoint_updated(pool.key, membership)
        return membership

    def _defined(self, offer: Offer) -> RegisteredEndpoint:
        if offer.endpoint is None:
            self._last_id += 1
            offer.endpoint = RegisteredEndpoint(self._last_id, offer.record)
            self._changes.append(DefineEndpoint(self._last_id, offer.record))
        return offer.endpoint

    def _join(self, pool: RegisteredPool, endpoint: RegisteredEndpoint, offer: Offer, now: float) -> Membership:
        endpoint.pools += 1
        membership = Membership(endpoint, offer.options, offer.ttl_s, offer.tag, now)
        # Assigning to a present key keeps its position, which is the order in which workers balance.
        pool.members[offer.address] = membership
        return membership

    def _leave(self, membership: Membership) -> None:
        self._heartbeats.forget(membership)
        membership.endpoint.pools -= 1
        if membership.endpoint.pools == 0:
            self._forgotten.append(membership.endpoint.id)

    def _placed(self, pool: RegisteredPool, membership: Membership, replaces: int) -> PutEndpoint:
        return PutEndpoint(pool.key, pool.context_path, membership.endpoint.id, replaces, pool.options)

    def _set_options(self, pool: RegisteredPool, offer: Offer) -> bool:
        """Let the offer decide for the whole pool; return whether that changed anything."""
        algorithm = offer.options.algorithm
        if algorithm and algorithm not in ALGORITHMS:
            self._observer.algorithm_unknown(pool.key, algorithm)
        before, pool.options = pool.options, merged_options(pool.options, offer.options)
        return pool.options is not before

    def _unregister(self, key: str, offer: Offer, now: float) -> str:
        """Take an endpoint out of one pool; return why not, if not."""
        pool = self._pools.get(key)
        known = pool.members.get(offer.address) if pool is not None else None
        unregistered_ns = offer.record.updated_at_ns
        if pool is None or known is None:
            self._tombstones.bury(key, offer.address, unregistered_ns, now)
            return "unknown"
        known_ns = known.endpoint.record.updated_at_ns
        if is_older(unregistered_ns, known_ns) or not offer.tag.may_remove(known.tag):
            return "older than what is known"
        self._tombstones.bury(key, offer.address, max(unregistered_ns, known_ns), now)
        self._remove(pool, offer.address, now)
        self._observer.endpoint_unregistered(key, known)
        if pool.members or self._rules.keeps_empty_pools:
            self._changes.append(RemoveEndpoint(key, known.endpoint.id))
        else:
            self._drop(pool)
            self._observer.route_unregistered(key)
        return ""

    def _remove(self, pool: RegisteredPool, address: str, now: float) -> None:
        self._leave(pool.members.pop(address))
        if not pool.members:
            pool.emptied_at = now

    def _drop(self, pool: RegisteredPool) -> None:
        del self._pools[pool.key]
        self._changes.append(DropPool(pool.key))

    def _prune_pool(self, pool: RegisteredPool, now: float) -> None:
        members = pool.members
        stale = [
            address
            for address, membership in members.items()
            if now - membership.seen > membership.ttl_s and not membership.endpoint.record.tls
        ]
        if not stale and members:
            return
        pruned = [members[address].endpoint for address in stale]
        for address in stale:
            self._remove(pool, address, now)
        if members or (self._rules.keeps_empty_pools and not self._is_overdue(pool, now)):
            self._changes.extend(RemoveEndpoint(pool.key, endpoint.id) for endpoint in pruned)
        else:
            self._drop(pool)
        if stale:
            self.counters.pruned += len(stale)
            self._observer.route_pruned(pool.key, stale, pruned[0].record.isolation_segment)

    def _is_overdue(self, pool: RegisteredPool, now: float) -> bool:
        return now - pool.emptied_at > self._rules.empty_pool_timeout_s
