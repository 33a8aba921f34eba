"""Which connections count as reset, over real sockets. That the data plane asks: `tests/live/test_flow.py`."""

import socket
import struct
from collections.abc import Iterator

import pytest

from router.frontend.resets import reset_clients
from tests.support.waiting import wait_until


class Client:
    """What the router knows of a client: the socket that it accepted."""

    deadline = 0.0

    def __init__(self, accepted: socket.socket, unread: bool = True) -> None:
        self.accepted = accepted
        self.unread = unread

    def unread_descriptor(self) -> int:
        return self.accepted.fileno() if self.unread else -1

    def expire(self) -> None: ...

    def drain(self) -> None: ...

    def is_tunnel(self) -> bool:
        return False

    def abort(self) -> None: ...


@pytest.fixture
def pair() -> Iterator[tuple[Client, socket.socket]]:
    """A client as the router sees it, and the client's own end; bytes wait between them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        with far, accepted:
            far.sendall(b"unread")
            yield Client(accepted), far


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_reset_connection_is_told_of(pair: tuple[Client, socket.socket]) -> None:
    client, far = pair
    assert reset_clients([client]) == []
    reset(far)
    wait_until(lambda: reset_clients([client]) == [client], "the reset is noticed")


def test_client_that_is_read_from_is_not_asked_about(pair: tuple[Client, socket.socket]) -> None:
    client, far = pair
    reset(far)
    wait_until(lambda: reset_clients([client]) == [client], "the reset has come")
    client.unread = False
    assert reset_clients([client]) == []


def test_bytes_before_an_orderly_end_on_both_sides_may_still_be_read(pair: tuple[Client, socket.socket]) -> None:
    client, far = pair
    client.accepted.shutdown(socket.SHUT_WR)
    far.close()
    assert reset_clients([client]) == []
    assert client.accepted.recv(100) == b"unread"


def test_nobody_means_nobody() -> None:
    assert reset_clients([]) == []
