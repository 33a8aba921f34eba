"""The sample apps of `router dev`: each instance a process that serves on a port of its own and announces itself.

Run as ``python -m router.dev.samples APP NUMBER NATS_URL``. This is also the example of how an app of yours would
do it: serve, announce while serving, withdraw before closing.

``hello`` greets: a page that shows live which instance answers, JSON, or a line of text, as the client accepts.
``echo`` shows a request as the app behind the router sees it, and echoes WebSocket messages.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import uuid
from typing import NamedTuple

from aiohttp import WSMsgType, web

from router.dev.page import hello_page
from router.registrar.announcer import Announcer
from router.registrar.bus import BusUnavailable
from router.wire.announcement import Announcement

HOST = "127.0.0.1"
LONGEST_DELAY_S = 60.0
SHOWN_BODY_BYTES = 64 * 1024


class Instance(NamedTuple):
    """Who answers."""

    app: str
    number: int
    port: int

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
        host=HOST,
        port=instance.port,
        uris=[host],
        app=str(uuid.uuid5(uuid.NAMESPACE_DNS, host)),
        private_instance_id=instance_id(instance.app, instance.number),
        private_instance_index=str(instance.number),
        tags={"app_name": instance.app, "component": instance.name},
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
    """Make one of the two apps. Raises `KeyError` for any other name."""
    routes = {
        "hello": [web.get("/{path:.*}", hello)],
        "echo": [
            web.route("*", "/status/{code:[2-5][0-9]{2}}", status),
            web.route("*", "/delay/{seconds:[0-9]{1,3}([.][0-9]{1,6})?}", delay),
            web.route("*", "/{path:.*}", echo),
        ],
    }
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.add_routes(routes[name])
    return app


async def serve(name: str, number: int, nats_url: str, *, stop: asyncio.Event) -> None:
    """Serve and announce one instance until ``stop`` is set. Raises `BusUnavailable` if there is no NATS."""
    app = application(name)
    listener = socket.create_server((HOST, 0), backlog=1024)
    instance = app[INSTANCE] = Instance(name, number, listener.getsockname()[1])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        async with Announcer([nats_url], name=instance.name) as announcer:
            await announcer.announce(announcement(instance))
            print(f"{instance.name} serves on {HOST}:{instance.port}", flush=True)
            await stop.wait()
        # Withdrawn by now; what is still on its way here is answered while the runner shuts down.
    finally:
        await runner.cleanup()


async def _serve_until_signal(name: str, number: int, nats_url: str) -> int:
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    try:
        await serve(name, number, nats_url, stop=stop)
    except BusUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_serve_until_signal(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
