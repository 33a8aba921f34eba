import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from router import sync
from router.routing.internal_records import AnyChange
from router.routing.records import (
    DefineEndpoint,
    DropPool,
    EndpointRecord,
    ForgetEndpoints,
    PoolOptions,
    PutEmptyPool,
    PutEndpoint,
    RemoveEndpoint,
    SetPoolOptions,
)

CHANGES: list[AnyChange] = [
    DefineEndpoint(1, EndpointRecord("10.0.0.1", 80, tags={"a": "b"})),
    PutEndpoint("a.test", "/", 1, 0, PoolOptions(algorithm="least-connection")),
    SetPoolOptions("a.test", PoolOptions(hash_balance=1.25)),
    RemoveEndpoint("a.test", 1),
    PutEmptyPool("b.test", "/", PoolOptions()),
    DropPool("a.test"),
    ForgetEndpoints([1]),
]
TO_WORKER: list[sync.ToWorker] = [
    sync.Setup(0, 1, b"config", [sync.Listener(3, "http", "0.0.0.0:80")], "10.0.0.9"),
    sync.Table(7, 1, CHANGES),
    sync.SnapshotEnd(7),
    sync.Serve(),
    sync.Health(True),
    sync.Drain(1.5),
    sync.ReopenLogs(),
]
TO_CONTROL: list[sync.ToControl] = [
    sync.Ready(),
    sync.Serving(),
    sync.Failed("a.test", 1),
    sync.Resync(),
    sync.Stats({"requests": 1}, {"open": 2}),
]


class End:
    """One end of a stream, and what happened there."""

    def __init__(self, decode: Callable[[bytes], Any], on_frame: Callable[[Any], None] | None = None) -> None:
        self.frames: list[Any] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.heard = asyncio.Event()
        self.stream = sync.FrameStream(decode, on_frame or self._hear, self.lost.set_result)

    def _hear(self, frame: Any) -> None:
        self.frames.append(frame)
        self.heard.set()

    async def wait_for(self, count: int) -> list[Any]:
        while len(self.frames) < count:
            self.heard.clear()
            await self.heard.wait()
        return self.frames


async def attach(end: End, sock: socket.socket) -> None:
    sock.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: end.stream, sock=sock)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    """Control's end and a worker's."""
    control, worker = End(sync.decode_to_control), End(sync.decode_to_worker)
    for end, sock in zip((control, worker), socket.socketpair(), strict=True):
        await attach(end, sock)
    yield control, worker
    control.stream.close()
    worker.stream.close()
    await asyncio.gather(control.lost, worker.lost)


def fed(end: End, *pieces: bytes) -> None:
    """Let bytes arrive without a socket."""
    end.stream.connection_made(_Closing())
    for piece in pieces:
        end.stream.data_received(piece)


