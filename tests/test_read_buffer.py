"""Pausing a connection, and what a peer sent before its reset."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from router.read_buffer import PeerConnection, unread


class Lost(asyncio.Protocol):
    def __init__(self) -> None:
        self.rest: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.rest.set_result(unread(self.transport))


async def test_answer_in_front_of_a_reset_is_found() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Lost, *listener.getsockname())
    peer, _ = listener.accept()
    transport.pause_reading()
    transport.write(b"x")
    peer.recv(1)
    peer.sendall(b"answer")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    while not protocol.rest.done():
        transport.write(b"x")
        await asyncio.sleep(0)
    assert await protocol.rest == b"answer"
    listener.close()


async def test_transport_without_a_socket_has_nothing() -> None:
    assert unread(asyncio.Transport()) == b""


class Heard(PeerConnection):
    """Writes down what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.received = b""
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.received.endswith(b"."):
            self.ended.set()


@pytest.fixture
async def heard() -> AsyncIterator[tuple[Heard, socket.socket]]:
    """A connection, and the socket of its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport, protocol = await asyncio.get_running_loop().create_connection(Heard, *listener.getsockname())
        peer, _ = listener.accept()
        with peer:
            yield protocol, peer
    transport.abort()


async def test_what_comes_during_a_pause_is_read_after_it(heard: tuple[Heard, socket.socket]) -> None:
    connection, peer = heard
    connection.pause_reading()
    connection.pause_reading()
    peer.sendall(b"all of it.")
    for _ in range(5):
        await asyncio.sleep(0)
    assert connection.received == b""
    connection.resume_reading()
    await asyncio.wait_for(connection.ended.wait(), 10)
    assert connection.received == b"all of it."


async def test_after_its_own_end_a_connection_still_reads(heard: tuple[Heard, socket.socket]) -> None:
    connection, peer = heard
    connection.send_eof()
    assert peer.recv(1) == b""
    peer.sendall(b"late.")
    await asyncio.wait_for(connection.ended.wait(), 10)
    assert connection.received == b"late."


async def test_closed_connection_is_neither_paused_nor_ended_again(heard: tuple[Heard, socket.socket]) -> None:
    connection, _ = heard
    assert connection.fileno() >= 0
    connection._transport.abort()
    connection.pause_reading()
    connection.resume_reading()
    connection.send_eof()
    assert not connection._paused
