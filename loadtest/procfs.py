"""Facts about running processes from ``/proc``: CPU time, memory, children, owners of sockets.

Parsers take text and are pure; the functions below them read the files. Linux only.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Stat(NamedTuple):
    """The fields of ``/proc/PID/stat`` that matter here."""

    parent: int
    cpu_ticks: int
    """User and system time of all threads, the dead ones included, in clock ticks."""


def parse_stat(text: str) -> Stat:
    """Parse ``/proc/PID/stat``; the command name may hold spaces and parentheses, so fields count from its end."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(parent=int(fields[1]), cpu_ticks=int(fields[11]) + int(fields[12]))


def parse_rss_bytes(status: str) -> int:
    """Return VmRSS of ``/proc/PID/status`` in bytes, 0 if the process has no memory left (a zombie)."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def parse_tcp_inodes(table: str) -> dict[tuple[int, int], int]:
    """Map (local port, remote port) to the socket's inode, from ``/proc/net/tcp``.

    Ports alone are enough on loopback. Sockets not yet accepted have inode 0 and are left out.
    """
    inodes = {}
    for line in table.splitlines()[1:]:
        fields = line.split()
        inode = int(fields[9])
        if inode:
            inodes[_port(fields[1]), _port(fields[2])] = inode
    return inodes


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def cpu_s(pids: Iterable[int]) -> float:
    """Return CPU seconds used so far by these processes together; one that is gone raises `FileNotFoundError`."""
    return sum(parse_stat((PROC / str(pid) / "stat").read_text()).cpu_ticks for pid in pids) / _TICKS_PER_S


def rss_bytes(pid: int) -> int:
    return parse_rss_bytes((PROC / str(pid) / "status").read_text())


def command_line(pid: int) -> list[str]:
    """Return the arguments of a process, none if it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def descendants(root: int) -> list[int]:
    """Return the processes below ``root``, in no particular order, without ``root`` itself."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = parse_stat((entry / "stat").read_text()).parent
            except (OSError, ValueError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    generation = [root]
    while generation:
        generation = [child for pid in generation for child in children.get(pid, [])]
        found += generation
    return found


def owner_of_connection(server_port: int, client_port: int, candidates: Iterable[int]) -> int | None:
    """Return which of the processes accepted the loopback connection, None while none has."""
    inode = parse_tcp_inodes((PROC / "net/tcp").read_text()).get((server_port, client_port))
    if inode is None:
        return None
    return next((pid for pid in candidates if _holds_socket(pid, inode)), None)


def _holds_socket(pid: int, inode: int) -> bool:
    wanted = f"socket:[{inode}]"
    try:
        descriptors = list((PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False
    return any(_link(descriptor) == wanted for descriptor in descriptors)


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
