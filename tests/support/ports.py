"""Port numbers for the servers of a test: free, and not given to any other test process.

Below the kernel's ephemeral range, so that no outgoing connection can take one between choice and use.
"""

import random
import socket

FIRST, LAST = 10_000, 31_999

_locks: list[socket.socket] = []
"""Abstract sockets held until this process ends: each is the claim on one port number."""


def free_port() -> int:
    """Return a port, free for TCP and UDP, that no other caller, in any process, is given."""
    for port in random.sample(range(FIRST, LAST), 2000):
        if _claim(port) and _is_free(port):
            return port
    raise RuntimeError("no free port")


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


def _claim(port: int) -> bool:
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(f"\0router-tests-port-{port}")
    except OSError:
        lock.close()
        return False
    _locks.append(lock)
    return True


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True
