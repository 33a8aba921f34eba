"""Whole routers: the command line, a real nats-server, several workers, signals."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.announce import Announcer, status_of
from tests.support.nats import NatsServer
from tests.support.recorder import Conversation
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until

StartRouter = Callable[..., RunningRouter]
FRESH_CONNECTIONS = 40
"""The kernel spreads new connections over the workers: this many meet each of two with all but certainty."""


@pytest.fixture
def announcer(nats_server: NatsServer) -> Iterator[Announcer]:
    with Announcer(nats_server.port) as connected:
        yield connected


@pytest.fixture
def start_router(tmp_path: Path, nats_server: NatsServer) -> Iterator[StartRouter]:
    """Start routers with two workers; they are stopped with the test, and nothing may be left of them."""
    started: list[RunningRouter] = []

    def start(config: Mapping[str, Any] | None = None, *, wait: bool = True) -> RunningRouter:
        directory = tmp_path / f"router-{len(started)}"
        router = RunningRouter(directory, nats_server.port, {"workers": 2, **(config or {})})
        started.append(router)
        router.start(wait=wait)
        return router

    yield start
    for router in started:
        router.stop()


class Slow:
    """A backend whose ``/slow`` is answered when the test says so."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def script(self, conversation: Conversation) -> None:
        while True:
            if conversation.read_request().target == "/slow":
                self.release.wait(110)
            conversation.answer()


def wait_everywhere(router: RunningRouter, host: str, status: int = 200) -> None:
    """Wait until every worker gives this status for the host."""

    def all_do() -> bool:
        return all(status_of(router.port, host) == status for _ in range(FRESH_CONNECTIONS))

    wait_until(all_do, f"every worker answers {status} for {host}", timeout_s=60)
