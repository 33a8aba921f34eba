"""The routing API as a second source of routes of a whole router, with a UAA in front of it (GOROUTER.md §3.6)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.certs import issue, make_ca
from tests.support.announce import status_of
from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.support.platform import Platform
from tests.support.ports import free_port
from tests.support.recorder import RecordingBackend
from tests.support.router import RunningRouter, merged

AUTHORITY = make_ca()
PAIR = issue(AUTHORITY, ["router"], client=True, server=False)

Prepare = Callable[..., RunningRouter]


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    made = Platform(tmp_path, AUTHORITY)
    yield made
    await made.close()


@pytest.fixture
def backend() -> Iterator[RecordingBackend]:
    with RecordingBackend() as running:
        yield running


@pytest.fixture
async def prepare(platform: Platform, tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Prepare]:
    """Make routers configured for the platform, to be started by the test, and stop them after it."""
    made: list[RunningRouter] = []
    ca_file = tmp_path / "uaa-ca.pem"
    ca_file.write_text(AUTHORITY.pair.certificate)
    base = {
        "workers": 1,
        "routing_api": {
            "uri": "https://localhost",
            "port": platform.api_port,
            "ca_certs": AUTHORITY.pair.certificate,
            "cert_chain": PAIR.certificate,
            "private_key": PAIR.private_key,
        },
        "oauth": {
            "token_endpoint": "localhost",
            "port": platform.uaa_port,
            "client_name": "gorouter",
            "client_secret": "wrong-horse",
            "ca_certs": str(ca_file),
        },
        "token_fetcher_retry_interval": "10ms",
        "prune_stale_droplets_interval": "400ms",
    }

    def prepared(changes: dict[str, Any] | None = None) -> RunningRouter:
        router = RunningRouter(tmp_path / f"router-{len(made)}", nats_server.port, merged(base, changes or {}))
        made.append(router)
        return router

    yield prepared
    for each in made:
        await asyncio.to_thread(each.stop)


def route(name: str, port: int, index: int = 1) -> dict[str, Any]:
    tag = {"guid": name, "index": index}
    return {
        "route": name,
        "ip": "127.0.0.1",
        "port": port,
        "ttl": 60,
        "log_guid": "app-guid",
        "modification_tag": tag,
    }


async def fails(router: RunningRouter) -> list[dict[str, Any]]:
    """Start a router that is bound to fail; return its error lines once it has ended with status 1."""
    await asyncio.to_thread(router.start, wait=False)
    assert await asyncio.to_thread(router.wait_exit) == 1
    assert "gorouter.started" not in router.messages()
    return [line for line in router.log if line["log_level"] == 3]


async def routed(router: RunningRouter, host: str, status: int) -> None:
    """Return once the router gives this status for a host; the platform's servers go on meanwhile."""
    found = 0
    async with asyncio.timeout(60):
        while found != status:
            found = await asyncio.to_thread(status_of, router.port, host)


async def test_routes_of_the_api_are_there_from_the_start_and_follow_its_events(
    platform: Platform, prepare: Prepare, backend: RecordingBackend
) -> None:
    await platform.start()
    platform.routes = [route("listed.test", backend.port), route("listed.test/path", backend.port)]
    # No further fetch: it would take away what an event has told and the list does not have.
    router = prepare({"prune_stale_droplets_interval": "2h"})
    await asyncio.to_thread(router.start)
    assert await asyncio.to_thread(status_of, router.port, "listed.test") == 200
    await eventually(lambda: platform.streams, "somebody listens")

    await platform.send("Upsert", route("later.test", backend.port))
    await routed(router, "later.test", 200)
    answered = [line for line in router.access_lines() if line.startswith("later.test") and " 200 " in line]
    assert all('app_id:"app-guid"' in line for line in answered)
    platform.routes = [route("listed.test", backend.port)]
    await platform.send("Delete", route("later.test", backend.port, index=2))
    await routed(router, "later.test", 404)

    form, user = platform.asked[0]
    assert form == {"grant_type": "client_credentials"}
    assert user.startswith("Basic ")
    assert "wrong-horse" not in router.story()


async def test_route_that_is_listed_no_more_goes_with_the_next_fetch(
    platform: Platform, prepare: Prepare, backend: RecordingBackend
) -> None:
    await platform.start()
    platform.routes = [route("kept.test", backend.port), route("gone.test", backend.port)]
    router = prepare()
    await asyncio.to_thread(router.start)
    platform.routes = [route("kept.test", backend.port)]
    await routed(router, "gone.test", 404)
    await routed(router, "kept.test", 200)


async def test_api_that_asks_for_no_token_is_asked_without_uaa(
    platform: Platform, prepare: Prepare, tmp_path: Path, backend: RecordingBackend
) -> None:
    open_to_all = Platform(tmp_path, AUTHORITY, without_auth=True)
    await open_to_all.start_api()
    open_to_all.routes = [route("listed.test", backend.port)]
    router = prepare({"routing_api": {"port": open_to_all.api_port, "auth_disabled": True}, "oauth": {"port": -1}})
    await asyncio.to_thread(router.start)
    assert "using-noop-token-fetcher" in router.messages()
    await routed(router, "listed.test", 200)
    assert platform.asked == []
    await open_to_all.close()


@pytest.mark.parametrize("port", [-1, 0])
async def test_uaa_without_tls_ends_the_start(platform: Platform, prepare: Prepare, port: int) -> None:
    await platform.start()
    errors = await fails(prepare({"oauth": {"port": port}}))
    assert any("UAA client requires TLS enabled" in str(line) for line in errors)


async def test_token_that_cannot_be_had_ends_the_start(platform: Platform, prepare: Prepare) -> None:
    await platform.start()
    platform.uaa_statuses = [503] * 3
    errors = await fails(prepare())
    assert "unable-to-fetch-token" in [line["message"] for line in errors]
    assert len(platform.asked) == 3, "token_fetcher_max_retries"
    assert "wrong-horse" not in str(errors)


async def test_credentials_that_uaa_refuses_end_the_start_at_once(platform: Platform, prepare: Prepare) -> None:
    await platform.start()
    platform.uaa_statuses = [401] * 3
    errors = await fails(prepare())
    assert "unable-to-fetch-token" in [line["message"] for line in errors]
    assert len(platform.asked) == 1


async def test_api_that_is_not_there_ends_the_start(platform: Platform, prepare: Prepare) -> None:
    await platform.start_uaa()
    errors = await fails(prepare({"routing_api": {"port": free_port()}}))
    (line,) = [line for line in errors if line["message"] == "routing-api-connection-failed"]
    assert line["source"] == "gorouter.stdout.route-fetcher"
