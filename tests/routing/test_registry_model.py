"""The registry against a simple model of its rules, under random histories.

The model decodes nothing, remembers no payloads and knows no ids, so what the registry does for speed has to come
out the same. Two workers follow every change; at any moment one may lose its table and take a snapshot.
"""

from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.routing.registrations import RegistryRules
from router.routing.registry import Registry
from router.routing.tombstones import LIFETIME_S
from router.wire.announcement import Announcement, PoolSettings, encode_announcement
from router.wire.registration import decode_registration
from tests.support.registry import Worker

TTL_S, EMPTY_TIMEOUT_S = 30.0, 20.0
KEYS = ["a.test", "a.test/x", "b.test"]

uris = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True)
announcements = st.builds(
    Announcement,
    host=st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
    port=st.just(80),
    tls_port=st.sampled_from([0, 443]),
    uris=uris,
    app=st.sampled_from(["app", "other"]),
    stale_threshold_in_seconds=st.sampled_from([0, 10]),
    route_service_url=st.sampled_from(["", "https://rs.test"]),
    endpoint_updated_at_ns=st.sampled_from([0, 1, 2, 3]),
    options=st.builds(PoolSettings, loadbalancing=st.sampled_from(["", "least-connection", "fastest"])),
)


def address(announcement: Announcement) -> str:
    return f"{announcement.host}:{announcement.tls_port or announcement.port}"


@dataclass(frozen=True)
class Member:
    announcement: Announcement
    seen: float

    @property
    def ttl_s(self) -> float:
        return self.announcement.stale_threshold_in_seconds or TTL_S


@dataclass
class ModelPool:
    members: dict[str, Member]
    service: str = ""
    algorithm: str = ""
    emptied_at: float = 0.0


class Model:
    """What the rules say, as plainly as possible."""

    def __init__(self, rules: RegistryRules) -> None:
        self.keeps = rules.keeps_empty_pools
        self.suspends = rules.suspend_pruning
        self.suspended = False
        self.pools: dict[str, ModelPool] = {}
        self.graves: dict[tuple[str, str], tuple[int, float]] = {}

    def register(self, announcement: Announcement, now: float) -> None:
        for key in announcement.uris:
            self._register(key, announcement, now)

    def _register(self, key: str, news: Announcement, now: float) -> None:
        pool = self.pools.get(key)
        known = pool.members.get(address(news)) if pool else None
        buried_ns, end = self.graves.get((key, address(news)), (0, 0.0))
        if known is None and 0 < news.endpoint_updated_at_ns <= buried_ns and now < end:
            return
        # Which uris a message names is not part of what it says of the endpoint.
        if pool and known and replace_uris(known.announcement) == replace_uris(news):
            pool.members[address(news)] = replace(known, seen=now)
            return
        if known and 0 < news.endpoint_updated_at_ns < known.announcement.endpoint_updated_at_ns:
            return
        pool = self.pools.setdefault(key, ModelPool({}))
        pool.members[address(news)] = Member(news, now)
        pool.service = news.route_service_url
        if news.options.loadbalancing == "least-connection":
            pool.algorithm = "least-connection"

    def unregister(self, announcement: Announcement, now: float) -> None:
        for key in announcement.uris:
            self._unregister(key, announcement, now)

    def _unregister(self, key: str, news: Announcement, now: float) -> None:
        pool = self.pools.get(key)
        known = pool.members.get(address(news)) if pool else None
        ns = news.endpoint_updated_at_ns
        known_ns = known.announcement.endpoint_updated_at_ns if known else 0
        if known and 0 < ns < known_ns:
            return
        if max(ns, known_ns) > 0:
            buried_ns, end = self.graves.get((key, address(news)), (0, 0.0))
            still = buried_ns if now < end else 0
            self.graves[key, address(news)] = max(ns, known_ns, still), now + LIFETIME_S
        if pool and known:
            del pool.members[address(news)]
            pool.emptied_at = now
            if not pool.members and not self.keeps:
                del self.pools[key]

    def fail(self, key: str, endpoint: str, now: float) -> None:
        pool = self.pools[key]
        del pool.members[endpoint]
        pool.emptied_at = now

    def prune(self, now: float, connected: bool) -> None:
        if self.suspends and not connected:
            self.suspended = True
            return
        for key, pool in list(self.pools.items()):
            if self.suspended:
                pool.members = {at: replace(member, seen=now) for at, member in pool.members.items()}
            had = bool(pool.members)
            pool.members = {at: one for at, one in pool.members.items() if not self._is_stale(one, now)}
            if had and not pool.members:
                pool.emptied_at = now
            overdue = now - pool.emptied_at > EMPTY_TIMEOUT_S
            if not pool.members and (not self.keeps or overdue):
                del self.pools[key]
        self.suspended = False

    def _is_stale(self, member: Member, now: float) -> bool:
        return not member.announcement.tls_port and now - member.seen > member.ttl_s

    def table(self) -> dict[str, list[tuple[str, str, int]]]:
        return {
            key: [
                (at, one.announcement.app, one.announcement.endpoint_updated_at_ns)
                for at, one in pool.members.items()
            ]
            for key, pool in self.pools.items()
        }


