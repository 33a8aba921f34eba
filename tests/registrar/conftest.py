"""A whole router beside the NATS server of a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nats import NatsServer
from tests.support.router import RunningRouter


@pytest.fixture
def router(tmp_path: Path, nats_server: NatsServer) -> Iterator[RunningRouter]:
    with RunningRouter(tmp_path / "router", nats_server.port) as running:
        yield running
