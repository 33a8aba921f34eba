"""Against a real nats-server with JetStream."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import StreamConfig

from router.config.internal import InternalPolicies
from router.control.internal.policies_jetstream import PolicyBucket
from router.control.internal.policy_parts import PARTS
from router.control.internal.policy_store import PolicyStoreError
from router.control.nats_link import Link
from router.routing.internal_records import Policy
from tests.support.bucket import Router, jetstream_server, policy, routers
from tests.support.eventually import eventually
from tests.support.nats import NatsServer

BUCKET = "KV_network-policies"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    server = jetstream_server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes take as long as the machine needs."""
    monkeypatch.setattr("router.control.internal.policies_jetstream.CHANGE_S", 60.0)


def link_of(router: Router) -> Link:
    assert router.link is not None
    return router.link


async def keys(router: Router) -> set[str]:
    """Return the names of all that is in the bucket."""
    info = await link_of(router).client.jetstream().stream_info(BUCKET, subjects_filter="$KV.network-policies.>")
    return {subject.removeprefix("$KV.network-policies.") for subject in info.state.subjects or {}}


async def root_of(router: Router) -> dict[str, Any]:
    found = await link_of(router).client.jetstream().get_msg(BUCKET, subject="$KV.network-policies.root")
    root: dict[str, Any] = json.loads(found.data or b"")
    return root


async def test_bucket_is_made_if_it_is_missing(server: NatsServer) -> None:
    async with routers(server, 1) as [router]:
        info = await link_of(router).client.jetstream().stream_info(BUCKET)
        assert (info.config.num_replicas, info.config.storage, info.config.max_msgs_per_subject) == (1, "file", 1)
        assert router.seen == []
        assert router.store.status()["state"] == "current"


async def test_policies_added_on_one_router_are_on_all(server: NatsServer) -> None:
    async with routers(server, 3) as [one, two, three]:
        await one.store.add([policy("a", "b", 5000), policy("c", "b", 1, 9, "udp")])
        assert one.store.policies == [policy("a", "b", 5000), policy("c", "b", 1, 9, "udp")]
        await two.sees(*one.store.policies)
        await three.sees(*one.store.policies)
        assert one.store.tags == two.store.tags == three.store.tags == {"a": 1, "b": 2, "c": 3}
        assert one.store.last_updated_ns == two.store.last_updated_ns == three.store.last_updated_ns


async def test_policies_removed_on_one_router_are_gone_from_all(server: NatsServer) -> None:
    async with routers(server, 2) as [one, two]:
        await one.store.add([policy("a", "b"), policy("a", "c")])
        await two.sees(policy("a", "b"), policy("a", "c"))
        await two.store.remove([policy("a", "b"), policy("x", "y")])
        await one.sees(policy("a", "c"))
        assert one.hub.table.allows("a", "c", "tcp", 80)
        assert not one.hub.table.allows("a", "b", "tcp", 80)


async def test_a_change_to_the_same_is_dated_all_the_same(server: NatsServer) -> None:
    async with routers(server, 2) as [one, two]:
        await one.store.add([policy("a", "b")])
        dates = [one.store.last_updated_ns]
        await one.store.add([policy("a", "b")])
        dates.append(one.store.last_updated_ns)
        await one.store.remove([policy("c", "d")])
        dates.append(one.store.last_updated_ns)
        assert dates == sorted(set(dates))
        assert all(date % 1000 == 0 for date in dates)
        await eventually(lambda: two.store.last_updated_ns == dates[-1], "the other router to see the date")


async def test_concurrent_writers_lose_nothing(server: NatsServer) -> None:
    async with routers(server, 3) as running:
        mine = [[policy(f"s{n}", f"d{n % 5}", 80 + owner) for n in range(12)] for owner in range(3)]
        await asyncio.gather(
            *(router.store.add([each]) for router, own in zip(running, mine, strict=True) for each in own)
        )
        everything = [each for own in mine for each in own]
        for router in running:
            await router.sees(*everything)
        assert len(set(running[0].store.tags.values())) == len(running[0].store.tags) == 17
        await asyncio.gather(
            *(router.store.remove([each]) for router, own in zip(running, mine, strict=True) for each in own)
        )
        for router in running:
            await router.sees()


