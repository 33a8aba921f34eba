"""One process of `router dev`, real ones throughout."""

import asyncio
import os
from pathlib import Path

import pytest

from router.dev.child import Child
from tests.support.processes import is_alive

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


async def start(tmp_path: Path, script: str) -> Child:
    return await Child.start("tested", ["sh", "-c", script], tmp_path / "log")


async def until_printed(child: Child, text: str) -> None:
    async with asyncio.timeout(60):
        while text not in child.last_words():  # noqa: ASYNC110 - another process cannot set an event
            await asyncio.sleep(0.01)


async def test_exit_status_is_told_in_words(tmp_path: Path) -> None:
    child = await start(tmp_path, "exit 3")
    assert await child.ended() == "exited with status 3"
    assert not child.running


async def test_signal_is_told_by_name(tmp_path: Path) -> None:
    child = await start(tmp_path, "kill -KILL $$")
    assert await child.ended() == "was ended by SIGKILL"


async def test_output_goes_to_the_log_and_its_end_can_be_read(tmp_path: Path) -> None:
    child = await start(tmp_path, "for i in 1 2 3 4; do echo line $i; echo error $i >&2; done")
    await child.ended()
    assert child.last_words(3) == "error 3\nline 4\nerror 4"


async def test_stopping_ends_it_politely(tmp_path: Path) -> None:
    child = await start(tmp_path, "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    await until_printed(child, "ready")
    await child.stop(60)
    assert child.last_words(1) == "bye"


async def test_what_does_not_stop_is_killed(tmp_path: Path) -> None:
    child = await start(tmp_path, STUBBORN)
    await until_printed(child, "ready")
    await child.stop(0.05)
    assert await child.ended() == "was ended by SIGKILL"
    assert not is_alive(child.pid)


async def test_stopping_what_has_ended_does_nothing(tmp_path: Path) -> None:
    child = await start(tmp_path, "exit 0")
    await child.ended()
    await child.stop(1)
    child.kill()
    assert await child.ended() == "exited with status 0"


async def test_session_is_its_own_so_that_a_terminal_does_not_reach_it(tmp_path: Path) -> None:
    child = await start(tmp_path, STUBBORN)
    await until_printed(child, "ready")
    session = os.getsid(child.pid)
    child.kill()
    await child.ended()
    assert session == child.pid != os.getsid(0)


async def test_log_that_is_gone_has_no_last_words(tmp_path: Path) -> None:
    child = await start(tmp_path, "exit 0")
    await child.ended()
    child.log.unlink()
    assert child.last_words() == ""


async def test_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="log"):
        await Child.start("tested", ["true"], tmp_path / "missing" / "log")
