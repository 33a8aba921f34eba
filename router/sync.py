"""The stream between control and one worker: typed frames over a socketpair, both ends.

Owns the frame types, their encoding and the two ends' socket work; does not own what is in the table. One law:
frames of one stream arrive in the order they were sent, and every table change carries the next sequence
number, so a worker that sees a gap knows that its table is wrong and asks for a new snapshot.

A frame on the wire is a 4-byte big-endian length and that many bytes of msgpack.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec

from router.routing.internal_records import AnyChange

MAX_FRAME_BYTES = 256 * 1024 * 1024
"""A length above this can only mean a broken stream."""


class SyncError(Exception):
    """The peer sent something that is not a frame; the stream cannot go on."""


class Listener(msgspec.Struct, frozen=True, array_like=True):
    """One inherited listening socket: which descriptor, and what is spoken on it."""

    fd: int
    kind: str
    """``http`` or ``https``."""
    address: str
    """For logs, e.g. ``0.0.0.0:443``."""


# Control to worker.


class Setup(msgspec.Struct, frozen=True, array_like=True, tag="setup"):
    """First frame of every stream: everything a worker needs that never changes during its life."""

    slot: int
    generation: int
    config: bytes
    """The `Config`, msgpack-encoded; decode with ``msgspec.msgpack.decode(setup.config, type=Config)``."""
    listeners: list[Listener]
    router_ip: str
    board_fd: int = -1
    """Descriptor of the memory that all workers share (`routing.board`); -1 if there is none."""
    board_rows: int = 0
    board_row: int = -1
    """This worker's own; -1 if it has to count for itself."""


class Table(msgspec.Struct, frozen=True, array_like=True, tag="table"):
    """Changes to apply in order. ``sequence`` counts frames of this type from 1; ``snapshot`` ones build anew.

    A snapshot is any number of frames with ``snapshot`` 1 (first), 2 (further); the changes that follow carry 0.
    `SnapshotEnd` says that the table is whole.
    """

    sequence: int
    snapshot: int
    changes: list[AnyChange]


class SnapshotEnd(msgspec.Struct, frozen=True, array_like=True, tag="snapshot_end"):
    sequence: int
    """Sequence number of the last frame of the snapshot."""


class Serve(msgspec.Struct, frozen=True, array_like=True, tag="serve"):
    """Start accepting on the listeners. Answered by `Serving`."""


class Health(msgspec.Struct, frozen=True, array_like=True, tag="health"):
    """What a health check by user agent has to answer (GOROUTER.md §5.10)."""

    healthy: bool


class Drain(msgspec.Struct, frozen=True, array_like=True, tag="drain"):
    """Stop accepting, finish what is in flight, then exit 0.

    ``timeout_s`` bounds the wait; a second `Drain` with a smaller value hastens it, 0 ends at once.
    """

    timeout_s: float
    tunnels: bool = False
    """WebSockets are waited for, too."""


class ReopenLogs(msgspec.Struct, frozen=True, array_like=True, tag="reopen_logs"):
    """Open the access log anew (SIGUSR2), for log rotation."""


class Mark(msgspec.Struct, frozen=True, array_like=True, tag="mark"):
    """Another worker could not connect to an endpoint: round-robin avoids it for a while (GOROUTER.md §6.1)."""

    endpoint_id: int


class LogLevel(msgspec.Struct, frozen=True, array_like=True, tag="log_level"):
    """Log from this level on, named as in the configuration."""

    level: str


class Report(msgspec.Struct, frozen=True, array_like=True, tag="report"):
    """Send `Stats` now: somebody reads the figures. ``number`` comes back with them."""

    number: int


