"""An ASGI app that announces itself. FastAPI, Starlette, Django and Quart apps are wrapped in the same way.

NATS_URL=nats://127.0.0.1:4222 ROUTE=app.localhost PORT=9000 uvicorn --host 0.0.0.0 --port 9000 announced_asgi:app
"""

import os
import uuid
from typing import Any

from router.registrar import Route, own_address
from router.registrar.asgi import Announcing


async def hello(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello\n"})


route = Route(
    host=os.environ.get("ADDRESS") or own_address(),
    port=int(os.environ["PORT"]),
    uris=[os.environ["ROUTE"]],
    private_instance_id=str(uuid.uuid4()),
)
app = Announcing(hello, os.environ["NATS_URL"], [route], drain_s=1)
