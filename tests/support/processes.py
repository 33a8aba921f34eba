"""Looking at processes through /proc, as an operator would."""

import contextlib
import os
import signal
from pathlib import Path

from tests.support.waiting import wait_until

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def children(pid: int) -> list[int]:
    """Return the live direct children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(each) for each in task.read_text().split()]
    return [each for each in found if is_alive(each)]


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """True unless the process is gone or a zombie."""
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def freeze(pid: int) -> None:
    """Stop a process, and return when it stands still: its threads stop one by one, some may still be at work."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: stands_still(pid), f"process {pid} stands still")


def stands_still(pid: int) -> bool:
    """Whether every thread of a process is stopped."""
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def in_session(session: int) -> list[int]:
    """Return the live processes of a session, its leader included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _stat(int(entry.name))
            if len(stat) > 3 and stat[0] not in "ZX" and int(stat[3]) == session:
                found.append(int(entry.name))
    return found


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def open_sockets(pid: int) -> int:
    """Count the socket descriptors of a process."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(entry.readlink()).startswith("socket:")
    return count


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has used, user and system."""
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
