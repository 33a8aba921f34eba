"""Starts the workers, keeps them running, replaces them at a reload and ends them.

Owns which worker processes there are and their generations; does not own the listening sockets, nor the table they
are fed. One law: a slot's old worker is told to leave only when its replacement serves on the same socket.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import msgspec

from router import sync
from router.config.schema import Config
from router.control.board_memory import BoardMemory
from router.control.listeners import Listeners
from router.control.publisher import Publisher
from router.control.slot import Slot
from router.control.totals import Totals
from router.control.watchdog import Watchdog
from router.control.worker_process import COMMAND, State, WorkerProcess, start_worker
from router.log import Logger

BRING_UP_S = 60.0
"""Longest start of a worker, snapshot included, before it is given up."""

REPORT_S = 0.3
"""How long somebody who reads figures may have to wait for a worker's newest ones."""

OVERTIME_S = 0.5
"""How much longer than it was told a draining worker may take to exit before it is killed."""


class Supervisor:
    """All worker processes of this router, from start to end.

    Args:
        config: of the first generation.
        slots: number of workers serving at a time.
        on_failed: told of each endpoint that a worker removed because it could not connect.
        on_apps: told which apps were asked for, as workers report it.
        command: how a worker is started; ``--sync-fd N`` is added.
    """

    def __init__(
        self,
        config: Config,
        publisher: Publisher,
        logger: Logger,
        *,
        slots: int,
        router_ip: str,
        on_failed: Callable[[sync.Failed], None],
        on_apps: Callable[[dict[str, int]], None] = lambda counts: None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.totals = Totals()
        self._config = config
        self._generation = 1
        self._listeners = Listeners([])
        self._publisher = publisher
        self._logger = logger
        self._router_ip = router_ip
        self._on_failed = on_failed
        self._on_apps = on_apps
        self._command = command
        self._board = BoardMemory(slots)
        self._slots = [Slot(number, self._bring_up_again, logger) for number in range(slots)]
        self._workers: set[WorkerProcess] = set()
        self._departures: set[asyncio.Task[None]] = set()
        self._watchdog = Watchdog(logger)
        self._watching: asyncio.Task[None] | None = None
        self._serving = False
        self._healthy = False
        self._log_level = ""
        self._deadline = 0.0
        self._changed = asyncio.Event()
        self._reports = 0
        self._reported = asyncio.Event()

    @property
    def pids(self) -> list[int]:
        """Process ids of all workers, those that are leaving included."""
        return sorted(worker.pid for worker in self._workers)

    @property
    def restarts(self) -> int:
        """Workers that ended of themselves since the start."""
        return sum(slot.crashes for slot in self._slots)

    @property
    def is_serving(self) -> bool:
        """Whether traffic has been let in."""
        return self._serving

    async def start(self, listeners: Listeners) -> None:
        """Start a worker in every slot and wait until each has the table. Raises `WorkerError` if one fails.

        The listeners must stay open as long as workers may have to be replaced.
        """
        self._listeners = listeners
        watch = self._watchdog.run(self._workers, lambda: self._config.worker_timeout)
        self._watching = asyncio.get_running_loop().create_task(watch)
        for slot, worker in zip(self._slots, await self._bring_up_all(self._config, 1), strict=True):
            slot.take(worker)

    async def serve(self) -> None:
        """Open the listeners to traffic: wait until each slot's worker accepts. Raises `WorkerError`."""
        self._serving = True
        workers = [slot.worker for slot in self._slots if slot.worker is not None]
        for worker in workers:
            worker.serve()
        await asyncio.gather(*(worker.reach(State.SERVING, BRING_UP_S) for worker in workers))

    async def reload(self, config: Config) -> None:
        """Replace every worker by one with this configuration; the old ones finish what they have in flight.

        Raises `WorkerError` if a new worker does not come up; then the old ones serve on as if nothing had been.
        """
        generation = self._generation + 1
        workers = await self._bring_up_all(config, generation)
        self._config, self._generation = config, generation
        self._log_level = ""
        for slot, worker in zip(self._slots, workers, strict=True):
            old = slot.take(worker)
            if old is not None:
                self._dismiss(old, config.drain_timeout)

    def set_health(self, healthy: bool) -> None:
        """Let the workers answer health checks so."""
        self._healthy = healthy
        self.broadcast(sync.Health(healthy))

    def set_log_level(self, level: str) -> None:
        """Let all workers log from this level on, those that come later too, until a reload."""
        self._log_level = level
        self.broadcast(sync.LogLevel(level))

    def broadcast(self, frame: sync.ToWorker) -> None:
        for worker in self._workers:
            worker.stream.send(frame)

    async def refresh(self) -> None:
        """Bring `totals` up to date: every request that has ended is in them.

        A worker that does not answer within `REPORT_S` leaves its figures as they are, a second old at most.
        """
        self._reports += 1
        number = self._reports
        asked = [worker for worker in self._workers if worker.state is State.SERVING]
        for worker in asked:
            worker.stream.send(sync.Report(number))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_S):
                while any(worker.reported < number and not worker.exited.done() for worker in asked):
                    self._reported.clear()
                    await self._reported.wait()

    async def drain(self, timeout_s: float, *, tunnels: bool = False) -> bool:
        """End all workers for good: they stop accepting and finish what is in flight, within the time-out.

        Args:
            tunnels: WebSockets are in flight, too.

        Returns whether they did; those that did not, and do not end themselves either, are killed. In any case
        no worker is left.
        """
        for departure in self._departures:
            departure.cancel()
        for slot in self._slots:
            slot.release()
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        for worker in list(self._workers):
            if worker.state is State.STARTING:
                worker.kill()
            else:
                worker.drain(timeout_s, tunnels=tunnels)
        in_time = await self._are_gone_by_deadline()
        self._deadline += OVERTIME_S
        if not await self._are_gone_by_deadline():
            await self._kill_rest()
        if self._watching is not None:
            self._watching.cancel()
        return in_time

    def hasten(self, timeout_s: float) -> None:
        """While `drain` waits: let it wait no longer than this from now."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        if deadline < self._deadline:
            self._deadline = deadline
            for worker in list(self._workers):
                worker.drain(timeout_s)
            self._changed.set()

    def signal(self, number: int) -> None:
        """Send a signal to every worker."""
        for worker in self._workers:
            worker.signal(number)

    # What workers report.

    def failed(self, frame: sync.Failed) -> None:
        self._on_failed(frame)

    def marked(self, worker: WorkerProcess, frame: sync.Marked) -> None:
        for other in self._workers:
            if other is not worker:
                other.stream.send(sync.Mark(frame.endpoint_id))

    def apps(self, frame: sync.Apps) -> None:
        self._on_apps(frame.counts)

    def stats(self, worker: WorkerProcess, frame: sync.Stats) -> None:
        self.totals.update(worker.pid, frame)
        self._reported.set()

    # Beginnings.

    async def _bring_up_all(self, config: Config, generation: int) -> list[WorkerProcess]:
        encoded = msgspec.msgpack.encode(config)
        results = await asyncio.gather(
            *(self._bring_up(slot.number, encoded, generation) for slot in self._slots), return_exceptions=True
        )
        workers = [result for result in results if isinstance(result, WorkerProcess)]
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            for worker in workers:
                self._dismiss(worker, 0.0)
            raise errors[0]
        return workers

    async def _bring_up_again(self, slot: int) -> WorkerProcess:
        return await self._bring_up(slot, msgspec.msgpack.encode(self._config), self._generation)

    async def _bring_up(self, slot: int, config: bytes, generation: int) -> WorkerProcess:
        """Start a worker; return it when it has the table and, if traffic is let in, serves."""
        worker = await self._start(slot, config, generation)
        worker.stream.send(sync.Health(self._healthy))
        if self._log_level and generation == self._generation:
            worker.stream.send(sync.LogLevel(self._log_level))
        worker.feed_from(self._publisher)
        try:
            await worker.reach(State.READY, BRING_UP_S)
            if self._serving:
                worker.serve()
                await worker.reach(State.SERVING, BRING_UP_S)
        except BaseException:
            worker.kill()
            raise
        self._logger.info("worker-started", **worker.describe())
        return worker

    async def _start(self, slot: int, config: bytes, generation: int) -> WorkerProcess:
        board, row = self._board, self._board.take_row()
        listeners = self._listeners.for_slot(slot)
        setup = sync.Setup(slot, generation, config, listeners, self._router_ip, board.descriptor, board.rows, row)
        try:
            worker = await start_worker(self._command, setup, self)
        except BaseException:
            board.give_back(row)
            raise
        self._workers.add(worker)
        worker.exited.add_done_callback(lambda _: self._forget(worker, row))
        return worker

    def _forget(self, worker: WorkerProcess, row: int) -> None:
        self._workers.discard(worker)
        self._board.give_back(row)
        self.totals.retire(worker.pid)
        self._changed.set()

    # Ends.

    def _dismiss(self, worker: WorkerProcess, timeout_s: float) -> None:
        """Let one worker leave, in the background."""
        departure = asyncio.get_running_loop().create_task(self._see_off(worker, timeout_s))
        self._departures.add(departure)
        departure.add_done_callback(self._departures.discard)

    async def _see_off(self, worker: WorkerProcess, timeout_s: float) -> None:
        worker.drain(timeout_s, tunnels=True)
        await asyncio.wait([worker.exited], timeout=timeout_s + OVERTIME_S)
        if not worker.exited.done():
            self._logger.error("worker-killed", **worker.describe(), reason="did not leave in time")
            worker.kill()
            await asyncio.wait([worker.exited])
        self._logger.info("worker-left", **worker.describe())

    async def _are_gone_by_deadline(self) -> bool:
        loop = asyncio.get_running_loop()
        while self._workers:
            remaining_s = self._deadline - loop.time()
            if remaining_s <= 0:
                return False
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), remaining_s)
        return True

    async def _kill_rest(self) -> None:
        for worker in list(self._workers):
            self._logger.error("worker-killed", **worker.describe(), reason="did not leave in time")
            worker.kill()
        while self._workers:
            self._changed.clear()
            await self._changed.wait()
