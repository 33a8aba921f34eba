"""Feeding workers: whole snapshots, every change once and in order, bounded memory. Over real socketpairs."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router import sync
from router.control import publisher as publisher_module
from router.control.publisher import Feed, Publisher
from router.routing.mirror import Mirror
from router.routing.records import EndpointRecord
from router.routing.registrations import RegistryRules
from router.routing.registry import Registry
from tests.support.registry import Table, announced

TURN_S = 0.002


class Receiver:
    """The other end: a worker's mirror, and every frame it was sent."""

    def __init__(self) -> None:
        self.frames: list[sync.ToWorker] = []
        self.mirror = Mirror(lambda endpoint: None)
        self.transport: asyncio.Transport | None = None

    def take(self, frame: sync.ToWorker) -> None:
        self.frames.append(frame)
        if isinstance(frame, sync.Table):
            self.mirror.apply(frame.sequence, frame.snapshot, frame.changes)
        elif isinstance(frame, sync.SnapshotEnd):
            self.mirror.finish_snapshot()

    def table(self) -> Table:
        return {pool.key: [one.address for one in pool.endpoints] for pool in self.mirror.table.pools()}

    def count(self, kind: type) -> int:
        return sum(isinstance(frame, kind) for frame in self.frames)

    @property
    def sequences(self) -> list[int]:
        return [frame.sequence for frame in self.frames if isinstance(frame, sync.Table)]


