"""One process that `router dev` started: its life from start to the end that is told to others.

One law: it never outlives us. It is stopped by us, or, when we are killed, by the kernel (`tether`).
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_TETHER = Path(__file__).with_name("tether.py")


class Child:
    """A running process. Make one with `start`.

    Its session is its own, so that Ctrl-C on the terminal reaches us alone and we stop things in order.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(cls, name: str, command: Sequence[str], log: Path) -> "Child":
        """Start a program; what it prints goes to the end of ``log``. Raises `OSError` if it cannot be started."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def succeeded(self) -> bool:
        """Whether it has ended with status 0."""
        return self._process.returncode == 0

    async def ended(self) -> str:
        """Wait for the end, and return it in words: ``exited with status 1``, ``was ended by SIGKILL``."""
        status = await self._process.wait()
        if status >= 0:
            return f"exited with status {status}"
        return f"was ended by {signal.Signals(-status).name}"

    def kill(self) -> None:
        """End it now, without a chance to clean up."""
        if self.running:
            self._process.kill()

    async def stop(self, timeout_s: float) -> None:
        """Ask it to end, wait, and kill it if it takes longer than ``timeout_s``."""
        if not self.running:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def last_words(self, lines: int = 12) -> str:
        """Return the end of its log."""
        try:
            return b"\n".join(self.log.read_bytes().splitlines()[-lines:]).decode(errors="replace")
        except OSError:
            return ""
