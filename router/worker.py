"""A worker: the process that serves traffic, told by control what to do.

Owns the process's life: set-up, table, serving, drain, the time after control has died. Does not own how requests
are served (`router.dataplane`). It imports neither NATS nor YAML nor aiohttp: what it knows comes by the stream.
"""

import asyncio
import faulthandler
import gc
import mmap
import os
import signal
import socket
import traceback
from collections.abc import Coroutine
from time import monotonic

import msgspec
import uvloop

from router.config.schema import Config
from router.dataplane import SWEEP_S, DataPlane
from router.descriptors import DescriptorWatch, is_exhausted
from router.log import LEVELS, Logger
from router.memory import MemoryReturn, allocator_trim
from router.proxy.attempts import Neighbours
from router.proxy.error_page import TemplateError
from router.routing.board import Board, size_bytes
from router.routing.mirror import SequenceGap
from router.sync import (
    Apps,
    Drain,
    Failed,
    FrameStream,
    Health,
    LogLevel,
    Mark,
    Marked,
    Ready,
    ReopenLogs,
    Report,
    Resync,
    Serve,
    Serving,
    Setup,
    SnapshotEnd,
    Stats,
    Table,
    ToWorker,
    decode_to_worker,
    wait_closed,
)
from router.tls import TlsError

_STATS_S = 1.0
_GC_THRESHOLD = 50_000
"""Allocations between two runs of the cycle collector: the hot path leaves no cycles, so the default of 700 would
only make it look for them."""
_POLL_S = 0.05


