"""One worker process as control sees it: started, fed, told what to do, and reaped.

Owns the process, control's end of its sync stream and its feed; does not own when workers are started or
replaced (`supervisor`). One law: whatever happens to the process, ``exited`` is done exactly once, after it has
been reaped and all it had sent has been read.
"""

import asyncio
import enum
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import router
from router import sync
from router.control.publisher import Feed, Publisher

COMMAND = (sys.executable, "-P", "-m", "router", "worker")
"""How a worker is started; the descriptor of its stream is added. ``-P``: what lies in the working directory must
not be imported in place of this package."""

_LAST_STEPS_S = 2.0
"""How long a worker that gave up while it started may take to exit."""

_LAST_WORDS_S = 1.0
"""How long a worker that hangs may take to write its stacks; one that is stopped never does."""


class WorkerError(Exception):
    """A worker did not reach the state it was asked to; the text says what it did instead."""


class State(enum.Enum):
    STARTING = "starting"
    READY = "ready"
    SERVING = "serving"
    LEAVING = "leaving"
    EXITED = "exited"


class Audience(Protocol):
    """Whoever wants to hear of a worker's reports: the supervisor."""

    def failed(self, frame: sync.Failed) -> None: ...
    def marked(self, worker: "WorkerProcess", frame: sync.Marked) -> None: ...
    def stats(self, worker: "WorkerProcess", frame: sync.Stats) -> None: ...
    def apps(self, frame: sync.Apps) -> None: ...


