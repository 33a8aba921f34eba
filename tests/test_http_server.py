"""No answer of our HTTP servers tells what made it, and none of them is without the seam that sees to it."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from router import http_server
from tests.support.ports import free_port

Ask = Callable[[bytes], Awaitable[bytes]]
BODY = b"POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    if request.path == "/failure":
        raise RuntimeError("as told")
    return web.Response(text=f"{len(await request.read())}")


def low_level() -> web.BaseRunner:
    return web.ServerRunner(web.Server(answer, access_log=None))


def application() -> web.BaseRunner:
    app = web.Application()
    app.router.add_route("*", "/{path:failure|body}", answer)
    return web.AppRunner(app, access_log=None)


@asynccontextmanager
async def serving(runner: web.BaseRunner, **limits: int) -> AsyncIterator[Ask]:
    await http_server.set_up(runner, **limits)
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()

    async def ask(raw: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw)
        got = await reader.read()
        writer.close()
        await writer.wait_closed()
        return got

    try:
        yield ask
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("make", [low_level, application])
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (BODY % (2, b"ok"), b"200"),
        (b"GET /failure HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"500"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n\r\n", b"400"),
        (b"GARBAGE\r\n\r\n", b"400"),
    ],
    ids=["answer", "failure", "field", "no request"],
)
async def test_answers_do_not_tell_what_made_them(
    make: Callable[[], web.BaseRunner], raw: bytes, status: bytes
) -> None:
    async with serving(make()) as ask:
        head = (await ask(raw)).partition(b"\r\n\r\n")[0]
    assert head.split()[1] == status
    assert b"\nserver:" not in head.lower()
    assert b"python" not in head.lower()
    assert b"aiohttp" not in head.lower()


async def test_path_that_an_application_does_not_have_does_not_tell_either() -> None:
    async with serving(application()) as ask:
        head = (await ask(b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 404")
    assert b"\nserver:" not in head.lower()


@pytest.mark.parametrize("make", [low_level, application])
async def test_body_above_the_limit_is_refused(make: Callable[[], web.BaseRunner]) -> None:
    async with serving(make(), max_body_bytes=10) as ask:
        assert (await ask(BODY % (10, bytes(10)))).endswith(b"\r\n\r\n10")
        assert (await ask(BODY % (11, bytes(11)))).startswith(b"HTTP/1.1 413")


def test_every_server_of_ours_is_set_up_here() -> None:
    root = Path(http_server.__file__).parent
    by_themselves = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"runner\.setup\(\)", path.read_text()) and path.name != "http_server.py"
    ]
    assert by_themselves == ["dev/samples.py"], "which stand for other people's apps"
