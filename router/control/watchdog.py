"""Notices workers that hang without dying: stopped, in an endless loop, or waiting for what never comes.

Such a worker is worse than a dead one. The kernel goes on handing it its share of new connections, and nobody
answers them. Workers send their figures once a second; one of which nothing is heard hangs.

Owns when a silence is told and when it is too long; does not own the workers, nor replacing them (`slot`).
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from router.control.worker_process import State
from router.log import Logger

LOOK_S = 1.0
"""Between two looks: as often as a worker is heard of."""

TELL_S = 5.0
"""A silence of so long is logged."""


class Watched(Protocol):
    """What is watched: a `worker_process.WorkerProcess`.

    Attributes:
        frames_heard: grows with everything that the worker sends.
    """

    state: State
    frames_heard: int

    def describe(self) -> dict[str, int]: ...

    def abort(self) -> None: ...


@dataclass(slots=True)
class _Silence:
    since_frame: int
    lasted_s: float = 0.0
    was_told: bool = False
    was_ended: bool = False


class Watchdog:
    """Counts silences; lives as long as the supervisor."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._silences: dict[Watched, _Silence] = {}

    async def run(self, workers: Collection[Watched], limit_s: Callable[[], float]) -> None:
        """Look again and again, until cancelled.

        Args:
            workers: those there are; what is in it may change meanwhile.
            limit_s: returns after how many seconds of silence a worker is ended; 0 for never.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            self.look(workers, limit_s())

    def look(self, workers: Collection[Watched], limit_s: float) -> None:
        """Judge every worker; called every `LOOK_S`.

        A silence is counted in looks, not read from a clock: after a machine was suspended, or control itself had
        no turn for a while, everybody has been silent for long and nobody hangs.
        """
        for gone in self._silences.keys() - set(workers):
            del self._silences[gone]
        for worker in workers:
            # One that starts may have much to do; how long it may take is `supervisor.BRING_UP_S`.
            if worker.state not in (State.STARTING, State.EXITED):
                self._judge(worker, limit_s)

    def _judge(self, worker: Watched, limit_s: float) -> None:
        silence = self._silences.get(worker)
        if silence is None or silence.since_frame != worker.frames_heard:
            if silence is not None and silence.was_told:
                self._logger.info("worker-heard-again", **worker.describe(), silent_seconds=silence.lasted_s)
            self._silences[worker] = _Silence(worker.frames_heard)
            return
        silence.lasted_s += LOOK_S
        if silence.lasted_s >= TELL_S and not silence.was_told:
            silence.was_told = True
            self._logger.warn("worker-silent", **worker.describe(), silent_seconds=silence.lasted_s)
        if limit_s and silence.lasted_s >= limit_s and not silence.was_ended:
            silence.was_ended = True
            reason = f"silent for {silence.lasted_s:g} s"
            self._logger.error("worker-killed", **worker.describe(), reason=reason)
            worker.abort()
