"""Fixtures that tests of several parts share; what they are made of is in `tests.support`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nats import NatsServer


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A running nats-server without credentials or TLS."""
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()
