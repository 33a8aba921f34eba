"""One worker slot: keeps a worker in it, whatever becomes of the one that was there.

Owns when a crashed worker is replaced; does not own how one is brought up, nor reloads and drains, which take the
slot's worker over from here.
"""

import asyncio
from collections.abc import Awaitable, Callable

from router.control.worker_process import WorkerError, WorkerProcess, describe_exit
from router.log import Logger

SETTLED_S = 1.0
"""A worker that served this long before it died says nothing bad about the next one."""


class Backoff:
    """How long to wait before the next worker: not at all at first, then twice as long each time.

    Attributes:
        ceiling_s: for workers that had served. One that never did is likely to fail again, and each try costs
            the machine as much as a start: those wait up to ``hopeless_ceiling_s``.
    """

    first_s = 0.1
    ceiling_s = 1.0
    hopeless_ceiling_s = 15.0

    def __init__(self) -> None:
        self._failures = 0

    def delay_s(self, served_s: float | None) -> float:
        """Return the wait after a worker that served for so many seconds, None if it never did."""
        if served_s is not None and served_s >= SETTLED_S:
            self._failures = 0
        delay_s = self.first_s * 2 ** (self._failures - 1) if self._failures else 0.0
        self._failures = min(self._failures + 1, 32)
        return min(delay_s, self.hopeless_ceiling_s if served_s is None else self.ceiling_s)


class Slot:
    """The place of one worker; lives as long as the supervisor.

    Args:
        number: of the slot; its listening sockets go by it.
        bring_up: starts a worker for the slot and returns it when it can take over; raises `WorkerError`.

    Attributes:
        crashes: workers that ended while they were kept here.
    """

    def __init__(self, number: int, bring_up: Callable[[int], Awaitable[WorkerProcess]], logger: Logger) -> None:
        self.number = number
        self.worker: WorkerProcess | None = None
        self.crashes = 0
        self._bring_up = bring_up
        self._logger = logger
        self._keeper: asyncio.Task[None] | None = None

    def take(self, worker: WorkerProcess) -> WorkerProcess | None:
        """Put a worker into the slot and keep it there; return the one it replaces, which is the caller's now."""
        old = self.release()
        self.worker = worker
        self._keeper = asyncio.get_running_loop().create_task(self._keep(worker))
        return old

    def release(self) -> WorkerProcess | None:
        """Empty the slot, and do not fill it again; return the worker, which is the caller's now."""
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None
        worker, self.worker = self.worker, None
        return worker

    async def _keep(self, worker: WorkerProcess) -> None:
        backoff = Backoff()
        while True:
            await asyncio.wait([worker.exited])
            self.crashes += 1
            served_s = worker.served_s
            delay_s = backoff.delay_s(served_s)
            self._logger.error(
                "worker-exited",
                **worker.describe(),
                reason=describe_exit(worker.exited.result()),
                restart_in_seconds=delay_s,
            )
            await asyncio.sleep(delay_s)
            worker = self.worker = await self._replacement(backoff)

    async def _replacement(self, backoff: Backoff) -> WorkerProcess:
        while True:
            try:
                return await self._bring_up(self.number)
            except WorkerError as error:
                delay_s = backoff.delay_s(None)
                self._logger.error(
                    "worker-failed-to-start", slot=self.number, error=str(error), restart_in_seconds=delay_s
                )
                await asyncio.sleep(delay_s)
