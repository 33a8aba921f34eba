"""Failures of real requests, and what is said of them."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest

from router.certs import issue, make_ca
from router.control.client_errors import describe
from tests.support.certificates import client_context, server_context
from tests.support.ports import free_port

AUTHORITY = make_ca()


async def failure(url: str, *, tls: ssl.SSLContext | bool = True, total_s: float = 20.0) -> Exception:
    """Ask, and return what comes of it."""
    timeout = aiohttp.ClientTimeout(total=total_s)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with pytest.raises((aiohttp.ClientError, TimeoutError)) as failed:
            await session.get(url, ssl=tls)
    return failed.value


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_refused_connection_is_said_in_the_systems_words(scheme: str) -> None:
    port = free_port()
    context = client_context(AUTHORITY)
    error = await failure(f"{scheme}://127.0.0.1:{port}/", tls=context)
    assert describe(error) == f"127.0.0.1:{port}: Connection refused"


async def test_name_that_cannot_be_resolved_is_named() -> None:
    text = describe(await failure("http://no such:80/"))
    assert text.startswith("no such:80: ")
    assert "object at" not in text


async def test_certificate_that_is_not_trusted_is_told_with_the_reason(tmp_path: Path) -> None:
    tls = server_context(issue(AUTHORITY, ["127.0.0.1"]), tmp_path)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    async with server:
        text = describe(await failure(f"https://127.0.0.1:{port}/", tls=client_context(make_ca())))
    assert text.startswith(f"127.0.0.1:{port}: ")
    assert "unable to get local issuer certificate" in text


async def test_url_that_is_none_is_shown() -> None:
    assert describe(await failure("127.0.0.1:80/path")) == "not a URL of HTTP: 127.0.0.1:80/path"


async def test_silence_is_called_so() -> None:
    done = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert describe(await failure(f"http://127.0.0.1:{port}/", total_s=0.05)) == "no answer in time"
        done.set()


def test_errors_of_other_kinds_speak_for_themselves() -> None:
    assert describe(ValueError("an answer of more than 5 bytes")) == "an answer of more than 5 bytes"
    assert describe(ConnectionResetError()) == "ConnectionResetError()"
