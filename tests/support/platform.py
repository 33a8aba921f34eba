"""A UAA and a routing API for tests: real servers over TLS, with what matters of the real ones' behaviour."""

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

from aiohttp import web

from router.certs import Authority, issue
from tests.support.certificates import server_context
from tests.support.ports import free_port


class Platform:
    """Serves both on 127.0.0.1 from `start` to `close`.

    Attributes:
        routes: what the API lists; anything that is encodable as JSON, or text to send as it is.
        fetches: times the list was asked for.
        refuse_with: status the API answers with, 0 for working normally.
        uaa_statuses: what UAA answers with to the next requests, one each; then 200.
        tokens: those handed out; the API accepts the last alone, unless `without_auth`.
        asked: form and user of every request to UAA.
    """

    def __init__(self, directory: Path, authority: Authority, *, without_auth: bool = False) -> None:
        self.api_port = free_port()
        self.uaa_port = free_port()
        self.routes: Any = []
        self.fetches = 0
        self.refuse_with = 0
        self.uaa_statuses: list[int] = []
        self.uaa_answer: Any = {}
        self.tokens: list[str] = []
        self.asked: list[tuple[dict[str, Any], str]] = []
        self.hold_fetch: asyncio.Event | None = None
        self.fetching = asyncio.Event()
        self.streams: list[web.StreamResponse] = []
        self.streams_ever = 0
        self._without_auth = without_auth
        self._hang_up = asyncio.Event()
        self._runners: list[web.AppRunner] = []
        pair = issue(authority, ["localhost", "127.0.0.1"])
        self._uaa_tls = server_context(pair, directory)
        self._api_tls = server_context(pair, directory)
        self._api_tls.verify_mode = ssl.CERT_REQUIRED
        self._api_tls.load_verify_locations(cadata=authority.pair.certificate)

    async def start(self) -> None:
        await self.start_uaa()
        await self.start_api()

    async def start_uaa(self) -> None:
        app = web.Application()
        app.router.add_post("/oauth/token", self._token)
        await self._serve(app, self.uaa_port, self._uaa_tls)

    async def start_api(self) -> None:
        app = web.Application()
        app.router.add_get("/routing/v1/routes", self._routes)
        app.router.add_get("/routing/v1/events", self._events)
        await self._serve(app, self.api_port, self._api_tls)

    async def close(self) -> None:
        """Stop both; `start` brings them back on the same ports."""
        self.hang_up()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def send(self, name: str, *routes: Any) -> None:
        """Send each route, or text as it is, as an event to everyone who listens."""
        for route in routes:
            data = route if isinstance(route, str) else json.dumps(route)
            for stream in self.streams:
                await stream.write(f"id: 1\nevent: {name}\ndata: {data}\n\n".encode())

    def hang_up(self) -> None:
        """End all streams of events."""
        self._hang_up.set()
        self._hang_up = asyncio.Event()

    async def _serve(self, app: web.Application, port: int, tls: ssl.SSLContext) -> None:
        # So that the end of a client ends its stream.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls, reuse_address=True).start()

    async def _token(self, request: web.Request) -> web.Response:
        self.asked.append((dict(await request.post()), request.headers.get("Authorization", "")))
        status = self.uaa_statuses.pop(0) if self.uaa_statuses else 200
        if status != 200:
            return web.json_response({"error": "unauthorized"}, status=status, headers={"Location": "/elsewhere"})
        self.tokens.append(f"token-{len(self.tokens)}")
        answer = {"access_token": self.tokens[-1], "token_type": "bearer", "expires_in": 3600}
        return web.json_response({**answer, **self.uaa_answer})

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.refuse_with:
            return web.Response(status=self.refuse_with)
        if self._without_auth:
            return None
        expected = f"bearer {self.tokens[-1]}" if self.tokens else ""
        return None if request.headers.get("Authorization") == expected else web.Response(status=401)

    async def _routes(self, request: web.Request) -> web.Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        text = self.routes if isinstance(self.routes, str) else json.dumps(self.routes)
        self.fetching.set()
        if self.hold_fetch is not None:
            await self.hold_fetch.wait()
        self.fetches += 1
        return web.Response(text=text, content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await stream.prepare(request)
        self.streams.append(stream)
        self.streams_ever += 1
        try:
            await self._hang_up.wait()
        finally:
            self.streams.remove(stream)
        return stream
