"""The tether: what runs behind it ends with its parent, whatever ends the parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import router.dev.tether as tether
from tests.support.processes import is_alive
from tests.support.waiting import wait_until

TETHER = Path(tether.__file__)

PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", {str(TETHER)!r}, str(os.getpid()), "sleep", "600"])
print(child.pid, flush=True)
child.wait()
"""


def test_program_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    wait_until(lambda: b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes()[:8], "the program runs")
    parent.kill()
    parent.wait(10)
    wait_until(lambda: not is_alive(child), "the program has ended")


def test_program_is_not_started_when_the_parent_is_gone_already() -> None:
    command = [sys.executable, "-I", "-S", str(TETHER), str(2**22 + 1), "echo", "started"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (1, "")


def test_program_takes_the_place_of_the_tether() -> None:
    command = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), "sh", "-c", "echo $$; kill -TERM $$"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=60)
    assert int(output) == process.pid
    assert process.returncode == -signal.SIGTERM
