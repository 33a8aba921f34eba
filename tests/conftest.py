"""Fixtures that tests of several parts share; what they are made of is in `tests.support`."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.nats import NatsServer
from tests.support.recorder import MakeBackend, RecordingBackend, Script, plain

# The same examples in every run: what a search finds anew belongs into a test of its own, not into somebody's CI.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")


def pytest_configure() -> None:
    # Shells let what they put into the background ignore these, and all processes started here would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _signals_reach_whoever_is_started_next() -> Iterator[None]:
    """Processes inherit which signals are held back, so a test must not leave any so."""
    yield
    held_back = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    assert not held_back, f"the test left {held_back} blocked"


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A running nats-server without credentials or TLS."""
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def make_backend() -> Iterator[MakeBackend]:
    """Start backends by script; they end with the test."""
    started: list[RecordingBackend] = []

    def make(script: Script = plain, **options: Any) -> RecordingBackend:
        started.append(RecordingBackend(script, **options))
        return started[-1]

    yield make
    for each in started:
        each.close()
