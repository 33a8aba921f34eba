"""Sends the route table to the workers: to each a whole snapshot, then every change in order.

Owns the sequence numbers and how much may wait for a slow worker; does not own the table, nor the streams' life.
One law: a feed that has sent a snapshot sends every later change of the registry exactly once and in order, or
starts over with a new snapshot.

Changes are collected per turn of the event loop and encoded once for all workers.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from router import sync
from router.routing.internal_records import AnyChange

CHUNK = 500
"""Changes in one frame: a millisecond or two of work, for control to encode and for a worker to apply."""

MAX_WAITING_BYTES = 32 * 1024 * 1024
"""What control keeps for one worker that does not read. Beyond it the changes are dropped: once the worker reads
again it gets a new snapshot, which costs it a moment and control nothing now."""


class Source(Protocol):
    """Where the table comes from; the registry."""

    def take_changes(self) -> Sequence[AnyChange]:
        """Return what changed since the last call, in order."""

    def snapshot(self, chunk: int) -> Iterator[Sequence[AnyChange]]:
        """Return the table as it is at the call, in pieces of at most ``chunk`` changes."""


class Sources:
    """Several sources as one: their tables are independent, so the order between their changes does not matter."""

    def __init__(self, *sources: Source) -> None:
        self._sources = sources

    def take_changes(self) -> Sequence[AnyChange]:
        return [change for source in self._sources for change in source.take_changes()]

    def snapshot(self, chunk: int) -> Iterator[Sequence[AnyChange]]:
        # Each is asked at once, so that all are as they are at the call.
        return itertools.chain.from_iterable([source.snapshot(chunk) for source in self._sources])


class Publisher:
    """Feeds all workers; lives as long as control."""

    def __init__(self, source: Source, *, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self._source = source
        self._max_waiting_bytes = max_waiting_bytes
        self._feeds: set[Feed] = set()
        self._flush_is_due = False

    def changed(self) -> None:
        """The source may have changes: send them once this turn of the loop is over."""
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Send what changed now."""
        self._flush_is_due = False
        changes = self._source.take_changes()
        if not self._feeds:
            return
        for start in range(0, len(changes), CHUNK):
            encoded = sync.encode_changes(changes[start : start + CHUNK])
            for feed in self._feeds:
                feed.send(encoded)

    def attach(self, stream: sync.FrameStream) -> "Feed":
        """Start feeding a worker, with a snapshot. The feed belongs to the caller, who stops it."""
        feed = Feed(self, stream, self._max_waiting_bytes)
        self._feeds.add(feed)
        feed.resync()
        return feed

    def begin_snapshot(self) -> Iterator[Sequence[AnyChange]]:
        """Return a snapshot such that all feeds are sent exactly the changes that came after it."""
        self.flush()
        return self._source.snapshot(CHUNK)

    def forget(self, feed: "Feed") -> None:
        self._feeds.discard(feed)


class Feed:
    """What one worker is sent of the table; lives from the worker's start to the end of its stream.

    While a snapshot is on its way, or the worker reads too slowly, changes wait in ``_waiting``.
    """

    def __init__(self, publisher: Publisher, stream: sync.FrameStream, max_waiting_bytes: int) -> None:
        self._publisher = publisher
        self._stream = stream
        self._max_waiting_bytes = max_waiting_bytes
        self._sequence = 0
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._must_resync = False
        self._task: asyncio.Task[None] | None = None
        self.snapshots = 0

    def resync(self) -> None:
        """Send a new snapshot: now, or again once the one on its way has been sent."""
        self._must_resync = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._catch_up())

    def send(self, changes: bytes) -> None:
        """Send encoded changes, after all that waits."""
        if self._must_resync:
            return
        if self._task is None and self._stream.queued_bytes <= self._max_waiting_bytes:
            self._send(0, changes)
        elif self._task is not None and self._waiting_bytes + len(changes) <= self._max_waiting_bytes:
            self._waiting.append(changes)
            self._waiting_bytes += len(changes)
        else:
            self.resync()

    def stop(self) -> None:
        """Stop feeding; the stream stays as it is."""
        self._publisher.forget(self)
        self._forget_waiting()
        if self._task is not None:
            self._task.cancel()

    async def _catch_up(self) -> None:
        try:
            while self._must_resync or self._waiting:
                if self._must_resync:
                    await self._send_snapshot()
                else:
                    await self._send_waiting()
        finally:
            self._task = None

    async def _send_snapshot(self) -> None:
        # Only a worker that reads again is worth a snapshot: until then nothing is kept for it.
        await self._stream.drained()
        self._forget_waiting()
        self._must_resync = False
        chunks = self._publisher.begin_snapshot()
        # The snapshot also holds what was flushed for it; sent after it, that would come twice.
        self._forget_waiting()
        self.snapshots += 1
        kind = 1
        for changes in chunks:
            self._send(kind, sync.encode_changes(changes))
            kind = 2
            await self._stream.drained()
            # Other feeds, NATS and the health listener go on between two pieces.
            await asyncio.sleep(0)
        if kind == 1:
            self._send(1, sync.encode_changes([]))
        self._stream.send(sync.SnapshotEnd(self._sequence))

    async def _send_waiting(self) -> None:
        while self._waiting and not self._must_resync:
            changes = self._waiting.popleft()
            self._waiting_bytes -= len(changes)
            self._send(0, changes)
            await self._stream.drained()

    def _send(self, snapshot: int, changes: bytes) -> None:
        self._sequence += 1
        self._stream.send_encoded(sync.encode_table(self._sequence, snapshot, changes))

    def _forget_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
