"""When a lack of descriptors is told. What it does to clients: `tests/e2e/test_descriptors.py`."""

import json
import os
import resource

from router.descriptors import CALM_LOOKS, DescriptorWatch, is_exhausted
from router.log import DEBUG, Logger


class Watched:
    """A watch over descriptors that are there or not, as the test says."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.exhausted = False
        self._logger = Logger(level=DEBUG, sink=self.lines.append)
        self._watch = DescriptorWatch(lambda: self.exhausted)

    def look(self, exhausted: bool, times: int = 1) -> None:
        self.exhausted = exhausted
        for _ in range(times):
            self._watch.look(self._logger, {"client_connections": 7})

    def said(self) -> list[str]:
        return [json.loads(line)["message"] for line in self.lines]


def test_lack_is_told_at_its_beginning_and_its_end() -> None:
    watched = Watched()
    watched.look(False, 5)
    watched.look(True, 100)
    assert watched.said() == ["descriptors-exhausted"]
    watched.look(False, CALM_LOOKS + 5)
    assert watched.said() == ["descriptors-exhausted", "descriptors-available"]
    data = json.loads(watched.lines[0])["data"]
    assert data == {"limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "client_connections": 7}


def test_lack_that_comes_and_goes_is_told_once() -> None:
    watched = Watched()
    for _ in range(50):
        watched.look(True)
        watched.look(False, CALM_LOOKS - 1)
    assert watched.said() == ["descriptors-exhausted"]


def test_process_notices_that_it_has_none_left() -> None:
    assert not is_exhausted()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        assert is_exhausted()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
