import asyncio
from collections.abc import Callable

import pytest

from loadtest.errors import RequestError
from loadtest.transfer import download, upload


async def answered(answer: bytes, transfer: Callable[[int, int, int], None]) -> None:
    """Run a transfer of a thousand bytes against a server that sends the answer and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.write_eof()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        await asyncio.to_thread(transfer, server.sockets[0].getsockname()[1], 1000, 0)


async def test_download_of_the_wrong_size_is_an_error() -> None:
    with pytest.raises(RequestError, match="asked for 1000 bytes"):
        await answered(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", download)


async def test_download_that_ends_early_is_an_error() -> None:
    with pytest.raises(RequestError, match="ended after 3 of 1000 bytes"):
        await answered(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc", download)


async def test_upload_that_is_refused_is_an_error() -> None:
    with pytest.raises(RequestError, match="502"):
        await answered(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", upload)


async def test_connection_that_ends_without_an_answer_is_an_error() -> None:
    with pytest.raises(RequestError, match="within the head"):
        await answered(b"HTTP/1.1 200", download)
