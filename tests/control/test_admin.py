"""The status listeners, asked over real sockets."""

import asyncio
import base64
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from msgspec import structs

from router.certs import Authority, issue, make_ca
from router.config.schema import Config
from router.config.sections import Status, StatusTls
from router.control.admin import ALIVE_PATH, Admin, is_authorized
from router.control.health import Health, State
from router.control.listeners import ListenError
from router.control.status_tls import has_tls_health, health_context
from router.routing.registrations import RegistryRules
from router.routing.registry import Registry
from router.tls import TlsError
from tests.support.h2peer import PREFACE, SETTINGS, settings
from tests.support.ports import free_port
from tests.support.registry import announced

NOT_FOUND = b"404 page not found\n"


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@asynccontextmanager
async def admin() -> AsyncIterator[Admin]:
    made = Admin()
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def health_listener(health: Health) -> AsyncIterator[str]:
    async with admin() as made:
        yield f"http://127.0.0.1:{await made.open_health(health, free_port(), key='status.port')}"


@asynccontextmanager
async def routes_listener(
    registry: Registry, user: str = "admin", password: str = "s3:cret"
) -> AsyncIterator[str]:
    async with admin() as made:
        port = await made.open_routes(registry.routes_json, lambda: (user, password), free_port(), key="k")
        yield f"http://127.0.0.1:{port}"


async def test_health_is_503_and_empty_until_healthy_and_again_when_degraded() -> None:
    health = Health()
    async with health_listener(health) as url, aiohttp.ClientSession() as session:
        answers = []
        for state in (None, State.HEALTHY, State.DEGRADED):
            if state is not None:
                health.enter(state)
            async with session.get(f"{url}/health") as response:
                answers.append((response.status, await response.read()))
                assert response.headers["Cache-Control"] == "private, max-age=0"
                assert response.headers["Expires"] == "0"

    assert answers == [(503, b""), (200, b"ok\n"), (503, b"")]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
async def test_health_answers_every_method(method: str) -> None:
    health = Health()
    health.enter(State.HEALTHY)
    async with (
        health_listener(health) as url,
        aiohttp.ClientSession() as session,
        session.request(method, f"{url}/health") as response,
    ):
        assert (response.status, await response.read()) == (200, b"ok\n")


async def test_process_is_alive_in_every_state() -> None:
    async with (
        health_listener(Health()) as url,
        aiohttp.ClientSession() as session,
        session.get(url + ALIVE_PATH) as response,
    ):
        assert (response.status, await response.read()) == (200, b"ok\n")