class WorkerProcess:
    """A worker from its start to its end.

    Attributes:
        exited: its result is the exit status, negative for a signal.
        state: how far it has come.
        reported: number of the last `sync.Report` that it has answered.
        frames_heard: everything that it has sent.
    """

    def __init__(self, slot: int, generation: int, process: "subprocess.Popen[bytes]", audience: Audience) -> None:
        self.slot = slot
        self.generation = generation
        self.pid = process.pid
        self.state = State.STARTING
        self.reported = 0
        self.frames_heard = 0
        self._serving_since: float | None = None
        self._ended_at: float | None = None
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._audience = audience
        self._feed: Feed | None = None
        self._reached = {State.READY: self._loop.create_future(), State.SERVING: self._loop.create_future()}
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._status: int | None = None
        self._stream_is_over = False
        self.stream = sync.FrameStream(sync.decode_to_control, self._on_frame, self._on_lost)
        # A pidfd tells this process's end alone: no SIGCHLD handler to share with the libraries around us.
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)

    @property
    def served_s(self) -> float | None:
        """For how many seconds it has served, None if it never did."""
        if self._serving_since is None:
            return None
        return (self._ended_at or self._loop.time()) - self._serving_since

    def describe(self) -> dict[str, int]:
        """Return what identifies it in a log line."""
        return {"slot": self.slot, "generation": self.generation, "pid": self.pid}

    def feed_from(self, publisher: Publisher) -> None:
        """Begin to send the route table."""
        self._feed = publisher.attach(self.stream)

    def serve(self) -> None:
        """Let it accept; it answers by `State.SERVING`."""
        self.stream.send(sync.Serve())

    def drain(self, timeout_s: float, *, tunnels: bool = False) -> None:
        """Tell it to finish, tunnels included or not, and leave; again, with a smaller time-out, hastens it."""
        if self.state is not State.EXITED:
            self.state = State.LEAVING
            self.stream.send(sync.Drain(timeout_s, tunnels))

    def kill(self) -> None:
        """End it without its consent. Its exit is still to be waited for."""
        if self.state is not State.EXITED:
            self._process.kill()

    def abort(self) -> None:
        """End it when it hangs: where it does is to be seen on its stderr, if it can still tell."""
        self.signal(signal.SIGQUIT)
        self._loop.call_later(_LAST_WORDS_S, self.kill)

    def signal(self, number: int) -> None:
        if self.state is not State.EXITED:
            self._process.send_signal(number)

    async def reach(self, state: State, timeout_s: float) -> None:
        """Wait for READY or SERVING. Raises `WorkerError` if it exits first or takes longer."""
        reached = self._reached[state]
        await asyncio.wait([reached, self.exited], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not reached.done():
            if self.exited.done():
                raise WorkerError(f"{describe_exit(self.exited.result())} before it was {state.value}")
            raise WorkerError(f"not {state.value} within {timeout_s:g} s")

    def _on_frame(self, frame: sync.ToControl) -> None:
        self.frames_heard += 1
        if isinstance(frame, sync.Stats):
            self.reported = frame.answers
            self._audience.stats(self, frame)
        elif isinstance(frame, sync.Apps):
            self._audience.apps(frame)
        elif isinstance(frame, sync.Failed):
            self._audience.failed(frame)
        elif isinstance(frame, sync.Marked):
            self._audience.marked(self, frame)
        elif isinstance(frame, sync.Ready):
            self._advance(State.STARTING, State.READY)
        elif isinstance(frame, sync.Serving):
            self._serving_since = self._loop.time()
            self._advance(State.READY, State.SERVING)
        elif isinstance(frame, sync.Resync) and self._feed is not None:
            self._feed.resync()

    def _advance(self, old: State, new: State) -> None:
        # A worker that leaves may still answer what it was asked before.
        if self.state is old:
            self.state = new
        if not self._reached[new].done():
            self._reached[new].set_result(None)

    def _on_lost(self, error: Exception | None) -> None:
        """The stream is over. A worker that control cannot talk to must not serve an ageing table."""
        self._stream_is_over = True
        if self._feed is not None:
            self._feed.stop()
        if self.state is State.STARTING and error is None:
            # It serves nobody yet, and its own exit status says more about what was wrong than our signal would.
            self._loop.call_later(_LAST_STEPS_S, self.kill)
        elif self.state is not State.LEAVING:
            self.kill()
        self._finish()

    def _on_exit(self) -> None:
        self._status = self._process.poll()
        if self._status is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._finish()

    def _finish(self) -> None:
        if self._status is not None and self._stream_is_over:
            self.state = State.EXITED
            self._ended_at = self._loop.time()
            self.exited.set_result(self._status)


async def start_worker(command: Sequence[str], setup: sync.Setup, audience: Audience) -> WorkerProcess:
    """Start a process for a slot and send it its setup; the sockets named there are inherited.

    Raises `WorkerError` if the system does not give us another process.
    """
    inherited = [listener.fd for listener in setup.listeners]
    if setup.board_fd >= 0:
        inherited.append(setup.board_fd)
    process, connection = _spawn(command, inherited)
    worker = WorkerProcess(setup.slot, setup.generation, process, audience)
    try:
        await asyncio.get_running_loop().create_unix_connection(lambda: worker.stream, sock=connection)
    except BaseException:
        worker.kill()
        raise
    worker.stream.send(setup)
    return worker


def _spawn(command: Sequence[str], inherited: list[int]) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """Start the process; return it and our end of its stream."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        try:
            process = subprocess.Popen(
                [*command, "--sync-fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno(), *inherited],
                stdin=subprocess.DEVNULL,
                env=_environment(),
                # A group of its own: Ctrl-C in a terminal reaches control, which then tells the workers.
                process_group=0,
            )
        except OSError as error:
            ours.close()
            raise WorkerError(f"cannot start a process: {error.strerror or error}") from error
    return process, ours


def _environment() -> dict[str, str]:
    """Return this process's environment, with this very package first on the path of imports."""
    package = str(Path(router.__file__).resolve().parent.parent)
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([package, others] if others else [package])}


def describe_exit(status: int) -> str:
    """Say how a process ended, from its status as `subprocess` gives it."""
    return f"killed by signal {-status}" if status < 0 else f"exited with status {status}"
