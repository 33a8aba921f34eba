"""ASGI apps that announce themselves, run by uvicorn and hypercorn and reached through a whole router."""

import asyncio
import signal
from typing import Any

import pytest

from router.registrar import Route
from router.registrar.asgi import Announcing
from tests.registrar.running_app import RunningApp
from tests.support.announce import Announcer, status_of
from tests.support.nats import NatsServer
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until

NATS = "nats://127.0.0.1:1"


@pytest.mark.parametrize("kind", ["plain", "living", "hypercorn"])
def test_app_is_reached_while_it_runs_and_unknown_afterwards(
    kind: str, nats_server: NatsServer, router: RunningRouter
) -> None:
    with RunningApp(kind, nats_server.port, "app.test") as app:
        wait_until(lambda: status_of(router.port, "app.test") == 200, "the app is routed")
        output, errors = app.stop()
        wait_until(lambda: status_of(router.port, "app.test") == 404, "the route is gone")
    assert output == ("startup\nshutdown\n" if kind != "plain" else "")
    assert errors == ""


def test_draining_app_is_withdrawn_before_it_stops_to_serve(
    nats_server: NatsServer, router: RunningRouter
) -> None:
    with RunningApp("living", nats_server.port, "app.test", drain_s=6) as app:
        wait_until(lambda: status_of(router.port, "app.test") == 200, "the app is routed")
        app.process.terminate()
        wait_until(lambda: status_of(router.port, "app.test") == 404, "the route is gone")
        assert status_of(app.port, "app.test") == 200
        output, _ = app.process.communicate(timeout=30)
        assert output == "startup\nshutdown\n"


def test_hypercorn_whose_signals_cannot_be_held_back_does_not_start(nats_server: NatsServer) -> None:
    with (
        Announcer(nats_server.port) as listener,
        RunningApp("hypercorn", nats_server.port, "app.test", drain_s=6) as app,
    ):
        listener.listen("router.register")
        _, errors = app.process.communicate(timeout=30)
        assert app.process.returncode != 0
        assert "drain_s: this server takes no signals by signal.signal" in errors
        assert listener.seen == []


class Server:
    """Says what a server says in a lifespan, and keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.words: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for step in ("startup", "shutdown"):
            self.words.put_nowait({"type": f"lifespan.{step}"})

    async def send(self, message: Any) -> None:
        self.heard.append(message["type"])

    async def run(self, app: Any, **options: Any) -> list[str]:
        route = Route(host="127.0.0.1", port=1, uris=["a.test"])
        await Announcing(app, NATS, [route], **options)({"type": "lifespan"}, self.words.get, self.send)
        return self.heard


COMPLETE = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_app_that_returns_at_once_is_stood_in_for() -> None:
    async def indifferent(scope: Any, receive: Any, send: Any) -> None:
        pass

    assert await Server().run(indifferent) == COMPLETE


async def test_app_that_fails_to_start_is_not_covered_up() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        await Server().run(failing)


async def test_server_whose_signals_cannot_be_held_back_is_told() -> None:
    async def plain(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("no lifespan")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None)
    try:
        server = Server()
        with pytest.raises(RuntimeError, match="drain_s"):
            await server.run(plain, drain_s=1)
        # Not by the exception alone, after which servers go on without a lifespan.
        assert server.heard == ["lifespan.startup.failed"]
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