async def test_a_batch_is_seen_whole_or_not_at_all(server: NatsServer) -> None:
    """The batch spans nearly all parts; a reader looks at whatever moment it likes."""
    batch = [policy(f"source-{n}", "d", 5000) for n in range(200)]
    async with routers(server, 2) as [writer, reader]:
        counts = set()
        done = asyncio.Event()

        async def look() -> None:
            while not done.is_set():
                counts.add(len(reader.seen))
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        for _ in range(5):
            await writer.store.add(batch)
            await reader.sees(*batch)
            await writer.store.remove(batch)
            await reader.sees()
        done.set()
        await looking
        assert counts == {0, 200}


async def test_a_refused_batch_changes_nothing(server: NatsServer) -> None:
    async with routers(server, 1) as [router]:
        await router.store.add([policy("a", "b")])
        too_long = [policy("a", "x" * 200 + str(n)) for n in range(6000)]
        with pytest.raises(PolicyStoreError, match="max_payload"):
            await router.store.add([policy("c", "d"), *too_long])
        assert router.store.policies == [policy("a", "b")]


async def test_policies_survive_a_crash_of_the_server(server: NatsServer) -> None:
    async with routers(server, 2) as [one, two]:
        await one.store.add([policy("a", "b", port) for port in range(1, 50)])
        server.kill()
        await one.lose()
        await two.lose()
        assert len(one.seen) == 49
        assert one.store.status()["state"] == "lost"
        server.start()
        await one.connect()
        await two.connect()
        await eventually(lambda: one.store.status()["state"] == "current", "the bucket to be read again")
        await one.store.remove([policy("a", "b", port) for port in range(2, 50)])
        await two.sees(policy("a", "b", 1))
    async with routers(server, 1) as [fresh]:
        await fresh.sees(policy("a", "b", 1))


async def test_a_change_outlives_a_moment_without_server(server: NatsServer) -> None:
    async with routers(server, 1) as [router]:
        server.kill()
        await router.lose()
        change = asyncio.create_task(router.store.add([policy("a", "b")]))
        server.start()
        await router.connect()
        await change
        assert router.seen == [policy("a", "b")]


