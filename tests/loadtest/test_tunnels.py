import asyncio
import sys
from pathlib import Path

import pytest

from loadtest import tunnels
from loadtest.programs import Cores, Program, free_ports


async def test_messages_come_back_through_a_tunnel(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "loadtest.backend", str(port)]
    with Program("backend", command, cores=Cores.of_this_process().all, log_folder=tmp_path) as backend:
        await backend.wait_until_accepting(port)
        (tunnel,) = await tunnels.open_tunnels(port, 1)
        counted = await tunnels.exchange_messages(tunnel, until=asyncio.get_running_loop().time() - 1.0)
        assert counted == 0
        reader, writer = tunnel
        writer.write(tunnels.MESSAGE)
        assert await reader.readexactly(len(tunnels.MESSAGE)) == tunnels.MESSAGE
        writer.close()


def test_no_more_tunnels_are_opened_than_files_may_be() -> None:
    assert 0 < tunnels.affordable() <= tunnels.IDLE


@pytest.mark.slow
async def test_scenario_measures_memory_and_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "IDLE", 200)
    monkeypatch.setattr(tunnels, "SECONDS", 0.2)
    figures = await tunnels.measure(tmp_path, lambda text: None)
    assert [figure.unit for figure in figures] == ["KB", "/s", "µs"]
    assert all(figure.value > 0 for figure in figures)
