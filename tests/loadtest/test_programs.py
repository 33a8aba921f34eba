import asyncio
from pathlib import Path

import pytest

from loadtest import procfs, programs
from loadtest.errors import ProgramError
from loadtest.programs import Cores, Program, free_ports


def test_tested_program_has_a_core_of_its_own() -> None:
    cores = Cores([3, 0, 1])
    assert (cores.tested, cores.load, cores.all) == ([0], [1, 3], [0, 1, 3])


def test_one_core_is_shared() -> None:
    cores = Cores([2])
    assert (cores.tested, cores.load, cores.all) == ([2], [2], [2])


def test_free_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20


def program(command: list[str], folder: Path) -> Program:
    return Program("program", command, cores=Cores.of_this_process().all, log_folder=folder)


async def test_program_that_stops_by_itself_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    last_words = r"program stopped with status 7(.|\n)*cannot go on"
    running = program(["sh", "-c", "echo cannot go on; exit 7"], tmp_path)
    with running, pytest.raises(ProgramError, match=last_words):
        await running.wait_until_accepting(*free_ports(1))


async def test_program_that_never_listens_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "START_TIMEOUT_S", 0.1)
    (port,) = free_ports(1)
    running = program(["sleep", "60"], tmp_path)
    with running, pytest.raises(ProgramError, match=f"nothing listens on port {port}"):
        await running.wait_until_accepting(port)


async def test_children_do_not_outlive_the_program(tmp_path: Path) -> None:
    with program(["sh", "-c", "sleep 61 & echo started; wait"], tmp_path) as running:
        await running.wait_until_logged("started")
        (child,) = procfs.descendants(running.pid)
    while procfs.command_line(child):  # noqa: ASYNC110 (its end is the kernel's to tell)
        await asyncio.sleep(0.01)