class Worker:
    """One worker process; `run` returns its exit status."""

    def __init__(self, sync_fd: int) -> None:
        self._sync_fd = sync_fd
        self._logger = Logger()
        self._plane: DataPlane | None = None
        self._setup: Setup | None = None
        self._orphan_grace_s = 0.0
        self._drain_timeout_s = 0.0
        self._resyncing = False
        self._tunnels_count = False
        self._deadline: float | None = None
        self._draining = asyncio.Event()
        self._error: str | None = None
        self._report_number = 0
        self._memory = MemoryReturn(allocator_trim())
        self._descriptors = DescriptorWatch(is_exhausted)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stream = FrameStream(decode_to_worker, self._frame, self._lost)

    async def run(self) -> int:
        """Serve until told to stop; return the exit status."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            # Signals sent to the whole process group, as a terminal does, are control's to act on.
            loop.add_signal_handler(ignored, lambda: None)
        loop.add_signal_handler(signal.SIGTERM, self._terminated)
        sock = socket.socket(fileno=self._sync_fd)
        sock.setblocking(False)
        await loop.create_connection(lambda: self._stream, sock=sock)
        ticking = loop.create_task(self._tick())
        await self._draining.wait()
        await self._drain()
        ticking.cancel()
        await wait_closed(self._stream, 1.0)
        return 1 if self._error else 0

    # Frames.

    def _frame(self, frame: ToWorker) -> None:
        if isinstance(frame, Table):
            self._apply(frame)
        elif isinstance(frame, Setup):
            self._set_up(frame)
        elif isinstance(frame, SnapshotEnd):
            self._snapshot_complete()
        elif isinstance(frame, Serve):
            self._spawn(self._serve())
        elif isinstance(frame, Drain):
            self._tunnels_count = frame.tunnels
            self._begin_drain(frame.timeout_s)
        elif isinstance(frame, LogLevel):
            self._logger.level = LEVELS[frame.level]
        elif self._plane is None:
            return
        elif isinstance(frame, Mark):
            self._plane.mirror.mark(frame.endpoint_id, monotonic())
        elif isinstance(frame, Health):
            self._plane.proxy.healthy = frame.healthy
        elif isinstance(frame, ReopenLogs):
            self._plane.reopen_logs()
        elif isinstance(frame, Report):
            self._report_number = frame.number
            self._report(self._plane)

    def _set_up(self, setup: Setup) -> None:
        config = msgspec.msgpack.decode(setup.config, type=Config)
        self._setup = setup
        self._orphan_grace_s = config.orphan_grace
        self._drain_timeout_s = config.drain_timeout
        logging = config.logging
        self._logger = Logger(
            logging.syslog or "gorouter.stdout",
            LEVELS[logging.level.lower()],
            rfc3339=logging.format.timestamp == "rfc3339",
        )
        try:
            self._plane = DataPlane(
                config,
                self._logger,
                self._report_failed,
                setup.router_ip,
                Neighbours(self._report_marked, _board(setup)),
            )
        except (TlsError, TemplateError, OSError) as error:
            self._die(str(error))

    def _apply(self, frame: Table) -> None:
        if self._plane is None or (self._resyncing and frame.snapshot != 1):
            return
        self._resyncing = False
        try:
            self._plane.mirror.apply(frame.sequence, frame.snapshot, frame.changes)
        except SequenceGap as gap:
            self._logger.warn("route-table-gap", error=str(gap))
            self._resyncing = True
            self._stream.send(Resync())

    def _snapshot_complete(self) -> None:
        if self._plane is None or self._resyncing:
            return
        self._plane.mirror.finish_snapshot()
        # The table is long-lived: the collector need never look at it again.
        gc.collect()
        gc.freeze()
        self._stream.send(Ready())

    async def _serve(self) -> None:
        assert self._plane is not None
        assert self._setup is not None
        try:
            await self._plane.listen(self._setup.listeners)
        except OSError as error:
            self._die(f"cannot listen: {error}")
            return
        self._stream.send(Serving())

    def _report_failed(self, key: str, endpoint_id: int) -> None:
        self._stream.send(Failed(key, endpoint_id))

    def _report_marked(self, endpoint_id: int) -> None:
        self._stream.send(Marked(endpoint_id))

    # The timer.

    async def _tick(self) -> None:
        next_second = monotonic() + _STATS_S
        while True:
            await asyncio.sleep(SWEEP_S)
            plane = self._plane
            if plane is None:
                continue
            plane.sweep()
            if monotonic() >= next_second:
                next_second += _STATS_S
                plane.every_second()
                self._report(plane)
                connections = plane.connection_counts()
                self._memory.look(connections["client_connections"], monotonic())
                self._descriptors.look(self._logger, connections)

    def _report(self, plane: DataPlane) -> None:
        apps = plane.take_apps()
        if apps:
            self._stream.send(Apps(apps))
        self._stream.send(Stats(plane.counts(), plane.gauges(), self._report_number))

    # The end.

    def _begin_drain(self, timeout_s: float) -> None:
        deadline = monotonic() + timeout_s
        if self._deadline is None or deadline < self._deadline:
            self._deadline = deadline
        self._draining.set()

    async def _drain(self) -> None:
        plane = self._plane
        if plane is None:
            return
        plane.drain()
        while not self._is_done(plane):  # noqa: ASYNC110
            # What is waited for are many small ends; looking at them now and then costs less than announcing each.
            await asyncio.sleep(_POLL_S)
        if not plane.is_drained():
            self._logger.error("gorouter-draining-error", error="drain timed out", unfinished=plane.unfinished())
        plane.close()
        self._report(plane)

    def _is_done(self, plane: DataPlane) -> bool:
        return plane.is_drained(self._tunnels_count) or self._deadline is None or monotonic() >= self._deadline

    def _lost(self, error: Exception | None) -> None:
        """The stream has ended without a `Drain`: control has died, and another one may be about to take over."""
        if self._draining.is_set():
            return
        if self._plane is None or self._setup is None:
            self._die(f"no control: {error}")
            return
        self._logger.warn("control-lost", grace_s=self._orphan_grace_s, error=str(error or "end of stream"))
        self._spawn(self._outlive())

    async def _outlive(self) -> None:
        await asyncio.sleep(self._orphan_grace_s)
        self._begin_drain(self._drain_timeout_s)

    def _terminated(self) -> None:
        self._begin_drain(self._drain_timeout_s)

    def _die(self, reason: str) -> None:
        self._logger.error("worker-failed", error=reason)
        self._error = reason
        self._begin_drain(0.0)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        stack = ""
        if isinstance(error, BaseException):
            stack = "".join(traceback.format_exception(error))
        self._logger.error("worker-internal-error", error=str(error or context.get("message")), stack=stack)


def _board(setup: Setup) -> Board | None:
    """Map the memory shared with the other workers. Raises `OSError`."""
    if setup.board_fd < 0:
        return None
    memory = mmap.mmap(setup.board_fd, size_bytes(setup.board_rows))
    os.close(setup.board_fd)
    return Board(memoryview(memory), setup.board_rows, setup.board_row) if setup.board_row >= 0 else None


def main(sync_fd: int) -> int:
    """Run a worker whose stream to control is the inherited descriptor ``sync_fd``."""
    # Control asks for it when this process hangs, so nothing here may have to have a turn first. Shells start what
    # they put into the background with this signal ignored, and that is inherited.
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    faulthandler.register(signal.SIGQUIT, all_threads=True, chain=True)
    gc.set_threshold(_GC_THRESHOLD)
    os.set_inheritable(sync_fd, False)
    return uvloop.run(_run(sync_fd))


async def _run(sync_fd: int) -> int:
    return await Worker(sync_fd).run()
