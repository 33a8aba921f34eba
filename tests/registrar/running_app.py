"""One of the `apps` as a process, beside a NATS server and a whole router."""

import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]


class RunningApp:
    """Use as a context manager: the process is ended by SIGTERM, unless the test has ended it."""

    def __init__(self, kind: str, nats_port: int, uri: str, *, drain_s: float | None = None) -> None:
        self.port = free_port()
        self._arguments = [kind, f"nats://127.0.0.1:{nats_port}", str(self.port), uri]
        self._arguments.append("" if drain_s is None else str(drain_s))

    def __enter__(self) -> "RunningApp":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.registrar.apps", *self._arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()

    def stop(self) -> tuple[str, str]:
        """End it as an operator would, and return what it wrote to stdout and stderr."""
        self.process.terminate()
        try:
            return self.process.communicate(timeout=30)
        finally:
            self.process.kill()
