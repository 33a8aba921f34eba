import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from loadtest.backend import HELLO
from loadtest.probe import Probe
from loadtest.programs import Cores, Program, free_ports
from loadtest.transfer import download, upload


@pytest_asyncio.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    (free,) = free_ports(1)
    command = [sys.executable, "-m", "loadtest.backend", str(free)]
    with Program("backend", command, cores=Cores.of_this_process().all, log_folder=tmp_path) as backend:
        await backend.wait_until_accepting(free)
        yield free


async def test_backend_keeps_connections_alive(port: int) -> None:
    probe = await Probe.open(port)
    assert [await probe.status("a.example.com") for _ in range(3)] == [200, 200, 200]
    probe.close()


def test_hello_is_small() -> None:
    assert len(HELLO) < 100


async def test_download_has_the_size_asked_for(port: int) -> None:
    download(port, 1_000_001, 0)


async def test_slow_download_has_the_size_asked_for(port: int) -> None:
    download(port, 300_000, 30_000_000)


@pytest.mark.parametrize("rate", [0, 50_000_000])
async def test_upload_is_read_whole(port: int, rate: int) -> None:
    upload(port, 1_000_001, rate)
