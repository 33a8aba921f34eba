"""Where `router dev` keeps things, and which ports are free for it.

In a checkout both the state and the certificates lie in the checkout, where git ignores them; otherwise in the
user's state directory.
"""

import fcntl
import os
import socket
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


def is_free(port: int) -> bool:
    """Tell whether a server can be started on this port of the loopback address."""
    with socket.socket() as probe:
        # As servers do: connections of a server that has ended are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


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
