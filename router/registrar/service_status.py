"""`/healthz` and `/metrics` of `router register -c`: is it connected, and what does it announce?"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from router.registrar.checks import Outcome
from router.registrar.keeper import KeeperObserver
from router.registrar.observer import Observer
from router.registrar.service_config import ConfiguredRoute
from router.wire.announcement import RouterStart

if TYPE_CHECKING:
    from aiohttp import web


class Figures(Observer, KeeperObserver):
    """Counts what happens. Routes are told apart by name in what concerns their checks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connected_now = Gauge(
            "announcer_nats_connected", "1 while NATS is connected.", registry=self.registry
        )
        self.routes = Gauge("announcer_routes", "Routes, by state.", ["state"], registry=self.registry)
        self._losses = Counter(
            "announcer_nats_disconnects", "Connections to NATS that were lost.", registry=self.registry
        )
        self._routers = Counter(
            "announcer_router_starts", "Routers that started or answered a greeting.", registry=self.registry
        )
        self._changes = Counter(
            "announcer_route_changes", "Routes that came up or went down.", ["to"], registry=self.registry
        )
        self._checks = Counter(
            "announcer_checks", "Health checks, by route and result.", ["route", "result"], registry=self.registry
        )
        self._durations = Histogram(
            "announcer_check_seconds", "How long health checks took.", ["route"], registry=self.registry
        )

    def disconnected(self, reason: str) -> None:
        self._losses.inc()

    def router_heard(self, router: RouterStart, interval_s: float) -> None:
        self._routers.inc()

    def checked(self, configured: ConfiguredRoute, outcome: Outcome) -> None:
        self._checks.labels(configured.name, "healthy" if outcome.healthy else "failed").inc()
        self._durations.labels(configured.name).observe(outcome.took_s)

    def came_up(self, configured: ConfiguredRoute) -> None:
        self._changes.labels("up").inc()

    def went_down(self, configured: ConfiguredRoute, reason: str) -> None:
        self._changes.labels("down").inc()

    def forget(self, name: str) -> None:
        """Show no more of a route that is configured no longer."""
        for result in ("healthy", "failed"):
            _remove(self._checks, name, result)
        _remove(self._durations, name)


def _remove(metric: Counter | Histogram, *labels: str) -> None:
    try:
        metric.remove(*labels)
    except KeyError:
        # It was never counted.
        return


class State:
    """What the listener shows; asked on every request."""

    def __init__(
        self, connected: Callable[[], bool], up: Callable[[], int], all_routes: Callable[[], int]
    ) -> None:
        self.connected = connected
        self.up = up
        self.all_routes = all_routes


async def listen(host: str, port: int, figures: Figures, state: State) -> "web.AppRunner":
    """Serve `/healthz`, 200 while NATS is connected and 503 otherwise, and `/metrics`, until cleaned up.

    Raises:
        OSError: the address cannot be listened on.
    """
    from aiohttp import web

    from router.http_server import set_up

    async def healthz(request: web.Request) -> web.Response:
        connected, up, routes = state.connected(), state.up(), state.all_routes()
        body = {"nats": "connected" if connected else "not connected", "announced": up, "routes": routes}
        return web.json_response(body, status=200 if connected else 503)

    async def metrics(request: web.Request) -> web.Response:
        figures.connected_now.set(state.connected())
        figures.routes.labels("announced").set(state.up())
        figures.routes.labels("withheld").set(state.all_routes() - state.up())
        return web.Response(body=generate_latest(figures.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await set_up(runner)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner
