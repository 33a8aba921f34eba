"""The routing API as a source, against a real UAA-like and a real API-like server over TLS."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.certs import Authority, issue, make_ca
from router.config.schema import Config
from router.config.sections import OAuth, RoutingApi
from router.control import routing_api
from router.control.registry_log import make_registry
from router.control.routing_api import RoutingApiError, RoutingApiSource, is_configured
from router.log import DEBUG, Logger
from tests.support.eventually import eventually
from tests.support.platform import Platform
from tests.support.ports import free_port
from tests.support.processes import open_sockets

AUTHORITY = make_ca()
PAIR = issue(AUTHORITY, ["router"], client=True, server=False)


def route(name: str, index: int = 1, *, port: int = 3000, guid: str = "", **fields: Any) -> dict[str, Any]:
    tag = {"guid": guid or name, "index": index}
    return {"route": name, "ip": "10.0.0.1", "port": port, "ttl": 60, "modification_tag": tag, **fields}


class Following:
    """A source with its registry, and everything it logs."""

    def __init__(self, config: Config) -> None:
        self.lines: list[Any] = []
        self.changes: list[Any] = []
        logger = Logger(level=DEBUG, sink=lambda line: self.lines.append(msgspec.json.decode(line)))
        self.registry = make_registry(config, logger)
        self.source = RoutingApiSource(config, self.registry, logger, on_changes=self._take)

    def _take(self) -> None:
        self.changes += self.registry.take_changes()

    def table(self) -> dict[str, list[str]]:
        return {key: [one["address"] for one in endpoints] for key, endpoints in self.document().items()}

    def document(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = msgspec.json.decode(b"".join(self.registry.routes_json()))
        return found

    def logged(self, message: str) -> list[Any]:
        return [line["data"] for line in self.lines if line["message"] == message]


Configure = Callable[..., Config]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_api, "EVENTS_PAUSE_S", 0.01)
    monkeypatch.setattr(routing_api, "FETCH_PAUSE_S", 0.01)


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    made = Platform(tmp_path, AUTHORITY)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def configure(platform: Platform, tmp_path: Path) -> Configure:
    """Make a configuration for the platform; keys may be replaced."""
    ca_file = tmp_path / "uaa-ca.pem"
    ca_file.write_text(AUTHORITY.pair.certificate)
    oauth = {"token_endpoint": "localhost", "port": platform.uaa_port, "ca_certs": str(ca_file)}

    def configured(api: dict[str, Any] | None = None, uaa: dict[str, Any] | None = None, **keys: Any) -> Config:
        return Config(
            routing_api=RoutingApi(**{**api_keys(platform), **(api or {})}),
            oauth=OAuth(client_name="router", client_secret="secret", **{**oauth, **(uaa or {})}),
            token_fetcher_retry_interval=0.0,
            **keys,
        )

    return configured


def api_keys(platform: Platform, authority: Authority = AUTHORITY) -> dict[str, Any]:
    return {
        "uri": "https://localhost",
        "port": platform.api_port,
        "ca_certs": authority.pair.certificate,
        "cert_chain": PAIR.certificate,
        "private_key": PAIR.private_key,
    }


@pytest.fixture
async def following(configure: Configure) -> AsyncIterator[Following]:
    """A source that is not started yet and fetches only when events may have been missed."""
    made = Following(configure())
    yield made
    await made.source.close()


@pytest.fixture
async def polling(configure: Configure) -> AsyncIterator[Following]:
    """A source that is not started yet and fetches all the time."""
    made = Following(configure(prune_stale_droplets_interval=0.04))
    yield made
    await made.source.close()


async def listening(following: Following, platform: Platform) -> None:
    """Start, and return when events are heard and the fetch for those missed before is over."""
    await following.source.start()
    await eventually(lambda: platform.streams, "a subscription")
    await eventually(lambda: platform.fetches == 2, "the fetch after it")


# The whole list.


async def test_routes_are_in_the_table_when_start_returns(platform: Platform, following: Following) -> None:
    platform.routes = [
        route("a.test/x", log_guid="app-guid", route_service_url="https://rs.test"),
        route("b.test", port=1),
    ]
    await following.source.start()

    assert following.table() == {"a.test/x": ["10.0.0.1:3000"], "b.test": ["10.0.0.1:1"]}
    [shown] = following.document()["a.test/x"]
    assert (shown["tls"], shown["ttl"]) == (False, 60)
    assert (shown["server_cert_domain_san"], shown["route_service_url"]) == ("app-guid", "https://rs.test")
    assert following.changes
    [registered] = [line for line in following.logged("endpoint-registered") if line["uri"] == "a.test/x"]
    assert registered["application_id"] == "app-guid"
    assert registered["modification_tag"] == {"guid": "a.test/x", "index": 1}


async def test_list_is_fetched_again_and_what_it_lacks_goes(platform: Platform, polling: Following) -> None:
    platform.routes = [route("a.test"), route("a.test", port=1), route("b.test")]
    await polling.source.start()
    platform.routes = [route("a.test"), route("c.test")]

    await eventually(
        lambda: polling.table() == {"a.test": ["10.0.0.1:3000"], "c.test": ["10.0.0.1:3000"]}, "the new list"
    )


async def test_newer_tag_replaces_and_older_does_not(platform: Platform, polling: Following) -> None:
    platform.routes = [route("a.test", 5, log_guid="five")]
    await polling.source.start()
    platform.routes = [route("a.test", 4, log_guid="four")]
    fetches = platform.fetches
    await eventually(lambda: platform.fetches >= fetches + 2, "two fetches")
    assert polling.document()["a.test"][0]["server_cert_domain_san"] == "five"

    platform.routes = [route("a.test", 6, log_guid="six")]
    await eventually(lambda: polling.document()["a.test"][0]["server_cert_domain_san"] == "six", "the newer one")
    platform.routes = [route("a.test", 1, guid="another", log_guid="seven")]
    await eventually(lambda: polling.document()["a.test"][0]["server_cert_domain_san"] == "seven", "another guid")


async def test_bad_routes_cost_the_good_ones_nothing(platform: Platform, following: Following) -> None:
    platform.routes = [route("a.test"), {"route": 1}, "nonsense", route("b.test", port=0), route("c.test")]
    await following.source.start()

    assert sorted(following.table()) == ["a.test", "c.test"]
    assert len(following.logged("validation-error")) == 3


async def test_many_bad_routes_do_not_flood_the_log(platform: Platform, following: Following) -> None:
    platform.routes = [{}] * 1000
    await following.source.start()

    assert len(following.logged("validation-error")) <= 25


async def test_large_list_leaves_turns_to_others(platform: Platform, following: Following) -> None:
    platform.routes = [route(f"app-{number}.test") for number in range(2000)]
    sizes: set[int] = set()

    async def watch() -> None:
        while True:
            sizes.add(following.registry.total_routes)
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    await following.source.start()
    watcher.cancel()

    assert following.registry.total_routes == 2000
    assert len(sizes) > 5


async def test_failing_fetches_keep_the_table_and_are_told(platform: Platform, polling: Following) -> None:
    platform.routes = [route("a.test")]
    await polling.source.start()
    platform.refuse_with = 500
    await eventually(lambda: polling.logged("routing-api-fetch-failed"), "the failure")

    assert polling.table() == {"a.test": ["10.0.0.1:3000"]}
    assert "status 500" in polling.logged("routing-api-fetch-failed")[0]["error"]
    platform.refuse_with = 0
    platform.routes = [route("b.test")]
    await eventually(lambda: list(polling.table()) == ["b.test"], "the next list")


async def test_list_that_cannot_be_read_keeps_the_table(platform: Platform, polling: Following) -> None:
    platform.routes = [route("a.test")]
    await polling.source.start()
    platform.routes = "<html>"
    await eventually(lambda: polling.logged("routing-api-fetch-failed"), "the failure")

    assert list(polling.table()) == ["a.test"]


# Events.


async def test_events_change_the_table(platform: Platform, following: Following) -> None:
    await listening(following, platform)
    await platform.send("Upsert", route("a.test"), route("b.test"))
    await eventually(lambda: sorted(following.table()) == ["a.test", "b.test"], "both routes")
    await platform.send("Delete", route("a.test"))
    await eventually(lambda: list(following.table()) == ["b.test"], "one route")


async def test_older_delete_removes_nothing(platform: Platform, following: Following) -> None:
    await listening(following, platform)
    await platform.send("Upsert", route("a.test", 5))
    await platform.send("Delete", route("a.test", 4))
    await platform.send("Upsert", route("z.test"))
    await eventually(lambda: "z.test" in following.table(), "the last event")

    assert "a.test" in following.table()


async def test_bad_events_cost_the_good_ones_nothing(platform: Platform, following: Following) -> None:
    await listening(following, platform)
    await platform.send("Upsert", "not json", {"route": "x"})
    await platform.send("Rename", route("r.test"))
    await platform.send("Upsert", route("a.test"))

    await eventually(lambda: list(following.table()) == ["a.test"], "the good route")
    assert len(following.logged("validation-error")) == 3
    assert platform.streams_ever == 1


async def test_stream_that_ends_is_asked_for_again_and_what_was_missed_is_fetched(
    platform: Platform, following: Following
) -> None:
    await listening(following, platform)
    platform.routes = [route("missed.test")]
    platform.hang_up()

    await eventually(lambda: list(following.table()) == ["missed.test"], "the missed route")
    assert platform.streams_ever >= 2


async def test_failing_subscriptions_are_counted(platform: Platform, following: Following) -> None:
    await listening(following, platform)
    await platform.close()
    await eventually(lambda: following.source.figures()["subscribe_events_errors"] >= 2, "failures")
    assert following.logged("routing-api-events-failed")

    platform.routes = [route("a.test")]
    await platform.start()
    await eventually(lambda: list(following.table()) == ["a.test"], "the route, after the return")


async def test_event_without_end_ends_the_stream_only(platform: Platform, following: Following) -> None:
    await listening(following, platform)
    for stream in list(platform.streams):
        await stream.write(b"data: " + b"x" * (2 * 1024 * 1024))

    await eventually(lambda: platform.streams_ever == 2, "another subscription")
    assert "more than" in following.logged("routing-api-events-failed")[0]["error"]


async def test_event_counts_for_more_than_the_fetch_it_overtook(platform: Platform, following: Following) -> None:
    platform.routes = [route("deleted.test"), route("kept.test")]
    await listening(following, platform)
    platform.fetching.clear()
    platform.hold_fetch = asyncio.Event()
    platform.hang_up()
    await platform.fetching.wait()
    await eventually(lambda: platform.streams, "the next subscription")
    await platform.send("Delete", route("deleted.test"))
    await platform.send("Upsert", route("new.test"))
    await eventually(lambda: "new.test" in following.table(), "the events")
    platform.hold_fetch.set()
    await eventually(lambda: platform.fetches == 3, "the fetch that was overtaken")
    await platform.send("Upsert", route("z.test"))
    await eventually(lambda: "z.test" in following.table(), "an event after it")

    assert sorted(following.table()) == ["kept.test", "new.test", "z.test"]


# Tokens.


async def test_expired_token_is_replaced_by_a_new_one(platform: Platform, polling: Following) -> None:
    await polling.source.start()
    platform.tokens.append("the API knows the old one no more")
    platform.routes = [route("a.test")]

    await eventually(lambda: list(polling.table()) == ["a.test"], "a fetch with a new token")
    assert polling.logged("routing-api-fetch-failed") == []


async def test_tokens_that_cannot_be_had_are_counted(platform: Platform, polling: Following) -> None:
    await polling.source.start()
    platform.tokens.append("the API knows the old one no more")
    platform.uaa_statuses = [401] * 1000

    await eventually(lambda: polling.source.figures()["token_fetch_errors"], "a failure")


async def test_without_authentication_no_token_is_asked_for(configure: Configure, tmp_path: Path) -> None:
    open_platform = Platform(tmp_path, AUTHORITY, without_auth=True)
    await open_platform.start()
    open_platform.routes = [route("a.test")]
    following = Following(configure({"port": open_platform.api_port, "auth_disabled": True}, {"port": 0}))
    await following.source.start()

    assert list(following.table()) == ["a.test"]
    assert following.logged("using-noop-token-fetcher") == [{}]
    assert open_platform.asked == []
    assert following.source.figures() == {"token_fetch_errors": 0, "subscribe_events_errors": 0}
    await following.source.close()
    await open_platform.close()


# Starts that fail.


async def failed_start(config: Config) -> tuple[str, Following]:
    following = Following(config)
    with pytest.raises(RoutingApiError) as caught:
        await following.source.start()
    return str(caught.value), following


async def test_start_without_token_fails(platform: Platform, configure: Configure) -> None:
    platform.uaa_statuses = [401]
    text, following = await failed_start(configure())

    assert text.startswith("unable-to-fetch-token: ")
    [line] = following.logged("unable-to-fetch-token")
    assert "status 401" in line["error"]


async def test_start_with_a_uaa_without_tls_fails(configure: Configure) -> None:
    text, following = await failed_start(configure(uaa={"port": 0}))

    assert "UAA client requires TLS enabled" in text
    assert "UAA client requires TLS enabled" in following.logged("unable-to-fetch-token")[0]["error"]


def refuse(platform: Platform) -> dict[str, Any]:
    platform.refuse_with = 503
    return {}


def redirect(platform: Platform) -> dict[str, Any]:
    platform.refuse_with = 302
    return {}


def answer_nonsense(platform: Platform) -> dict[str, Any]:
    platform.routes = "{}"
    return {}


SITUATIONS: dict[str, Callable[[Platform], dict[str, Any]]] = {
    "status": refuse,
    "nonsense": answer_nonsense,
    "nobody there": lambda platform: {"port": free_port()},
    "other authority": lambda platform: api_keys(platform, make_ca("other")),
    "no URI": lambda platform: {"uri": "nonsense:"},
    "redirection": redirect,
    "bad key": lambda platform: {"private_key": "none"},
}


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_start_without_an_api_that_answers_fails(
    platform: Platform, configure: Configure, situation: str
) -> None:
    config = configure(SITUATIONS[situation](platform))
    sockets = open_sockets(os.getpid())
    text, following = await failed_start(config)

    assert text.startswith("routing-api-connection-failed: ")
    [line] = following.logged("routing-api-connection-failed")
    assert line["error"]
    await eventually(lambda: open_sockets(os.getpid()) <= sockets, "sockets closed")


# The end.


async def test_close_ends_everything_and_keeps_the_table(platform: Platform, configure: Configure) -> None:
    platform.routes = [route("a.test")]
    before = asyncio.all_tasks()
    following = Following(configure())
    await listening(following, platform)
    await following.source.close()
    await following.source.close()

    await eventually(lambda: not platform.streams, "the subscription ended")
    await eventually(lambda: asyncio.all_tasks() <= before, "tasks ended")
    assert list(following.table()) == ["a.test"]


async def test_close_does_not_wait_for_an_answer(platform: Platform, polling: Following) -> None:
    await polling.source.start()
    platform.fetching.clear()
    platform.hold_fetch = asyncio.Event()
    await platform.fetching.wait()
    await polling.source.close()
    platform.hold_fetch.set()


def test_api_is_configured_by_uri_and_port_together() -> None:
    assert is_configured(RoutingApi(uri="https://api", port=3001))
    assert not is_configured(RoutingApi(uri="https://api"))
    assert not is_configured(RoutingApi(port=3001))


def test_interval_of_fetches_is_half_the_prune_interval_or_the_default() -> None:
    following = Following(Config(prune_stale_droplets_interval=30.0))
    assert following.source.fetch_every_s == 15.0
    following.source.set_prune_interval(0.0)
    assert following.source.fetch_every_s == routing_api.FETCH_EVERY_S


async def test_routes_survive_json_of_any_spelling(platform: Platform, following: Following) -> None:
    platform.routes = json.dumps([route("ü.test")], indent=2, ensure_ascii=False)
    await following.source.start()

    assert list(following.table()) == ["ü.test"]