# Worker to control.


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The snapshot has been applied whole."""


class Serving(msgspec.Struct, frozen=True, array_like=True, tag="serving"):
    """All listeners accept."""


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """A TLS endpoint could not be connected to and was removed from this pool (GOROUTER.md §6.4)."""

    key: str
    endpoint_id: int


class Marked(msgspec.Struct, frozen=True, array_like=True, tag="marked"):
    """An endpoint could not be connected to, and the other workers should avoid it, too."""

    endpoint_id: int


class Resync(msgspec.Struct, frozen=True, array_like=True, tag="resync"):
    """A gap was seen: send a new snapshot."""


class Stats(msgspec.Struct, frozen=True, array_like=True, tag="stats"):
    """Counters of this worker since its start, by name; sent about once a second, when asked and before exit."""

    counters: Mapping[str, int | float]
    gauges: dict[str, int]
    answers: int = 0
    """Number of the last `Report` that was asked for."""


class Apps(msgspec.Struct, frozen=True, array_like=True, tag="apps"):
    """Requests since the last such frame, by app guid; sent about once a second, if anybody wants to know."""

    counts: dict[str, int]


ToWorker = Setup | Table | SnapshotEnd | Serve | Health | Drain | ReopenLogs | LogLevel | Mark | Report
ToControl = Ready | Serving | Failed | Marked | Resync | Stats | Apps

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_to_control: msgspec.msgpack.Decoder[ToControl] = msgspec.msgpack.Decoder(ToControl)


def encode(frame: ToWorker | ToControl) -> bytes:
    """Return the frame as it goes over the wire, length included."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(4, "big") + body


def encode_changes(changes: Sequence[AnyChange]) -> bytes:
    """Return the changes alone, once for all streams; `encode_table` makes each stream's frame of them."""
    return _encoder.encode(changes)


def encode_table(sequence: int, snapshot: int, changes: bytes) -> bytes:
    """Return the `Table` frame of changes already encoded; equal to encoding the frame itself, but cheaper."""
    body = _encoder.encode(("table", sequence, snapshot, msgspec.Raw(changes)))
    return len(body).to_bytes(4, "big") + body


class FrameStream(asyncio.Protocol):
    """One end of the stream. Frames arrive through ``on_frame``, in order, inside ``data_received``.

    Args:
        decode: one of `decode_to_worker` and `decode_to_control`.
        on_frame: called with each frame; what it raises ends the stream.
        on_lost: called once when the stream is over, with the error if there was one.
    """

    def __init__(
        self,
        decode: Callable[[bytes], Any],
        on_frame: Callable[[Any], None],
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        self._decode = decode
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: Any = None
        self._error: Exception | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods without being instances of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)

    def send(self, frame: ToWorker | ToControl) -> None:
        """Queue a frame; after the stream is lost this does nothing, ``on_lost`` having said so."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(frame))

    def send_encoded(self, octets: bytes) -> None:
        """Queue a frame made by `encode` or `encode_table`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(octets)

    @property
    def queued_bytes(self) -> int:
        """What was sent and has not left this process."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    async def drained(self) -> None:
        """Wait until the peer has taken most of what was sent, or the stream is lost."""
        await self._writable.wait()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while len(buffer) - position >= 4:
                length = int.from_bytes(buffer[position : position + 4], "big")
                if length > MAX_FRAME_BYTES:
                    raise SyncError(f"frame of {length} bytes")
                end = position + 4 + length
                if len(buffer) < end:
                    break
                with memoryview(buffer) as view:
                    frame = self._decode(view[position + 4 : end])  # type: ignore[arg-type]
                position = end
                self._on_frame(frame)
        except Exception as error:
            self._error = error
            # The error's traceback may hold a view of the old one, which could then not be shortened.
            self._buffer = bytearray()
            self.close()
        else:
            del buffer[:position]

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self._on_lost(self._error or exc)


def decode_to_worker(data: bytes) -> ToWorker:
    """Decode a frame that control sent. Raises `msgspec.DecodeError` if it is none."""
    return _to_worker.decode(data)


def decode_to_control(data: bytes) -> ToControl:
    """Decode a frame that a worker sent. Raises `msgspec.DecodeError` if it is none."""
    return _to_control.decode(data)


async def wait_closed(stream: FrameStream, timeout_s: float) -> None:
    """Close the stream once what was sent has left, waiting no longer than the time-out."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stream.drained(), timeout_s)
    stream.close()
