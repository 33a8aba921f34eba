"""What the status listener serves; `test_service` sees it beside the whole command."""

import aiohttp
import pytest

from router.registrar import Route
from router.registrar.checks import Outcome
from router.registrar.service_config import ConfiguredRoute
from router.registrar.service_status import Figures, State, listen
from tests.support.ports import free_port

ROUTE = ConfiguredRoute(name="a", route=Route(host="h", port=1, uris=["a.test"]), interval_s=1.0)


@pytest.mark.parametrize(("connected", "status"), [(True, 200), (False, 503)])
async def test_health_is_that_of_the_connection(connected: bool, status: int) -> None:
    port = free_port()
    runner = await listen("127.0.0.1", port, Figures(), State(lambda: connected, lambda: 1, lambda: 3))
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as response:
        assert response.status == status
        assert (await response.json())["routes"] == 3
    await runner.cleanup()


async def test_address_that_is_taken_is_told() -> None:
    port = free_port()
    state = State(lambda: True, lambda: 0, lambda: 0)
    runner = await listen("127.0.0.1", port, Figures(), state)
    with pytest.raises(OSError, match="already in use"):
        await listen("127.0.0.1", port, Figures(), state)
    await runner.cleanup()


def test_route_that_is_configured_no_longer_is_forgotten() -> None:
    figures = Figures()
    figures.forget("never counted")
    figures.checked(ROUTE, Outcome(True, "", 0.1))
    labels = {"route": "a", "result": "healthy"}
    assert figures.registry.get_sample_value("announcer_checks_total", labels) == 1.0
    figures.forget("a")
    assert figures.registry.get_sample_value("announcer_checks_total", labels) is None
    assert figures.registry.get_sample_value("announcer_check_seconds_count", {"route": "a"}) is None
