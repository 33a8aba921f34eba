"""The status listeners: ``/health`` for load balancers, ``/routes`` for operators.

Owns their sockets and answers; does not own the health state nor the table. One law: they answer from before the
traffic listeners open until after the last request of a drain has ended.

Paths, statuses, bodies and headers are Gorouter's.
"""

import asyncio
import base64
import binascii
import hmac
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict

from router.control.health import Health
from router.control.health_http2 import IDLE_S, AlpnProtocol, HealthConnection, Http2Answer
from router.control.listeners import listen_alone
from router.http_server import set_up

ALIVE_PATH = "/is-process-alive-do-not-use-for-loadbalancing"
HEALTH_PATHS = ("/health", "/healthz")
_PLAIN = {"X-Content-Type-Options": "nosniff"}
"""Beside every error text, as Go's servers have it."""

QUIET = logging.getLogger("router.status")
"""For aiohttp: what clients do wrong has no place in any log, what goes wrong here has."""
QUIET.addFilter(lambda line: line.exc_info is None or not isinstance(line.exc_info[1], HttpProcessingError))


class Admin:
    """The status listeners of this router; lives until control exits."""

    def __init__(self) -> None:
        self._runners: list[web.ServerRunner] = []
        self._tls_servers: list[asyncio.Server] = []
        self._http2: set[HealthConnection] = set()
        self._health_tls: ssl.SSLContext | None = None

    async def open_health(self, health: Health, port: int, *, key: str) -> int:
        """Serve health checks on all IPv4 interfaces. Returns the port; raises `ListenError` naming ``key``."""
        return await self._open(_health_server(health), "0.0.0.0", port, key)

    async def open_health_tls(self, health: Health, port: int, tls: ssl.SSLContext, *, key: str) -> int:
        """Serve health checks over TLS, in the version of HTTP that ALPN chooses; otherwise as `open_health`."""
        tls.sni_callback = self._switch_context
        listening = listen_alone(key, "0.0.0.0", port)
        server = _health_server(health)
        await self._run(server)

        def accept() -> AlpnProtocol:
            return AlpnProtocol(server, lambda: HealthConnection(answer, self._http2))

        def answer(path: str) -> Http2Answer:
            return _over_http2(health_answer(path, health))

        self._tls_servers.append(await asyncio.get_running_loop().create_server(accept, sock=listening, ssl=tls))
        return int(listening.getsockname()[1])

    def set_health_tls(self, context: ssl.SSLContext) -> None:
        """Show the certificate of this context from now on."""
        self._health_tls = context

    def _switch_context(self, connection: ssl.SSLObject, server_name: str | None, _: ssl.SSLContext) -> None:
        # The listener holds on to its first context; what each new connection uses is decided here.
        if self._health_tls is not None:
            connection.context = self._health_tls

    async def open_routes(
        self,
        document: Callable[[], Iterable[bytes]],
        credentials: Callable[[], tuple[str, str]],
        port: int,
        *,
        key: str,
        others: Mapping[str, Callable[[], Iterable[bytes]]] | None = None,
    ) -> int:
        """Serve the route table on 127.0.0.1. Returns the port; raises `ListenError` naming ``key``.

        Args:
            document: returns the JSON text in pieces, made as they are asked for.
            credentials: returns user and password that are asked for at present.
            others: further documents, by path.
        """
        documents = {"/routes": document, **(others or {})}

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            # Gorouter knows no credentials for the health paths, and nothing behind them on this port.
            if request.path in HEALTH_PATHS:
                return not_found()
            return await _show(request, documents, credentials())

        server = web.Server(answer, access_log=None, logger=QUIET, keepalive_timeout=IDLE_S)
        return await self._open(server, "127.0.0.1", port, key)

    async def open_deprecated(
        self,
        health: Health,
        documents: Mapping[str, Callable[[], Iterable[bytes]]],
        credentials: Callable[[], tuple[str, str]],
        address: str,
        port: int,
        *,
        key: str,
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> int:
        """Serve health checks and documents on one port, as routers once did; it takes the place of `open_health`.

        Args:
            health: answers ``/health`` and ``/healthz``, for which no credentials are asked.
            documents: by path, as for `open_routes`.
            credentials: as for `open_routes`.
            address: IPv4 address or host name of this machine to listen on.
            port: TCP port.
            key: of the configuration, for errors.
            refresh: brings up to date what the documents tell, before one is made.

        Returns the port; raises `ListenError`.
        """

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path in HEALTH_PATHS:
                return health_answer("/health", health)
            return await _show(request, documents, credentials(), refresh)

        server = web.Server(answer, access_log=None, logger=QUIET, keepalive_timeout=IDLE_S)
        return await self._open(server, address, port, key)

    async def close(self) -> None:
        """Close the listeners and whatever connection is left."""
        for listening in self._tls_servers:
            listening.close()
        for connection in list(self._http2):
            connection.close()
        for runner in self._runners:
            await runner.cleanup()
        self._tls_servers.clear()
        self._runners.clear()

    async def _open(self, server: web.Server, address: str, port: int, key: str) -> int:
        listening = listen_alone(key, address, port)
        await web.SockSite(await self._run(server), listening).start()
        return int(listening.getsockname()[1])

    async def _run(self, server: web.Server) -> web.ServerRunner:
        runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await set_up(runner)
        self._runners.append(runner)
        return runner


def _health_server(health: Health) -> web.Server:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return health_answer(request.path, health)

    return web.Server(answer, access_log=None, logger=QUIET, keepalive_timeout=IDLE_S)


def _over_http2(response: web.Response) -> Http2Answer:
    lines = [f"{name}: {value}".encode() for name, value in response.headers.items()]
    return Http2Answer(response.status, lines, response.body if isinstance(response.body, bytes) else b"")


def health_answer(path: str, health: Health) -> web.Response:
    """Return what a health check gets, any method."""
    if path == ALIVE_PATH:
        return web.Response(text="ok\n")
    if path != "/health":
        return not_found()
    headers = {"Cache-Control": "private, max-age=0", "Expires": "0"}
    if health.healthy:
        return web.Response(text="ok\n", headers=headers)
    return web.Response(status=503, headers=headers)


def not_found() -> web.Response:
    return web.Response(status=404, text="404 page not found\n", headers=_PLAIN)


def is_authorized(header: str, credentials: tuple[str, str]) -> bool:
    """Check an Authorization header for basic authentication (RFC 7617). The scheme's case matters here."""
    scheme, _, encoded = header.partition(" ")
    if scheme != "Basic":
        return False
    try:
        given = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(given, ":".join(credentials).encode())


async def _show(
    request: web.BaseRequest,
    documents: Mapping[str, Callable[[], Iterable[bytes]]],
    credentials: tuple[str, str],
    refresh: Callable[[], Awaitable[None]] | None = None,
) -> web.StreamResponse:
    """Answer with the document of this path, to those who know the credentials."""
    if not is_authorized(request.headers.get("Authorization", ""), credentials):
        headers = {**_PLAIN, "WWW-Authenticate": "Basic"}
        return web.Response(status=401, text="401 Unauthorized\n", headers=headers)
    wanted = documents.get(request.path)
    if wanted is None:
        return not_found()
    if refresh is not None:
        await refresh()
    return await _stream(request, wanted())


async def _stream(request: web.BaseRequest, pieces: Iterable[bytes]) -> web.StreamResponse:
    """Send the pieces as they are made, so that a large table neither piles up here nor stalls this process."""
    response = web.StreamResponse(headers=CIMultiDict({"Content-Type": "application/json"}))
    response.force_close()
    await response.prepare(request)
    for piece in () if request.method == "HEAD" else pieces:
        await response.write(piece)
        await asyncio.sleep(0)
    await response.write_eof()
    return response
