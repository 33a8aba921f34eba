"""Signals at the edges of a process's life; what they do in between: `test_process`."""

import subprocess
import sys

import pytest

LATE = """
import os, signal, sys, uvloop
from router.control.signals import Signals

ANSWERED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

async def main():
    with Signals({number: lambda: None for number in ANSWERED}, before_quit=lambda: None):
        pass

uvloop.run(main())
os.kill(os.getpid(), signal.Signals[sys.argv[1]])
sys.exit(7)
"""


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGTERM", "SIGINT", "SIGHUP"])
def test_signal_that_comes_when_all_is_over_changes_no_exit_status(name: str) -> None:
    assert subprocess.run([sys.executable, "-c", LATE, name], timeout=60, check=False).returncode == 7
