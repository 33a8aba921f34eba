"""When a silence is told, and when it ends a worker. What becomes of real ones: `test_supervisor`."""

import json

import pytest

from router.control.watchdog import TELL_S, Watchdog
from router.control.worker_process import State
from router.log import DEBUG, Logger

LIMIT_S = 8.0


class Worker:
    """What a watchdog sees of a worker."""

    def __init__(self, pid: int, state: State = State.SERVING) -> None:
        self.pid = pid
        self.state = state
        self.frames_heard = 0
        self.aborted = 0

    def describe(self) -> dict[str, int]:
        return {"pid": self.pid}

    def abort(self) -> None:
        self.aborted += 1


class Watch:
    """A watchdog, its workers and what it said."""

    def __init__(self, *workers: Worker) -> None:
        self.workers = set(workers)
        self._lines: list[bytes] = []
        self._watchdog = Watchdog(Logger(level=DEBUG, sink=self._lines.append))

    def look(self, times: int, limit_s: float = LIMIT_S) -> None:
        for _ in range(times):
            self._watchdog.look(self.workers, limit_s)

    def said(self) -> list[tuple[str, int]]:
        lines = map(json.loads, self._lines)
        return [(line["message"], line["data"]["pid"]) for line in lines]


def test_worker_that_is_heard_of_is_left_alone() -> None:
    worker = Worker(1)
    watch = Watch(worker)
    for _ in range(20):
        worker.frames_heard += 1
        watch.look(4)
    assert worker.aborted == 0
    assert watch.said() == []


def test_silence_is_told_once_and_ends_a_worker_once() -> None:
    silent, other = Worker(1), Worker(2)
    watch = Watch(silent, other)
    for _ in range(20):
        other.frames_heard += 1
        watch.look(1)
    assert (silent.aborted, other.aborted) == (1, 0)
    assert watch.said() == [("worker-silent", 1), ("worker-killed", 1)]


def test_worker_that_speaks_again_is_told_of_and_has_all_its_time_again() -> None:
    worker = Worker(1)
    watch = Watch(worker)
    for _ in range(2):
        watch.look(1 + int(TELL_S))
        worker.frames_heard += 1
        watch.look(1)
    assert worker.aborted == 0
    assert watch.said() == [("worker-silent", 1), ("worker-heard-again", 1)] * 2


def test_limit_of_nothing_ends_nobody() -> None:
    worker = Worker(1)
    watch = Watch(worker)
    watch.look(1000, limit_s=0.0)
    assert worker.aborted == 0
    assert watch.said() == [("worker-silent", 1)]


def test_limit_that_a_reload_makes_shorter_holds_for_a_silence_that_is_longer_already() -> None:
    worker = Worker(1)
    watch = Watch(worker)
    watch.look(20, limit_s=0.0)
    watch.look(1, limit_s=10.0)
    assert worker.aborted == 1


@pytest.mark.parametrize("state", [State.STARTING, State.EXITED])
def test_worker_that_starts_or_is_gone_need_not_speak(state: State) -> None:
    worker = Worker(1, state)
    Watch(worker).look(100)
    assert worker.aborted == 0


@pytest.mark.parametrize("state", [State.READY, State.LEAVING])
def test_worker_that_waits_or_leaves_is_watched_too(state: State) -> None:
    worker = Worker(1, state)
    Watch(worker).look(20)
    assert worker.aborted == 1


def test_worker_that_is_gone_is_forgotten() -> None:
    worker = Worker(1)
    watch = Watch(worker)
    watch.look(5)
    watch.workers.clear()
    watch.look(1)
    watch.workers.add(worker)
    watch.look(5)
    assert watch.said() == []
