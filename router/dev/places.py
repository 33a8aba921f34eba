"""Where `router dev` keeps things, and which ports are free for it.

In a checkout both the state and the certificates lie in the checkout, where git ignores them; otherwise in the
user's state directory.
"""

import fcntl
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import router

LOOPBACK = "127.0.0.1"


def checkout() -> Path | None:
    """Return the root of the checkout this code runs from, or None if it is installed elsewhere."""
    root = Path(router.__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / "certs" / "README.md").is_file() else None


def default_state_directory() -> Path:
    if (root := checkout()) is not None:
        return root / ".router-dev"
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "router-dev"


def default_certificate_directory(state: Path) -> Path:
    root = checkout()
    return root / "certs" if root is not None else state / "certs"


def lock(state: Path) -> IO[str] | None:
    """Claim the state directory for as long as the returned file is open. None: another process has it."""
    state.mkdir(parents=True, exist_ok=True)
    file = (state / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def is_free(port: int, address: str = LOOPBACK) -> bool:
    """Tell whether a server can be started on this port of a loopback address."""
    with socket.socket() as probe:
        # As servers do: connections of a server that has ended are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def can_bind(address: str, port: int = 0) -> bool:
    """Tell whether datagrams can be received at an address; with port 0, whether it is one of this machine's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def free_port(preferred: int, addresses: Sequence[str], taken: Sequence[int], *, udp: bool = False) -> int:
    """Return a port that is free on all of these addresses of this machine: the preferred one if possible.

    Args:
        udp: it must be free for datagrams as well.
    """
    port = preferred
    while port in taken or not all(_serves(port, address, udp) for address in addresses):
        with socket.create_server((addresses[0], 0)) as any_free:
            port = any_free.getsockname()[1]
    return port


def _serves(port: int, address: str, udp: bool) -> bool:
    return is_free(port, address) and (not udp or can_bind(address, port))


def free_ports(preferred: list[int], taken: set[int]) -> list[int]:
    """Return a free port for each preferred one: itself if possible, otherwise any other."""
    chosen: list[int] = []
    held: list[socket.socket] = []
    for port in preferred:
        while port in taken or port in chosen or not is_free(port):
            held.append(socket.create_server((LOOPBACK, 0)))
            port = held[-1].getsockname()[1]
            held[-1].close()
        chosen.append(port)
    return chosen