async def test_a_change_without_server_fails_with_the_reason(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.control.internal.policies_jetstream.CHANGE_S", 0.05)
    async with routers(server, 1) as [router]:
        await router.lose()
        with pytest.raises(PolicyStoreError, match=r"not confirmed within 0.05 s.*NATS is away"):
            await router.store.add([policy("a", "b")])


async def test_changes_made_while_a_router_was_away_are_read_when_it_is_back(server: NatsServer) -> None:
    async with routers(server, 2) as [one, two]:
        await one.store.add([policy("a", "b"), policy("c", "d")])
        await two.sees(policy("a", "b"), policy("c", "d"))
        await two.lose()
        await one.store.remove([policy("a", "b")])
        assert two.hub.table.allows("a", "b", "tcp", 80)
        await two.connect()
        await two.sees(policy("c", "d"))


async def test_a_change_is_seen_without_its_notice(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.control.internal.policies_jetstream.POLL_S", 0.05)

    async def say_nothing(_: PolicyBucket) -> None:
        pass

    async with routers(server, 2) as [one, two]:
        monkeypatch.setattr(PolicyBucket, "_notify", say_nothing)
        await one.store.add([policy("a", "b")])
        await two.sees(policy("a", "b"))


async def test_the_last_set_holds_for_a_time_then_all_is_denied(server: NatsServer) -> None:
    async with routers(server, 1, keep=0.05) as [router]:
        await router.store.add([policy("a", "b")])
        router.store.lost()
        # Before the loop has a turn: the closing of a link may take longer than the policies hold.
        assert router.hub.table.allows("a", "b", "tcp", 80)
        await router.lose()
        await eventually(lambda: not router.hub.table.policies_ready, "the policies to expire")
        assert not router.hub.table.allows("a", "b", "tcp", 80)
        assert router.store.status()["state"] == "expired"
        assert router.logged("policies-expired") != []
        await router.connect()
        await router.ready()
        assert router.hub.table.allows("a", "b", "tcp", 80)


async def test_a_server_without_jetstream_leaves_all_denied_and_is_tried_again(tmp_path: Path) -> None:
    plain = NatsServer(tmp_path)
    plain.start()
    router = Router(plain, InternalPolicies())
    try:
        await router.connect()
        await eventually(lambda: router.store.status()["error"], "an error")
        [line] = router.logged("policies-cannot-be-read")
        assert "JetStream is not enabled on this server (nats-server --jetstream)" in line["error"]
        assert router.store.status()["state"] == "waiting"
        assert not router.hub.table.policies_ready
    finally:
        await router.close()
        plain.kill()


async def test_a_bucket_that_appears_later_is_read(server: NatsServer) -> None:
    """As in a cluster that has no quorum yet: the bucket cannot be made at first."""
    router = Router(server, InternalPolicies(replicas=3))
    try:
        link = await router.connect()
        await eventually(lambda: router.store.status()["error"], "an error")
        assert "replicas" in router.store.status()["error"]
        async with routers(server, 1) as [other]:
            await other.store.add([policy("a", "b")])
            await router.ready()
            await router.sees(policy("a", "b"))
        [warning] = router.logged("policies-bucket-replicas")
        assert (warning["replicas"], warning["configured"]) == (1, 3)
        assert link.is_up
    finally:
        await router.close()


async def test_parts_that_nobody_needs_are_removed(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.control.internal.policies_jetstream.GRACE_S", 0.0)
    async with routers(server, 1) as [router]:
        for port in range(1, 20):
            await router.store.add([policy("a", "b", port)])

        async def tidy() -> bool:
            parts = (await root_of(router))["parts"]
            return await keys(router) == {"root", *(f"parts.{name}" for name in parts if name)}

        # Each change wakes up the one who tidies.
        for port in range(20, 200):
            await router.store.remove([policy("x", "y", port)])
            if await tidy():
                break
        else:
            pytest.fail("parts are left")
        assert len((await root_of(router))["parts"]) == PARTS


async def test_parts_left_by_a_writer_that_died_are_swept_once_they_are_old(server: NatsServer) -> None:
    async with routers(server, 1) as [router]:
        jetstream = link_of(router).client.jetstream()
        await router.store.add([policy("a", "b")])
        for name in ("1-0123456789abcdef", "ffffffffff-0123456789abcdef", "written-by-hand"):
            await jetstream.publish(f"$KV.network-policies.parts.{name}", b"{}")
        before = await keys(router)
    async with routers(server, 1) as [router]:
        await router.sees(policy("a", "b"))
        await eventually(lambda: router.logged("policies-bucket-swept"), "a sweep")
        assert await keys(router) == before - {"parts.1-0123456789abcdef"}


async def test_a_bucket_deleted_by_hand_is_made_again_and_said(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.control.internal.policies_jetstream.POLL_S", 0.05)
    async with routers(server, 1) as [router]:
        await router.store.add([policy("a", "b")])
        await link_of(router).client.jetstream().delete_stream(BUCKET)
        await router.sees()
        assert router.logged("policies-bucket-was-emptied") != []
        await router.store.add([policy("c", "d")])
        assert router.seen == [policy("c", "d")]


@pytest.mark.parametrize(
    ("root", "error"),
    [
        (b"not json", "root is damaged"),
        (b'{"format":2,"updated_ns":0,"parts":["x"]}', "format 2, which a newer router may know"),
        (b'{"format":1,"updated_ns":0,"parts":["gone"]}', "names parts that are not there"),
    ],
)
async def test_a_root_that_cannot_be_used_leaves_the_last_set(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, root: bytes, error: str
) -> None:
    monkeypatch.setattr("router.control.internal.policies_jetstream.POLL_S", 0.05)
    async with routers(server, 1) as [router]:
        await router.store.add([policy("a", "b")])
        good = await root_of(router)
        jetstream = link_of(router).client.jetstream()
        await jetstream.publish("$KV.network-policies.root", root)
        await eventually(lambda: error in router.store.status()["error"], f"the error {error!r}")
        assert router.seen == [policy("a", "b")]
        await jetstream.publish("$KV.network-policies.root", json.dumps(good).encode())
        await eventually(lambda: router.store.status()["state"] == "current", "the bucket to be read again")


async def test_an_existing_bucket_of_another_make_is_used(server: NatsServer) -> None:
    """Without direct reads, as older clients make buckets."""
    async with routers(server, 1, bucket="other") as [router]:
        jetstream = link_of(router).client.jetstream()
        await jetstream.add_stream(StreamConfig(name="KV_old", subjects=["$KV.old.>"], max_msgs_per_subject=1))
    async with routers(server, 2, bucket="old") as [one, two]:
        await one.store.add([policy("a", "b")])
        await two.sees(policy("a", "b"))


async def test_many_policies_are_read_by_a_router_that_starts(server: NatsServer) -> None:
    many = [Policy(f"source-{n % 500}", f"destination-{n % 77}", "tcp", 1 + n, 1 + n) for n in range(5000)]
    async with routers(server, 1) as [router]:
        await router.store.add(many)
        assert len(await keys(router)) == 1 + PARTS
    async with routers(server, 1) as [fresh]:
        await fresh.sees(*many)
