"""Health checks over HTTP/2, asked by a client of raw frames over TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

from router.certs import Authority, issue, make_ca
from router.config.schema import Config
from router.config.sections import Status, StatusTls
from router.control import health_http2
from router.control.admin import ALIVE_PATH, Admin
from router.control.health import Health, State
from router.control.status_tls import health_context
from tests.support.h2peer import (
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    NO_ERROR,
    PING,
    PROTOCOL_ERROR,
    H2Peer,
    frame,
    get,
    headers,
    reset,
)
from tests.support.ports import free_port

T = TypeVar("T")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
async def made() -> AsyncIterator[Admin]:
    admin = Admin()
    yield admin
    await admin.close()


@pytest.fixture
async def port(authority: Authority, health: Health, made: Admin) -> int:
    pair = issue(authority, ["health.test"])
    config = Config(status=Status(tls=StatusTls(certificate=pair.certificate, key=pair.private_key)))
    return await made.open_health_tls(health, free_port(), health_context(config), key="status.tls.port")


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.pair.certificate)
    context.set_alpn_protocols(["h2"])
    return context


async def ask(port: int, trusting: ssl.SSLContext, talk: Callable[[H2Peer], T]) -> T:
    """Talk on one connection, in a thread, so that the listener has its loop."""

    def run() -> T:
        with H2Peer(port, tls=trusting, server_name="health.test") as peer:
            return talk(peer)

    return await asyncio.to_thread(run)


async def test_health_follows_the_state(port: int, trusting: ssl.SSLContext, health: Health) -> None:
    down = await ask(port, trusting, lambda peer: peer.get(path="/health"))
    assert (down.status, down.body, down.header("content-length")) == (503, b"", "0")

    health.enter(State.HEALTHY)
    up = await ask(port, trusting, lambda peer: peer.get(path="/health?verbose"))
    assert (up.status, up.body, up.header("content-length")) == (200, b"ok\n", "3")
    assert up.header("cache-control") == "private, max-age=0"
    assert up.header("expires") == "0"
    assert up.header("content-type") == "text/plain; charset=utf-8"
    assert up.header("date") is not None
    assert up.header("server") is None


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [(ALIVE_PATH, 200, b"ok\n"), ("/", 404, b"404 page not found\n"), ("/routes", 404, b"404 page not found\n")],
)
async def test_other_paths(port: int, trusting: ssl.SSLContext, path: str, status: int, body: bytes) -> None:
    answer = await ask(port, trusting, lambda peer: peer.get(path=path))
    assert (answer.status, answer.body) == (status, body)


async def test_head_gets_no_body(port: int, trusting: ssl.SSLContext) -> None:
    def talk(peer: H2Peer) -> tuple[str | None, bytes]:
        peer.request(1, get(path=ALIVE_PATH, method="HEAD"))
        answer = peer.answer(1)
        return answer.header("content-length"), answer.body

    assert await ask(port, trusting, talk) == ("3", b"")


async def test_many_requests_of_one_connection_are_answered_and_their_bodies_read_away(
    port: int, trusting: ssl.SSLContext
) -> None:
    def talk(peer: H2Peer) -> list[bytes]:
        for stream_id in range(1, 41, 2):
            peer.request(stream_id, get(path=ALIVE_PATH, method="POST"), b"x" * 10_000)
        return [peer.answer(stream_id).body for stream_id in range(1, 41, 2)]

    assert await ask(port, trusting, talk) == [b"ok\n"] * 20


async def test_unfinished_and_cancelled_requests_harm_nobody(port: int, trusting: ssl.SSLContext) -> None:
    def talk(peer: H2Peer) -> bytes:
        peer.send(headers(1, get(path=ALIVE_PATH, method="POST"), END_HEADERS))
        peer.send(headers(3, get(path=ALIVE_PATH, method="POST"), END_HEADERS), reset(3))
        return peer.answer(1).body + peer.get(5, path=ALIVE_PATH).body

    assert await ask(port, trusting, talk) == b"ok\nok\n"


async def test_request_that_is_none_is_refused(port: int, trusting: ssl.SSLContext) -> None:
    answer = await ask(port, trusting, lambda peer: peer.get(path="/%zz"))
    assert answer.status == 400


async def test_what_breaks_the_protocol_ends_the_connection_with_its_error(
    port: int, trusting: ssl.SSLContext
) -> None:
    def talk(peer: H2Peer) -> int:
        peer.send(frame(DATA, 0, 0, b"x"))
        return peer.error()

    assert await ask(port, trusting, talk) == PROTOCOL_ERROR


async def test_flood_of_pings_is_told_to_calm_down(port: int, trusting: ssl.SSLContext) -> None:
    def talk(peer: H2Peer) -> int:
        peer.send(frame(PING, 0, 0, b"12345678") * 1000)
        return peer.error()

    assert await ask(port, trusting, talk) == ENHANCE_YOUR_CALM


async def test_idle_connection_is_closed_with_a_word(
    port: int, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_http2, "IDLE_S", 0.1)
    assert await ask(port, trusting, lambda peer: peer.error()) == NO_ERROR


async def test_closing_the_listener_closes_its_connections(
    port: int, trusting: ssl.SSLContext, made: Admin
) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def talk(peer: H2Peer) -> int:
        peer.synchronise()
        loop.call_soon_threadsafe(begun.set)
        return peer.error()

    talking = asyncio.create_task(ask(port, trusting, talk))
    await begun.wait()
    await made.close()
    assert await talking == NO_ERROR