class _Closing(asyncio.Transport):
    """A transport that only knows whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.mark.parametrize("frame", TO_WORKER, ids=lambda frame: type(frame).__name__)
def test_frame_for_a_worker_survives_the_wire(frame: sync.ToWorker) -> None:
    octets = sync.encode(frame)

    assert int.from_bytes(octets[:4], "big") == len(octets) - 4
    assert sync.decode_to_worker(octets[4:]) == frame


@pytest.mark.parametrize("frame", TO_CONTROL, ids=lambda frame: type(frame).__name__)
def test_frame_for_control_survives_the_wire(frame: sync.ToControl) -> None:
    assert sync.decode_to_control(sync.encode(frame)[4:]) == frame


def test_table_of_changes_encoded_once_equals_the_frame() -> None:
    assert sync.encode_table(7, 1, sync.encode_changes(CHANGES)) == sync.encode(sync.Table(7, 1, CHANGES))


def test_frame_for_the_other_side_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        sync.decode_to_worker(sync.encode(sync.Ready())[4:])


async def test_frames_arrive_in_order_both_ways(ends: tuple[End, End]) -> None:
    control, worker = ends
    for frame in TO_WORKER:
        control.stream.send(frame)
    for answer in TO_CONTROL:
        worker.stream.send(answer)

    assert await worker.wait_for(len(TO_WORKER)) == TO_WORKER
    assert await control.wait_for(len(TO_CONTROL)) == TO_CONTROL


async def test_frames_cut_anywhere_are_put_together() -> None:
    octets = b"".join(map(sync.encode, TO_WORKER))
    end = End(sync.decode_to_worker)
    fed(end, *(octets[place : place + 1] for place in range(len(octets))))
    assert end.frames == TO_WORKER

    for place in range(0, len(octets), 7):
        end = End(sync.decode_to_worker)
        fed(end, octets[:place], octets[place:])
        assert end.frames == TO_WORKER


async def test_what_is_no_frame_ends_the_stream_after_the_good_ones(ends: tuple[End, End]) -> None:
    control, worker = ends
    control.stream.send_encoded(sync.encode(sync.Serve()) + (3).to_bytes(4, "big") + b"\xc1\xc1\xc1")

    error = await worker.lost
    assert isinstance(error, msgspec.DecodeError)
    assert worker.frames == [sync.Serve()]


async def test_bad_frame_leaves_nothing_to_be_read_again() -> None:
    end = End(sync.decode_to_worker)
    fed(end, sync.encode(sync.Serve()) + (3).to_bytes(4, "big") + b"\xc1\xc1\xc1", b"")

    assert end.frames == [sync.Serve()]


async def test_impossible_length_ends_the_stream(ends: tuple[End, End]) -> None:
    control, worker = ends
    control.stream.send_encoded(b"\xff\xff\xff\xff")

    assert isinstance(await worker.lost, sync.SyncError)


async def test_error_of_the_receiver_ends_the_stream() -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("cannot")

    end, (mine, theirs) = End(sync.decode_to_worker, refuse), socket.socketpair()
    await attach(end, mine)
    theirs.sendall(sync.encode(sync.Serve()))

    with theirs:
        assert str(await end.lost) == "cannot"


async def test_end_of_the_peer_is_told_without_an_error(ends: tuple[End, End]) -> None:
    control, worker = ends
    control.stream.send(sync.Serve())
    control.stream.close()

    assert await worker.lost is None
    assert worker.frames == [sync.Serve()]
    worker.stream.send(sync.Ready())  # to nobody
    worker.stream.send_encoded(b"")


async def test_what_the_peer_does_not_take_is_known_and_can_be_waited_for() -> None:
    control, (mine, theirs) = End(sync.decode_to_control), socket.socketpair()
    await attach(control, mine)
    control.stream.send(sync.Setup(0, 0, b"x" * 4_000_000, [], ""))
    assert control.stream.queued_bytes > 0
    waiting = asyncio.create_task(control.stream.drained())
    await asyncio.sleep(0)
    assert not waiting.done()

    worker = End(sync.decode_to_worker)
    await attach(worker, theirs)
    await waiting
    assert len((await worker.wait_for(1))[0].config) == 4_000_000
    await sync.wait_closed(control.stream, 1.0)
    assert await worker.lost is None


async def test_waiting_ends_when_the_stream_is_lost() -> None:
    control, (mine, theirs) = End(sync.decode_to_control), socket.socketpair()
    await attach(control, mine)
    control.stream.send(sync.Setup(0, 0, b"x" * 4_000_000, [], ""))
    theirs.close()

    await control.stream.drained()
    await control.lost


async def test_closing_does_not_wait_longer_than_its_time_out() -> None:
    control, (mine, theirs) = End(sync.decode_to_control), socket.socketpair()
    await attach(control, mine)
    control.stream.send(sync.Setup(0, 0, b"x" * 4_000_000, [], ""))
    await sync.wait_closed(control.stream, 0.0)

    theirs.close()
    await control.lost


async def test_stream_that_was_never_connected_is_silent() -> None:
    end = End(sync.decode_to_control)
    end.stream.send(sync.Serve())
    end.stream.close()

    assert end.stream.queued_bytes == 0
