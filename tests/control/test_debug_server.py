import asyncio
import os
import socket
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from router.control.debug_server import DebugServer, split_address
from router.log import INFO, Logger
from tests.support.eventually import eventually
from tests.support.ports import free_port


class Debugged:
    """A debug server, the level it changes and what it logs."""

    def __init__(self, address: str) -> None:
        self.level = "info"
        self.lines: list[Any] = []
        logger = Logger(level=INFO, sink=lambda line: self.lines.append(msgspec.json.decode(line)))
        self.server = DebugServer(
            address,
            logger,
            get_level=lambda: self.level,
            set_level=lambda level: setattr(self, "level", level),
            worker_pids=lambda: [11, 12],
        )

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines]

    async def ask(self, path: str, *, method: str = "GET", data: bytes | None = None) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.server.port}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, data=data) as response:
            return response.status, await response.text()


@pytest.fixture
async def debugged() -> AsyncIterator[Debugged]:
    made = Debugged(f"127.0.0.1:{free_port()}")
    await made.server.start()
    yield made
    await made.server.close()


async def test_level_is_shown(debugged: Debugged) -> None:
    assert await debugged.ask("/log-level") == (200, "info\n")


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize(
    ("text", "level"), [(b"debug", "debug"), (b" WARN\n", "warn"), (b"3", "error"), (b"f", "fatal")]
)
async def test_level_is_changed(debugged: Debugged, method: str, text: bytes, level: str) -> None:
    assert await debugged.ask("/log-level", method=method, data=text) == (200, f"{level}\n")
    assert debugged.level == level
    assert debugged.lines[-1]["data"] == {"level": level, "before": "info"}


@pytest.mark.parametrize("text", [b"", b"loud", b"\xff", b'{"level":"info"}'])
async def test_unknown_level_changes_nothing(debugged: Debugged, text: bytes) -> None:
    status, answer = await debugged.ask("/log-level", method="PUT", data=text)

    assert status == 400
    assert "one of debug, info" in answer
    assert debugged.level == "info"


async def test_long_body_is_refused(debugged: Debugged) -> None:
    status, _ = await debugged.ask("/log-level", method="PUT", data=b"x" * 100_000)

    assert status == 413


async def test_index_names_what_there_is(debugged: Debugged) -> None:
    for path in ("/", "/debug/pprof/"):
        status, text = await debugged.ask(path)
        assert status == 200
        assert "/debug/pprof/goroutine" in text
    assert (await debugged.ask("/unknown"))[0] == 404


async def test_workers_are_listed(debugged: Debugged) -> None:
    status, text = await debugged.ask("/debug/workers")

    assert (status, msgspec.json.decode(text)) == (200, {"control": os.getpid(), "workers": [11, 12]})


async def test_stacks_show_tasks_and_threads(debugged: Debugged) -> None:
    async def waiting_for_godot() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(waiting_for_godot(), name="didi")
    await asyncio.sleep(0)
    _, text = await debugged.ask("/debug/pprof/goroutine")
    task.cancel()

    assert "waiting_for_godot" in text
    assert "didi" in text
    assert "Thread MainThread:" in text


async def test_command_line_is_shown(debugged: Debugged) -> None:
    assert "python" in (await debugged.ask("/debug/pprof/cmdline"))[1]


async def test_memory_is_traced_only_while_somebody_asks(debugged: Debugged) -> None:
    asking = asyncio.create_task(debugged.ask("/debug/pprof/heap?seconds=0.2"))
    await eventually(tracemalloc.is_tracing, "the tracing")
    kept = [bytes(1000) for _ in range(1000)]
    status, text = await asking

    assert status == 200
    assert "test_debug_server.py" in text
    assert not tracemalloc.is_tracing()
    assert kept


async def test_memory_is_traced_for_one_at_a_time(debugged: Debugged) -> None:
    asking = asyncio.create_task(debugged.ask("/debug/pprof/heap?seconds=60"))
    await eventually(tracemalloc.is_tracing, "the tracing")
    assert (await debugged.ask("/debug/pprof/heap?seconds=60"))[0] == 409
    await debugged.server.close()
    with pytest.raises(aiohttp.ClientError):
        await asking

    assert not tracemalloc.is_tracing()


@pytest.mark.parametrize("seconds", ["0", "-1", "61", "nan", "inf", "x"])
async def test_unusable_time_is_refused(debugged: Debugged, seconds: str) -> None:
    assert (await debugged.ask(f"/debug/pprof/heap?seconds={seconds}"))[0] == 400
    assert not tracemalloc.is_tracing()


async def test_without_address_there_is_no_server() -> None:
    debugged = Debugged("")
    await debugged.server.start()

    assert debugged.server.port == 0
    assert debugged.lines == []
    await debugged.server.close()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:70000", "127.0.0.1:x", "256.1.1.1:80"])
async def test_unusable_address_costs_a_log_line_only(address: str) -> None:
    debugged = Debugged(address)
    await debugged.server.start()

    assert debugged.messages() == ["debug-server-failed"]
    assert debugged.server.port == 0
    await debugged.server.close()


async def test_port_in_use_costs_a_log_line_only() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        debugged = Debugged(f"127.0.0.1:{taken.getsockname()[1]}")
        await debugged.server.start()

        assert debugged.messages() == ["debug-server-failed"]
        assert "in use" in debugged.lines[0]["data"]["error"]


async def test_closed_server_can_be_started_again(debugged: Debugged) -> None:
    await debugged.server.close()
    await debugged.server.close()
    await debugged.server.start()

    assert (await debugged.ask("/log-level"))[0] == 200


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:17002", ("127.0.0.1", 17002)),
        (":17002", ("", 17002)),
        ("[::1]:17002", ("::1", 17002)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_address_is_split_into_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
