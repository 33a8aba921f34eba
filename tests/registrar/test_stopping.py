"""Being told to stop by a signal."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from router.registrar.stopping import SIGNALS, stop_on_signals, unless_stopped

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
        async with asyncio.timeout(10):
            await stop.wait()
    finally:
        for each in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)


def test_second_signal_ends_a_process_that_hangs() -> None:
    assert subprocess.run([sys.executable, "-c", TWICE], timeout=60, check=False).returncode == 130


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
