"""Finding and reaching the real nats-server."""

import asyncio
import importlib.metadata
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from router.dev.broker import find_nats_server, greets, nats_command
from tests.support.nats import NatsServer
from tests.support.ports import free_port


def test_package_s_own_server_is_found() -> None:
    found = find_nats_server()
    assert found is not None
    assert found.name == "nats-server"


def test_server_on_the_path_is_found_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_package(monkeypatch)
    program = tmp_path / "nats-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_nats_server() == program


def test_none_is_found_without_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_package(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("nats-server") is None
    assert find_nats_server() is None


def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)


def test_command_keeps_its_data_in_the_store(tmp_path: Path) -> None:
    command = nats_command(Path("/x/nats-server"), "127.0.0.1", 4222, tmp_path)
    assert command[0] == "/x/nats-server"
    assert command[command.index("--store_dir") + 1] == str(tmp_path)


async def test_nats_server_greets(nats_server: NatsServer) -> None:
    assert await greets("127.0.0.1", nats_server.port)


async def test_closed_port_does_not_greet() -> None:
    assert not await greets("127.0.0.1", free_port())


async def test_server_of_another_kind_does_not_greet() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n")
        await writer.drain()
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with await asyncio.start_server(answer, sock=listener):
            assert not await greets("127.0.0.1", port)
