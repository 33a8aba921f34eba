"""The processes that scenarios run against, all of them real."""

import os
from pathlib import Path

import pytest

from loadtest import rig
from loadtest.probe import Probe


async def test_rig_answers_for_its_host_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with rig.started(tmp_path, host="rig.example.com") as running:
        probe = await Probe.open(running.router.ports.http)
        assert await probe.status("rig.example.com") == 200
        probe.close()
        processes = [running.router.control, *running.router.workers]
        assert len(processes) == 2
    for pid in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_rig_without_a_host_has_no_routes(tmp_path: Path) -> None:
    async with rig.started(tmp_path) as running:
        probe = await Probe.open(running.router.ports.http)
        assert await probe.status("rig.example.com") == 404
        probe.close()