class Bench:
    """A registry and its publisher, with as many workers as are connected."""

    def __init__(self, max_waiting_bytes: int = publisher_module.MAX_WAITING_BYTES) -> None:
        self.registry = Registry(RegistryRules())
        self.publisher = Publisher(self.registry, max_waiting_bytes=max_waiting_bytes)
        self.streams: list[sync.FrameStream] = []
        self.feeds: list[Feed] = []

    async def connect(self, *, paused: bool = False) -> tuple[Receiver, Feed, sync.FrameStream]:
        """Attach a worker; a paused one does not read yet."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        receiver = Receiver()
        far = sync.FrameStream(sync.decode_to_worker, receiver.take, lambda error: None)
        near = sync.FrameStream(sync.decode_to_control, lambda frame: None, lambda error: None)
        receiver.transport, _ = await loop.create_unix_connection(lambda: far, sock=theirs)
        if paused:
            receiver.transport.pause_reading()
        await loop.create_unix_connection(lambda: near, sock=ours)
        feed = self.publisher.attach(near)
        self.streams += [far, near]
        self.feeds.append(feed)
        return receiver, feed, near

    def register(self, *uris: str, **fields: Any) -> None:
        self.registry.register(announced(*uris, **fields), 0.0)
        self.publisher.changed()

    def table(self) -> Table:
        mirror = Mirror(lambda endpoint: None)
        self.publisher.flush()
        for kind, part in enumerate(self.registry.snapshot(100)):
            mirror.apply(kind + 1, 2 if kind else 1, part)
        mirror.finish_snapshot()
        return {pool.key: [one.address for one in pool.endpoints] for pool in mirror.table.pools()}


@asynccontextmanager
async def bench(**options: int) -> AsyncIterator[Bench]:
    made = Bench(**options)
    try:
        yield made
    finally:
        for feed in made.feeds:
            feed.stop()
        for stream in made.streams:
            stream.close()
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the conditions are of a kind that nothing announces
            await asyncio.sleep(TURN_S)
    assert condition(), what


async def until_equal(receiver: Receiver, bench: Bench, *, snapshots: int) -> None:
    """Wait until a worker that has got so many whole snapshots has the table of the registry.

    Tables of thousands take long to build: they are compared when they may be equal, not all the time.
    """
    expected = bench.table()
    await until(lambda: receiver.count(sync.SnapshotEnd) == snapshots, "snapshots")
    await until(lambda: receiver.table() == expected, "same table")


async def test_worker_gets_the_whole_table_in_pieces_and_then_the_end() -> None:
    async with bench() as it:
        for number in range(1200):
            it.register(f"app-{number}.test", port=1000 + number)

        receiver, *_ = await it.connect()
        await until(lambda: receiver.count(sync.SnapshotEnd), "snapshot is complete")

        kinds = [frame.snapshot for frame in receiver.frames if isinstance(frame, sync.Table)]
        assert kinds == [1, 2, 2, 2, 2]
        assert receiver.sequences == [1, 2, 3, 4, 5]
        assert receiver.frames[-1] == sync.SnapshotEnd(5)
        assert len(receiver.table()) == 1200


async def test_empty_table_is_a_snapshot_too() -> None:
    async with bench() as it:
        receiver, *_ = await it.connect()
        await until(lambda: receiver.count(sync.SnapshotEnd), "snapshot is complete")

        assert receiver.frames == [sync.Table(1, 1, []), sync.SnapshotEnd(1)]


async def test_changes_of_one_turn_travel_in_one_frame_to_every_worker() -> None:
    async with bench() as it:
        receivers = [(await it.connect())[0] for _ in range(3)]
        await until(lambda: all(each.count(sync.SnapshotEnd) for each in receivers), "snapshots")

        for number in range(20):
            it.register(f"app-{number}.test")
        await until(lambda: all(len(each.table()) == 20 for each in receivers), "changes")

        assert [each.sequences for each in receivers] == [[1, 2]] * 3


async def test_heartbeats_send_nothing() -> None:
    async with bench() as it:
        receiver, *_ = await it.connect()
        it.register("app.test")
        await until(receiver.table, "route")
        frames = len(receiver.frames)

        for _ in range(100):
            it.register("app.test")
        it.register("last.test")
        await until(lambda: "last.test" in receiver.table(), "a later route")

        assert len(receiver.frames) == frames + 1


async def test_changes_during_a_snapshot_come_after_it() -> None:
    async with bench() as it:
        for number in range(5000):
            it.register(f"app-{number}.test", app="a" * 50)
        receiver, *_ = await it.connect(paused=True)
        await asyncio.sleep(TURN_S)
        for number in range(5000, 6000):
            it.register(f"app-{number}.test")
            await asyncio.sleep(0)
        it.registry.unregister(announced("app-0.test"), 0.0)
        it.publisher.changed()
        assert receiver.transport is not None
        receiver.transport.resume_reading()

        await until(lambda: len(receiver.table()) == 5999, "all changes")

        assert receiver.sequences == list(range(1, len(receiver.sequences) + 1))
        assert receiver.count(sync.SnapshotEnd) == 1
        assert receiver.table() == it.table()


async def test_worker_that_saw_a_gap_gets_a_new_snapshot() -> None:
    async with bench() as it:
        it.register("app.test")
        receiver, feed, _ = await it.connect()
        await until(receiver.table, "table")

        feed.resync()
        await until(lambda: receiver.count(sync.SnapshotEnd) == 2, "second snapshot")
        it.register("other.test")
        await until(lambda: len(receiver.table()) == 2, "later change")

        assert receiver.sequences == [1, 2, 3]


async def test_worker_that_does_not_read_costs_bounded_memory_and_is_healed_by_a_snapshot() -> None:
    limit = 200_000
    async with bench(max_waiting_bytes=limit) as it:
        receiver, feed, stream = await it.connect()
        await until(lambda: receiver.count(sync.SnapshotEnd), "snapshot")
        assert receiver.transport is not None
        receiver.transport.pause_reading()

        most = 0
        for number in range(4000):
            it.register(f"app-{number}.test", app="x" * 400)
            await asyncio.sleep(0)
            most = max(most, stream.queued_bytes)
        it.register("app-0.test", port=81)

        assert most < limit + 10_000
        assert feed.snapshots == 1
        receiver.transport.resume_reading()
        await until_equal(receiver, it, snapshots=2)
        assert feed.snapshots == 2
        assert len(receiver.table()) == 4000


async def test_worker_that_does_not_read_its_snapshot_costs_bounded_memory() -> None:
    limit = 100_000
    async with bench(max_waiting_bytes=limit) as it:
        for number in range(3000):
            it.register(f"app-{number}.test", app="x" * 400)
        receiver, feed, stream = await it.connect(paused=True)

        most = 0
        for number in range(3000, 6000):
            it.register(f"app-{number}.test", app="x" * 400)
            await asyncio.sleep(0)
            most = max(most, stream.queued_bytes)

        # One piece of the snapshot is sent whole, whatever its size.
        assert most < publisher_module.CHUNK * 1200
        assert receiver.transport is not None
        receiver.transport.resume_reading()
        await until_equal(receiver, it, snapshots=1)
        assert feed.snapshots == 2


async def test_one_worker_that_does_not_read_holds_up_no_other() -> None:
    async with bench(max_waiting_bytes=10_000) as it:
        await it.connect(paused=True)
        receiver, *_ = await it.connect()
        for number in range(2000):
            it.register(f"app-{number}.test")
            await asyncio.sleep(0)

        await until(lambda: len(receiver.table()) == 2000, "all routes")


async def test_worker_that_goes_during_its_snapshot_is_forgotten() -> None:
    async with bench() as it:
        for number in range(5000):
            it.register(f"app-{number}.test")
        _, feed, stream = await it.connect(paused=True)
        stream.close()
        feed.stop()
        it.register("later.test")

        receiver, *_ = await it.connect()
        await until(lambda: len(receiver.table()) == 5001, "the next worker's table")


@pytest.mark.slow
async def test_hundred_thousand_endpoints_reach_a_worker_whole() -> None:
    async with bench() as it:
        for number in range(100_000):
            it.registry.register(announced(f"app-{number}.test", host=f"10.0.{number % 200}.7", port=4000), 0.0)

        receiver, *_ = await it.connect()
        await until(lambda: receiver.count(sync.SnapshotEnd), "snapshot")

        assert len(receiver.table()) == 100_000


def test_frame_of_changes_encoded_once_equals_the_frame_encoded_whole() -> None:
    registry = Registry(RegistryRules())
    registry.register(announced("app.test", "other.test/path", tags={"component": "x"}), 0.0)
    changes = registry.take_changes()
    frame = sync.Table(70_000, 2, [*changes])

    assert sync.encode_table(70_000, 2, sync.encode_changes(changes)) == sync.encode(frame)
    assert sync.decode_to_worker(sync.encode(frame)[4:]) == frame
    assert EndpointRecord in {type(change.record) for change in changes if hasattr(change, "record")}
