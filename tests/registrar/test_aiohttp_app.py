"""An aiohttp app that announces itself, reached through a whole router."""

import pytest

from router.registrar import AnnouncementError, Route
from router.registrar.aiohttp_app import announcing
from tests.registrar.running_app import RunningApp
from tests.support.announce import status_of
from tests.support.nats import NatsServer
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until


def test_app_is_reached_while_it_runs_and_unknown_afterwards(
    nats_server: NatsServer, router: RunningRouter
) -> None:
    with RunningApp("aiohttp", nats_server.port, "app.test") as app:
        wait_until(lambda: status_of(router.port, "app.test") == 200, "the app is routed")
        app.stop()
        assert app.process.returncode == 0
        wait_until(lambda: status_of(router.port, "app.test") == 404, "the route is gone")


def test_draining_app_is_withdrawn_before_it_stops_to_serve(
    nats_server: NatsServer, router: RunningRouter
) -> None:
    with RunningApp("aiohttp", nats_server.port, "app.test", drain_s=6) as app:
        wait_until(lambda: status_of(router.port, "app.test") == 200, "the app is routed")
        app.process.terminate()
        wait_until(lambda: status_of(router.port, "app.test") == 404, "the route is gone")
        assert status_of(app.port, "app.test") == 200
        app.process.communicate(timeout=30)
        assert app.process.returncode == 0


def test_app_serves_without_nats_and_is_routed_once_there_is_one(
    nats_server: NatsServer, router: RunningRouter
) -> None:
    nats_server.kill()
    with RunningApp("aiohttp", nats_server.port, "app.test") as app:
        wait_until(lambda: status_of(app.port, "app.test") == 200, "the app serves")
        nats_server.start()
        wait_until(lambda: status_of(router.port, "app.test") == 200, "the app is routed", timeout_s=30)


def test_malformed_route_is_refused_when_the_app_is_put_together() -> None:
    with pytest.raises(AnnouncementError, match="host is empty"):
        announcing("nats://127.0.0.1", [Route(host="", port=1, uris=["a.test"])])
