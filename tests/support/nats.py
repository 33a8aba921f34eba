"""A real nats-server for tests, with or without a user and TLS."""

import os
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from nats.aio.client import Client

from router.certs import Authority, issue
from tests.support.broker import EXECUTABLE
from tests.support.ports import free_port
from tests.support.processes import freeze
from tests.support.waiting import PATIENCE_S, wait_until

Connect = Callable[[], Awaitable[Client]]
"""Makes a client of a server."""


class NatsServer:
    """Owns one nats-server process on a port that stays the same through `kill`, `stop` and `start`.

    Args:
        directory: for its certificates; each server needs its own.
        user: user name and password that it demands.
        tls: the CA to issue its certificate and to verify clients by; without it, no TLS.
        names: what its certificate carries.
        arguments: further ones of its command line.
        environment: what its configuration file refers to, beside this process's own environment.
    """

    def __init__(
        self,
        directory: Path,
        *,
        user: tuple[str, str] | None = None,
        tls: Authority | None = None,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.user = user
        """May be changed between a `kill` and a `start`."""
        self._process: subprocess.Popen[bytes] | None = None
        self._arguments = list(arguments)
        self._environment = {**os.environ, **(environment or {})}
        self._tls = [] if tls is None else _tls_options(directory, tls, names)

    def start(self) -> None:
        """Start, unless it runs, and wait until it greets."""
        if self._process is not None:
            return
        user = [] if self.user is None else ["--user", self.user[0], "--pass", self.user[1]]
        self._process = subprocess.Popen(
            [
                str(EXECUTABLE),
                "--addr",
                "127.0.0.1",
                "--port",
                str(self.port),
                *user,
                *self._tls,
                *self._arguments,
            ],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._greets, f"nats-server on port {self.port}")

    def kill(self) -> None:
        """End it as a crash would. Does nothing if it is not running."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator would."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Keep it from running, its connections staying open."""
        assert self._process is not None
        freeze(self._process.pid)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(PATIENCE_S)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False


def _tls_options(directory: Path, authority: Authority, names: tuple[str, ...]) -> list[str]:
    pair = issue(authority, list(names))
    texts = {"nats-ca.pem": authority.pair.certificate, "nats.pem": pair.certificate, "nats.key": pair.private_key}
    for name, text in texts.items():
        (directory / name).write_text(text)
    ca, certificate, key = (str(directory / name) for name in texts)
    return ["--tls", "--tlsverify", "--tlscert", certificate, "--tlskey", key, "--tlscacert", ca]


async def settle(client: Client) -> None:
    """Return when the server has taken all that the client was told to send, subscriptions included.

    Once is not enough: the client writes a flush's PING before what it still holds back.
    """
    await client.flush()
    await client.flush()
