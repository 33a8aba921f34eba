"""An aiohttp app that announces itself.

NATS_URL=nats://127.0.0.1:4222 ROUTE=app.localhost PORT=9000 python announced_aiohttp.py
"""

import os
import uuid

from aiohttp import web

from router.registrar import Route, own_address
from router.registrar.aiohttp_app import announcing


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello\n")


port = int(os.environ["PORT"])
route = Route(
    host=os.environ.get("ADDRESS") or own_address(),
    port=port,
    uris=[os.environ["ROUTE"]],
    private_instance_id=str(uuid.uuid4()),
    tags={"component": "example"},
)
app = web.Application()
app.router.add_get("/", hello)
app.cleanup_ctx.append(announcing(os.environ["NATS_URL"], [route], drain_s=1))

if __name__ == "__main__":
    web.run_app(app, port=port)
