"""Being told to stop by a signal."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from router.registrar.stopping import SIGNALS, stop_on_signals, unless_stopped
from tests.support.waiting import wait_until

TWICE = """
import asyncio, os, signal
from router.registrar.stopping import stop_on_signals
async def main():
    stop_on_signals()
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.parametrize("number", SIGNALS)
async def test_signal_sets_the_event(number: signal.Signals) -> None:
    stop = stop_on_signals()
    try:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(60):
            await stop.wait()
    finally:
        for each in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)


def test_second_signal_ends_a_process_that_hangs() -> None:
    assert subprocess.run([sys.executable, "-c", TWICE], timeout=60, check=False).returncode == 130


HUNG_UP = """
import asyncio, os, sys
if len(sys.argv) > 2:
    # The leader of a session gets the first terminal it opens as its own.
    os.open(sys.argv[2], os.O_RDWR)
from router.registrar.stopping import has_terminal, stop_on_signals
async def main():
    stop = stop_on_signals(lambda: print("reload", file=log, flush=True))
    print("terminal" if has_terminal() else "none", file=log, flush=True)
    await stop.wait()
    print("stop", file=log, flush=True)
log = open(sys.argv[1], "a")
asyncio.run(main())
"""


async def test_hangup_reloads_if_something_can_be() -> None:
    reloads = asyncio.Event()
    stop = stop_on_signals(reloads.set)
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(60):
            await reloads.wait()
        assert not stop.is_set()
    finally:
        for each in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)


def test_end_of_the_terminal_stops_and_a_hangup_before_reloads(tmp_path: Path) -> None:
    log = tmp_path / "log"
    terminal, inside = os.openpty()
    command = [sys.executable, "-c", HUNG_UP, str(log), os.ttyname(inside)]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            wait_until(lambda: log.exists() and log.read_text() == "terminal\n", "it runs")
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: log.read_text() == "terminal\nreload\n", "it was told to reload")
        finally:
            os.close(inside)
            os.close(terminal)
        process.wait(timeout=30)
    assert log.read_text() == "terminal\nreload\nstop\n"


def test_without_a_terminal_every_hangup_reloads(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", HUNG_UP, str(log)]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            wait_until(lambda: log.exists() and log.read_text() == "none\n", "it runs")
            for count in (1, 2):
                process.send_signal(signal.SIGHUP)
                wait_until(lambda: log.read_text().count("reload") == count, "it was told")  # noqa: B023
        finally:
            process.terminate()
    assert log.read_text() == "none\nreload\nreload\nstop\n"


async def test_what_comes_first_is_told() -> None:
    stop = asyncio.Event()
    assert await unless_stopped(asyncio.sleep(0), stop)
    stop.set()
    assert not await unless_stopped(asyncio.Event().wait(), stop)


async def test_what_the_coroutine_raises_is_raised() -> None:
    async def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await unless_stopped(fail(), asyncio.Event())
