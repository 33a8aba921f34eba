from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.plane import RunningPlane, config

StartPlane = Callable[..., RunningPlane]


@pytest.fixture
def start_plane() -> Iterator[StartPlane]:
    """Start data planes with keys of their own; they end with the test."""
    running: list[RunningPlane] = []

    def start(**keys: Any) -> RunningPlane:
        plane = RunningPlane(config(**keys))
        running.append(plane.__enter__())
        return plane

    yield start
    for plane in running:
        plane.__exit__(None, None, None)


@pytest.fixture
def plane(start_plane: StartPlane) -> RunningPlane:
    return start_plane(backends={"max_attempts": 3})
