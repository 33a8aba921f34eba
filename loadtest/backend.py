"""The instance behind the proxies: as fast as can be for the comparison, obedient for the transfers.

``python -m loadtest.backend PORT`` runs it as a process of its own. It speaks just enough HTTP/1.1 for requests
that a proxy has already made regular: it is not a server to copy.

========================  ===================================================================================
``GET /bytes/N``          N bytes, as fast as they are taken
``GET /tunnel``           switches protocols and sends everything back
``POST /sink/RATE``       reads the body at no more than RATE bytes/s (0: as fast as it comes), answers its length
anything else             a small fixed text
========================  ===================================================================================
"""

import asyncio
import sys
from typing import cast

import uvloop

from loadtest.probe import content_length

HELLO = b"Hello from the load test's backend.\n"
_HELLO_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (
    len(HELLO),
    HELLO,
)
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
_BLOCK = bytes(256 * 1024)


class Instance(asyncio.Protocol):
    """One connection. A request is answered when its head is complete, except that a sink reads the body first."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport
        self._writable = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._echoing = False
        self._sink_left = 0
        self._sink_bytes = 0
        self._sink_rate = 0
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._echoing:
            self._transport.write(data)
            return
        if self._sink_left:
            self._sink(len(data))
            return
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path.startswith(b"/bytes/"):
            self._sending = self._loop.create_task(self._send(int(path[7:])))
        elif path == b"/tunnel":
            self._echoing = True
            self._transport.write(_SWITCH)
        elif path.startswith(b"/sink/"):
            self._start_sink(int(path[6:]), content_length(head))
        else:
            self._transport.write(_HELLO_RESPONSE)

    async def _send(self, count: int) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count)
        while count and not self._transport.is_closing():
            await self._writable.wait()
            block = _BLOCK[:count]
            self._transport.write(block)
            count -= len(block)

    def _start_sink(self, rate: int, length: int) -> None:
        early = len(self._buffer)
        self._buffer.clear()
        self._sink_bytes = self._sink_left = length
        self._sink_rate = rate
        self._sink(early)

    def _sink(self, count: int) -> None:
        self._sink_left -= count
        if not self._sink_left:
            text = b"%d\n" % self._sink_bytes
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        elif self._sink_rate:
            self._transport.pause_reading()
            self._loop.call_later(count / self._sink_rate, self._resume)

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


async def serve(port: int) -> None:
    """Serve on the loopback until cancelled."""
    server = await asyncio.get_running_loop().create_server(Instance, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