@pytest.mark.parametrize("path", ["/", "/healthz", "/varz", "/routes", "/health/", "//health"])
async def test_other_paths_of_the_health_listener_are_not_found(path: str) -> None:
    async with (
        health_listener(Health()) as url,
        aiohttp.ClientSession() as session,
        session.get(url + path) as response,
    ):
        assert (response.status, await response.read()) == (404, NOT_FOUND)
        assert response.content_type == "text/plain"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def raw_answer(url: str, request: str) -> bytes:
    """Return a listener's whole answer, the time left out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(f"{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return re.sub(rb"Date: [^\r]+\r\n", b"", answer)


@pytest.mark.parametrize(
    ("path", "state", "expected"),
    [
        (
            "/health",
            State.HEALTHY,
            b"HTTP/1.1 200 OK\r\nCache-Control: private, max-age=0\r\nExpires: 0\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n",
        ),
        (
            "/health",
            State.DEGRADED,
            b"HTTP/1.1 503 Service Unavailable\r\nCache-Control: private, max-age=0\r\nExpires: 0\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        (
            ALIVE_PATH,
            State.DEGRADED,
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n"
            b"Connection: close\r\n\r\nok\n",
        ),
        (
            "/varz",
            State.HEALTHY,
            b"HTTP/1.1 404 Not Found\r\nX-Content-Type-Options: nosniff\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 19\r\nConnection: close\r\n\r\n"
            b"404 page not found\n",
        ),
    ],
)
async def test_answers_of_the_health_listener_are_these_bytes(path: str, state: State, expected: bytes) -> None:
    health = Health()
    health.enter(state)
    async with health_listener(health) as url:
        assert await raw_answer(url, f"GET {path}") == expected


async def test_refusal_of_the_routes_listener_is_these_bytes() -> None:
    async with routes_listener(Registry(RegistryRules())) as url:
        assert await raw_answer(url, "GET /routes") == (
            b"HTTP/1.1 401 Unauthorized\r\nX-Content-Type-Options: nosniff\r\nWWW-Authenticate: Basic\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 17\r\nConnection: close\r\n\r\n"
            b"401 Unauthorized\n"
        )


async def test_garbage_on_the_health_listener_harms_nobody_else() -> None:
    health = Health()
    health.enter(State.HEALTHY)
    async with health_listener(health) as url, aiohttp.ClientSession() as session:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as garbage:
            garbage.sendall(b"\x16\x03\x01\x00\xff" * 100)
            async with session.get(f"{url}/health") as response:
                assert response.status == 200


async def test_what_clients_do_wrong_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with health_listener(Health()) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0")
        await reader.read()
        writer.close()
        await writer.wait_closed()

    assert not caplog.records


async def test_routes_are_shown_to_who_knows_user_and_password() -> None:
    registry = Registry(RegistryRules())
    registry.register(announced("b.test", "A.test/path", host="10.0.0.9", port=61001), 0.0)
    async with (
        routes_listener(registry) as url,
        aiohttp.ClientSession(headers={"Authorization": basic("admin:s3:cret")}) as session,
        session.get(f"{url}/routes") as response,
    ):
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Connection"] == "close"
        text = await response.text()

    assert text.endswith("}\n")
    assert list(json.loads(text)) == ["a.test/path", "b.test"]


async def test_head_of_the_routes_has_no_body() -> None:
    registry = Registry(RegistryRules())
    registry.register(announced("app.test"), 0.0)
    async with routes_listener(registry) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        authorization = basic("admin:s3:cret")
        writer.write(f"HEAD /routes HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()

    head, _, body = answer.partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"")


async def test_many_routes_are_streamed_whole() -> None:
    registry = Registry(RegistryRules())
    for number in range(5000):
        registry.register(announced(f"app-{number}.test"), 0.0)
    async with (
        routes_listener(registry) as url,
        aiohttp.ClientSession(headers={"Authorization": basic("admin:s3:cret")}) as session,
        session.get(f"{url}/routes") as response,
    ):
        assert len(json.loads(await response.text())) == 5000


@pytest.mark.parametrize("path", ["/routes", "/", "/varz", "/nothing"])
async def test_without_credentials_every_path_of_the_routes_listener_is_401(path: str) -> None:
    async with (
        routes_listener(Registry(RegistryRules())) as url,
        aiohttp.ClientSession() as session,
        session.get(url + path) as response,
    ):
        assert (response.status, await response.read()) == (401, b"401 Unauthorized\n")
        assert response.headers["WWW-Authenticate"] == "Basic"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/health", "/healthz"])
async def test_health_paths_of_the_routes_listener_are_not_found_even_without_credentials(path: str) -> None:
    async with (
        routes_listener(Registry(RegistryRules())) as url,
        aiohttp.ClientSession() as session,
        session.get(url + path) as response,
    ):
        assert (response.status, await response.read()) == (404, NOT_FOUND)


async def test_unknown_path_with_credentials_is_not_found() -> None:
    async with (
        routes_listener(Registry(RegistryRules())) as url,
        aiohttp.ClientSession(headers={"Authorization": basic("admin:s3:cret")}) as session,
        session.get(f"{url}/varz") as response,
    ):
        assert (response.status, await response.read()) == (404, NOT_FOUND)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic w7w",
        "Bearer abc",
        basic("admin:secret").replace("Basic", "basic"),
        basic("admin:wrong"),
        basic("other:secret"),
        basic("admin"),
        basic("admin:secret:"),
        basic("admin:sécret"),
    ],
)
def test_only_the_exact_credentials_are_authorized(header: str) -> None:
    assert not is_authorized(header, ("admin", "secret"))


def test_empty_credentials_of_the_configuration_are_credentials() -> None:
    assert is_authorized(basic(":"), ("", ""))
    assert not is_authorized("", ("", ""))


async def test_port_in_use_is_an_error_that_names_the_key() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        async with admin() as made:
            with pytest.raises(ListenError, match=rf"^status\.port: cannot listen on 0\.0\.0\.0:{port}: "):
                await made.open_health(Health(), port, key="status.port")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


def tls_config(authority: Authority, name: str) -> Config:
    pair = issue(authority, [name])
    return Config(status=Status(tls=StatusTls(certificate=pair.certificate, key=pair.private_key)))


@pytest.mark.parametrize(
    ("offered", "allowed", "chosen"),
    [
        (["h2", "http/1.1"], True, "h2"),
        (["http/1.1"], True, "http/1.1"),
        ([], True, None),
        (["h2", "http/1.1"], False, "http/1.1"),
    ],
)
async def test_health_over_tls_is_answered_in_the_version_that_alpn_chooses(
    authority: Authority, offered: list[str], allowed: bool, chosen: str | None
) -> None:
    trusting = ssl.create_default_context(cadata=authority.pair.certificate)
    trusting.set_alpn_protocols(offered)
    async with admin() as made:
        context = health_context(structs.replace(tls_config(authority, "health.test"), enable_http2=allowed))
        port = await made.open_health_tls(Health(), free_port(), context, key="status.tls.port")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="health.test"
        )
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" if chosen != "h2" else PREFACE + settings())
        begun = await reader.readexactly(12)
        # An HTTP/2 server begins with SETTINGS, on no stream.
        assert begun == b"HTTP/1.1 503" if chosen != "h2" else begun[3:9] == bytes([SETTINGS, 0, 0, 0, 0, 0])
        writer.transport.abort()


async def test_health_over_tls_shows_the_certificate_of_the_last_reload(authority: Authority) -> None:
    trusting = ssl.create_default_context(cadata=authority.pair.certificate)
    async with admin() as made:
        context = health_context(tls_config(authority, "old.test"))
        port = await made.open_health_tls(Health(), free_port(), context, key="status.tls.port")
        url = f"https://127.0.0.1:{port}{ALIVE_PATH}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, ssl=trusting, server_hostname="old.test") as response,
        ):
            assert await response.text() == "ok\n"

        made.set_health_tls(health_context(tls_config(authority, "new.test")))
        async with aiohttp.ClientSession() as session:
            async with session.get(url, ssl=trusting, server_hostname="new.test") as response:
                assert await response.text() == "ok\n"
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(url, ssl=trusting, server_hostname="old.test")


def test_bad_certificate_of_the_health_listener_is_an_error_that_names_the_key() -> None:
    with pytest.raises(TlsError, match=r"^status\.tls: "):
        health_context(Config(status=Status(tls=StatusTls(certificate="none", key="none"))))


def test_any_setting_switches_health_over_tls_on() -> None:
    assert not has_tls_health(Status())
    assert has_tls_health(Status(tls=StatusTls(port=9443)))
    assert has_tls_health(Status(tls=StatusTls(certificate="x")))
