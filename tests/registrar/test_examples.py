"""What the documentation gives people to copy: it loads, and the apps are reached through a whole router."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from router.registrar.service_reader import read_service
from tests.support.announce import status_of
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_file_of_routes_has_no_mistake_and_no_unknown_key() -> None:
    config, notes = read_service(EXAMPLES / "registrar.yml", "id")
    assert notes == []
    assert [route.name for route in config.routes] == ["api", "by-http", "by-tls", "inside"]
    assert all(route.check is not None for route in config.routes)


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "announced_aiohttp.py"],
        [sys.executable, "-m", "uvicorn", "--port", "PORT", "announced_asgi:app"],
    ],
    ids=["aiohttp", "asgi"],
)
def test_app_is_reached(command: list[str], nats_server: NatsServer, router: RunningRouter) -> None:
    port = str(free_port())
    settings = {
        "PORT": port,
        "ROUTE": "app.test",
        "ADDRESS": "127.0.0.1",
        "NATS_URL": f"nats://127.0.0.1:{nats_server.port}",
    }
    process = subprocess.Popen(
        [port if part == "PORT" else part for part in command],
        cwd=EXAMPLES,
        env={**os.environ, **settings, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: status_of(router.port, "app.test") == 200, "the app is routed")
        process.terminate()
        process.communicate(timeout=30)
    finally:
        process.kill()
    wait_until(lambda: status_of(router.port, "app.test") == 404, "the app is gone")