def replace_uris(announcement: Announcement) -> bytes:
    options = announcement.options
    return encode_announcement(
        Announcement(
            host=announcement.host,
            uris=[],
            tls_port=announcement.tls_port,
            app=announcement.app,
            stale_threshold_in_seconds=announcement.stale_threshold_in_seconds,
            route_service_url=announcement.route_service_url,
            endpoint_updated_at_ns=announcement.endpoint_updated_at_ns,
            options=options,
        )
    )


class RegistryMachine(RuleBasedStateMachine):
    @initialize(keeps=st.booleans(), suspends=st.booleans())
    def begin(self, keeps: bool, suspends: bool) -> None:
        rules = RegistryRules(
            stale_threshold_s=TTL_S,
            empty_pool_503=keeps,
            empty_pool_timeout_s=EMPTY_TIMEOUT_S,
            suspend_pruning=suspends,
        )
        self.now = 100.0
        self.heard: list[Announcement] = []
        self.registry = Registry(rules)
        self.model = Model(rules)
        self.workers = [Worker(self.registry), Worker(self.registry)]
        for worker in self.workers:
            worker.take_snapshot()

    @rule(announcement=announcements)
    def register(self, announcement: Announcement) -> None:
        self.heard.append(announcement)
        self._hear(announcement)

    @rule(position=st.integers(min_value=0, max_value=50))
    def repeat(self, position: int) -> None:
        if self.heard:
            self._hear(self.heard[position % len(self.heard)])

    def _hear(self, announcement: Announcement) -> None:
        payload = encode_announcement(announcement)
        if not self.registry.heartbeat(payload, self.now):
            self.registry.register(decode_registration(payload), self.now, payload=payload)
        self.model.register(announcement, self.now)

    @rule(announcement=announcements)
    def unregister(self, announcement: Announcement) -> None:
        self.registry.unregister(decode_registration(encode_announcement(announcement)), self.now)
        self.model.unregister(announcement, self.now)

    @rule(position=st.integers(min_value=0, max_value=50), names=uris)
    def unregister_something_heard(self, position: int, names: list[str]) -> None:
        if self.heard:
            heard = self.heard[position % len(self.heard)]
            self.unregister(
                Announcement(
                    host=heard.host,
                    port=heard.port,
                    tls_port=heard.tls_port,
                    uris=names,
                    endpoint_updated_at_ns=heard.endpoint_updated_at_ns,
                )
            )

    @rule(position=st.integers(min_value=0, max_value=50))
    def fail(self, position: int) -> None:
        places = [(pool.key, one) for pool in self.workers[0].mirror.table.pools() for one in pool.endpoints]
        if places:
            key, endpoint = places[position % len(places)]
            self.registry.endpoint_failed(key, endpoint.endpoint_id, self.now)
            if endpoint.record.tls:
                self.model.fail(key, endpoint.address, self.now)

    @rule(seconds=st.sampled_from([1.0, 5.0, 11.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(connected=st.booleans())
    def prune(self, connected: bool) -> None:
        self.registry.prune(self.now, connected)
        self.model.prune(self.now, connected)

    @rule(which=st.integers(0, 1), chunk=st.integers(1, 5))
    def lose_a_worker(self, which: int, chunk: int) -> None:
        self.workers[which] = Worker(self.registry)
        self.workers[which].take_snapshot([self.workers[1 - which]], chunk)

    @invariant()
    def workers_have_what_the_rules_say(self) -> None:
        changes = self.registry.take_changes()
        for worker in self.workers:
            worker.apply(changes)
            pools = {pool.key: pool for pool in worker.mirror.table.pools()}
            assert {
                key: [(one.address, one.record.app, one.record.updated_at_ns) for one in pool.endpoints]
                for key, pool in pools.items()
            } == self.model.table()
            for key, expected in self.model.pools.items():
                options = pools[key].options
                assert (options.route_service_url, options.algorithm) == (expected.service, expected.algorithm)

            self._memory_is_bounded_by_the_table(worker)

    def _memory_is_bounded_by_the_table(self, worker: Worker) -> None:
        members = sum(len(pool.members) for pool in self.model.pools.values())
        assert len(self.registry._heartbeats) <= members
        assert len(worker.mirror._endpoints) <= members


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)
