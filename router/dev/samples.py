"""The sample apps of `router dev`: each instance a process that serves on a port of its own and announces itself.

Run as ``python -m router.dev.samples APP NUMBER NATS_URL [PORT]``. This is also the example of how an app of yours
would do it: serve, announce while serving, withdraw before closing.

``hello`` greets: a page that shows live which instance answers, JSON, or a line of text, as the client accepts.
``echo`` shows a request as the app behind the router sees it, and echoes WebSocket messages.
``backend`` has an internal name alone, a container address of its own and a port given; it tells who calls.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

from aiohttp import WSMsgType, web

from router.dev.inside import BACKEND, NAME, backend_address
from router.dev.names import NameAnnouncer
from router.dev.page import hello_page
from router.registrar.announcer import Announcer
from router.registrar.bus import BusUnavailable
from router.wire.announcement import Announcement
from router.wire.discovery import NameRegistration

HOST = "127.0.0.1"
LONGEST_DELAY_S = 60.0
SHOWN_BODY_BYTES = 64 * 1024


class Instance(NamedTuple):
    """Who answers."""

    app: str
    number: int
    port: int
    host: str = HOST

    @property
    def name(self) -> str:
        return f"{self.app}/{self.number}"


INSTANCE = web.AppKey("instance", Instance)


def hostname(app: str) -> str:
    """Return the route of a sample app. Browsers and curl know every name below localhost as this machine."""
    return f"{app}.localhost"


def instance_id(app: str, number: int) -> str:
    return f"{app}-{number}"


def announcement(instance: Instance) -> Announcement:
    """Return what an instance says about itself."""
    host = hostname(instance.app)
    return Announcement(
        host=instance.host,
        port=instance.port,
        uris=[host],
        app=str(uuid.uuid5(uuid.NAMESPACE_DNS, host)),
        private_instance_id=instance_id(instance.app, instance.number),
        private_instance_index=str(instance.number),
        tags={"app_name": instance.app, "component": instance.name},
    )


def name_registration(instance: Instance) -> NameRegistration:
    """Return what an instance with an internal name says about itself."""
    return NameRegistration(
        ip=instance.host,
        names=(NAME,),
        app=instance.app,
        index=str(instance.number),
        updated_at_ns=time.time_ns(),
    )


async def hello(request: web.Request) -> web.Response:
    instance = request.app[INSTANCE]
    accept = request.headers.get("Accept", "")
    if "text/html" in accept:
        return web.Response(text=hello_page(instance.name), content_type="text/html")
    facts = {"instance": instance.name, "pid": os.getpid(), "port": instance.port}
    if "application/json" in accept:
        return web.json_response(facts, headers={"Cache-Control": "no-store"})
    return web.Response(text=f"hello from {instance.name} (pid {os.getpid()}, port {instance.port})\n")


async def backend(request: web.Request) -> web.Response:
    """Tell who calls: these headers come from the router alone, whatever a client says in them."""
    instance = request.app[INSTANCE]
    caller = [f"  {name}: {value}\n" for name, value in request.headers.items() if name.startswith("X-Cf-Caller-")]
    return web.Response(text=f"{instance.name} at {instance.host}:{instance.port} is called by\n{''.join(caller)}")


async def echo(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _echo_messages(request)
    body = await request.read()
    seen = {
        "instance": request.app[INSTANCE].name,
        "request": f"{request.method} {request.raw_path} HTTP/{request.version.major}.{request.version.minor}",
        "connection_from": request.remote,
        "headers": [f"{name}: {value}" for name, value in request.headers.items()],
        "body_bytes": len(body),
        "body": body[:SHOWN_BODY_BYTES].decode(errors="replace"),
    }
    return web.json_response(text=json.dumps(seen, indent=2, ensure_ascii=False) + "\n")


async def _echo_messages(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is WSMsgType.TEXT:
            await websocket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


async def status(request: web.Request) -> web.Response:
    """Answer with the status named in the path, ``/status/503``."""
    code = int(request.match_info["code"])
    return web.Response(status=code, text="" if code in (204, 304) else f"{code}, as you asked\n")


async def delay(request: web.Request) -> web.StreamResponse:
    """Answer as ``echo``, after the seconds named in the path, ``/delay/2.5``."""
    await asyncio.sleep(min(float(request.match_info["seconds"]), LONGEST_DELAY_S))
    return await echo(request)


def application(name: str) -> web.Application:
    """Make one of the apps. Raises `KeyError` for any other name."""
    routes = {
        "hello": [web.get("/{path:.*}", hello)],
        "echo": [
            web.route("*", "/status/{code:[2-5][0-9]{2}}", status),
            web.route("*", "/delay/{seconds:[0-9]{1,3}([.][0-9]{1,6})?}", delay),
            web.route("*", "/{path:.*}", echo),
        ],
        BACKEND: [web.get("/{path:.*}", backend)],
    }
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.add_routes(routes[name])
    return app


def announcing(instance: Instance, nats_url: str) -> AbstractAsyncContextManager[object]:
    """Return what announces an instance while it is entered. Entering raises `BusUnavailable`."""
    if instance.app == BACKEND:
        return NameAnnouncer(nats_url, name_registration(instance), name=instance.name)
    return _announcing_route(instance, nats_url)


@asynccontextmanager
async def _announcing_route(instance: Instance, nats_url: str) -> AsyncIterator[None]:
    async with Announcer([nats_url], name=instance.name) as announcer:
        await announcer.announce(announcement(instance))
        yield


async def serve(name: str, number: int, nats_url: str, port: int = 0, *, stop: asyncio.Event) -> None:
    """Serve and announce one instance until ``stop`` is set. Raises `BusUnavailable` if there is no NATS."""
    app = application(name)
    host = backend_address(number) if name == BACKEND else HOST
    listener = socket.create_server((host, port), backlog=1024)
    instance = app[INSTANCE] = Instance(name, number, listener.getsockname()[1], host)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        async with announcing(instance, nats_url):
            print(f"{instance.name} serves on {host}:{instance.port}", flush=True)
            await stop.wait()
        # Withdrawn by now; what is still on its way here is answered while the runner shuts down.
    finally:
        await runner.cleanup()


async def _serve_until_signal(name: str, number: int, nats_url: str, port: int = 0) -> int:
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    try:
        await serve(name, number, nats_url, port, stop=stop)
    except BusUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_serve_until_signal(sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))))
