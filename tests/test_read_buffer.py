"""What a peer sent before its reset is there to be read when the loss of the connection is told."""

import asyncio
import socket
import struct

from router.read_buffer import unread


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
