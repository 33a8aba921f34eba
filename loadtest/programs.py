"""Starting and stopping the programs of a load test: proxies, backends, the NATS server.

Owns each child's life: it is pinned to its cores, logs to a file, is waited for until it accepts, and dies with
this process whatever happens to it.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from loadtest.errors import GeneratorError, ProgramError

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
_PORTS = range(61_000, 65_536)
"""Not those that Linux gives to outgoing connections, any of which might take one before it is used."""
_POLL_S = 0.02


def find_program(name: str) -> str | None:
    """Return the path of an installed program, also from where Debian keeps those of the administrator."""
    beside_python = Path(sys.executable).parent / name
    if beside_python.exists():
        return str(beside_python)
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    """Return free TCP ports of the loopback, all different.

    Raises:
        ProgramError: there are not so many.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.sample(_PORTS, len(_PORTS)):
            if len(found) == count:
                break
            one = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
    if len(found) < count:
        raise ProgramError(f"of {count} ports that are needed only {len(found)} are free")
    return found


class Cores:
    """Which CPU cores run what, so that figures of different rounds compare.

    The program under test gets one core of its own; the load generator and the backend share the others.
    """

    def __init__(self, available: Sequence[int]) -> None:
        first, *others = sorted(available)
        self.tested = [first]
        self.load = others or [first]

    @classmethod
    def of_this_process(cls) -> Self:
        return cls(list(os.sched_getaffinity(0)))

    @property
    def all(self) -> list[int]:
        return sorted({*self.tested, *self.load})


def pinned(command: Sequence[str], cores: Sequence[int]) -> list[str]:
    """Return the command so wrapped that it runs on these cores and ends when this process dies."""
    core_list = ",".join(map(str, cores))
    return ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", core_list, *command]


async def output_of(name: str, command: Sequence[str]) -> str:
    """Run a load generator to its end; return what it printed. Raises `GeneratorError` if it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    text = output.decode(errors="replace")
    if process.returncode != 0:
        raise GeneratorError(f"{name} failed with status {process.returncode}: {text.strip()}")
    return text


class Program:
    """A running child process; use as a context manager, which stops it.

    Args:
        name: for messages; also the name of the log file.
        command: the program must stay in the foreground and keep its process id.
        cores: where it and its children run.
        log_folder: stdout and stderr go to ``NAME.log`` there.
    """

    def __init__(self, name: str, command: Sequence[str], *, cores: Sequence[int], log_folder: Path) -> None:
        self.name = name
        self.log_path = log_folder / f"{name}.log"
        self._command = pinned(command, cores)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "used before it was started"
        return self._process.pid

    def __enter__(self) -> Self:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        # What did not leave by itself, children included, goes with the session it was started in.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def check(self) -> None:
        """Raise `ProgramError` if it has stopped by itself."""
        assert self._process is not None
        if (status := self._process.poll()) is not None:
            raise ProgramError(f"{self.name} stopped with status {status}\n{self._log_end()}")

    async def wait_until_accepting(self, *ports: int) -> Self:
        """Return once each loopback port takes connections."""
        for port in ports:
            async for _ in self.polls(f"nothing listens on port {port}"):
                if await _accepts(port):
                    break
        return self

    async def wait_until_logged(self, text: str) -> Self:
        """Return once the text is in the log."""
        async for _ in self.polls(f"its log does not say {text!r}"):
            if text in self.log_path.read_text(errors="replace"):
                break
        return self

    async def polls(self, complaint: str) -> AsyncIterator[None]:
        """Yield at short intervals while the program lives; raise with the complaint when time is up."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            self.check()
            yield
            await asyncio.sleep(_POLL_S)
        raise ProgramError(f"{self.name}: {complaint} after {START_TIMEOUT_S:.0f} s\n{self._log_end()}")

    def _log_end(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join([f"last lines of {self.log_path}:", *lines[-15:]])


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
