"""Apps that announce themselves, each run by its own framework: ``python -m tests.registrar.apps``."""

import asyncio
import sys
from typing import Any

from router.registrar import Route

kind, nats, port, uri, drain = sys.argv[1:] if len(sys.argv) == 6 else ("", "", "0", "", "")
drain_s = float(drain) if drain else None
ROUTES = [Route(host="127.0.0.1", port=int(port), uris=[uri])]


def run_aiohttp() -> None:
    from aiohttp import web

    from router.registrar.aiohttp_app import announcing

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="hello from aiohttp")

    app = web.Application()
    app.router.add_get("/", answer)
    app.cleanup_ctx.append(announcing(nats, ROUTES, drain_s=drain_s))
    web.run_app(app, host="127.0.0.1", port=int(port), print=None)


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """An app without a lifespan."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello from asgi"})


async def living(scope: Any, receive: Any, send: Any) -> None:
    """An app with a lifespan of its own, of which it tells."""
    if scope["type"] != "lifespan":
        await plain(scope, receive, send)
        return
    for step in ("startup", "shutdown"):
        message = await receive()
        assert message["type"] == f"lifespan.{step}"
        print(step, flush=True)
        await send({"type": f"lifespan.{step}.complete"})


def run_uvicorn(app: Any) -> None:
    import uvicorn

    from router.registrar.asgi import Announcing

    uvicorn.run(
        Announcing(app, nats, ROUTES, drain_s=drain_s), host="127.0.0.1", port=int(port), log_level="error"
    )


def run_hypercorn() -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    from router.registrar.asgi import Announcing

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "ERROR"
    asyncio.run(serve(Announcing(living, nats, ROUTES, drain_s=drain_s), config))  # type: ignore[arg-type]


if __name__ == "__main__":
    if kind == "aiohttp":
        run_aiohttp()
    elif kind == "hypercorn":
        run_hypercorn()
    else:
        run_uvicorn(living if kind == "living" else plain)
