"""The control socket, with real connections to it."""

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from router.docker.switch import SwitchError, ask, listening


def act(word: str) -> dict[str, Any]:
    return {"did": word}


async def test_word_is_done_and_answered(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with listening(path, act):
        assert await asyncio.to_thread(ask, path, "disable") == {"did": "disable"}


async def test_unknown_word_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with listening(path, act):
        with pytest.raises(SwitchError, match="enable, disable, status"):
            await asyncio.to_thread(ask, path, "explode")


async def test_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with listening(str(path), act):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_connection_that_says_nothing_holds_nobody_up(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with listening(path, act):
        with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as long:
            silent.connect(path)
            long.connect(path)
            long.sendall(b"x" * 100_000)
            assert await asyncio.to_thread(ask, path, "status") == {"did": "status"}


async def test_socket_of_a_watcher_that_died_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    async with listening(path, act):
        assert await asyncio.to_thread(ask, path, "status") == {"did": "status"}


async def test_socket_of_a_watcher_that_lives_is_left_to_it(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with listening(path, act):
        with pytest.raises(SwitchError, match="another"):
            async with listening(path, act):
                pass
        assert await asyncio.to_thread(ask, path, "status") == {"did": "status"}


@pytest.mark.parametrize(("name", "told"), [("x" * 120, "107 bytes"), ("file/s", "Not a directory|File exists")])
async def test_socket_that_cannot_be_made_is_told(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SwitchError, match=told):
        async with listening(str(tmp_path / name), act):
            pass


def test_nobody_behind_the_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(SwitchError, match="no `router docker` answers"):
        ask(str(tmp_path / "s"), "status")
