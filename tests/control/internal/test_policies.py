import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from router.config.internal import Internal, InternalPolicies
from router.control.internal.hub import InternalHub
from router.control.internal.policies import BookKeeper, Freshness, SourceState, make_policies
from router.control.internal.policies_file import PolicyFile
from router.control.internal.policies_jetstream import PolicyBucket
from router.log import Logger
from router.routing.internal_records import PutPolicies
from tests.support.bucket import policy
from tests.support.eventually import eventually

NOW = 1_700_000_000_000_000_000


def make_freshness(keep_s: float) -> tuple[Freshness, InternalHub, list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []
    hub = InternalHub(lambda: None)
    return Freshness("a source", hub, keep_s, Logger(sink=lambda line: lines.append(json.loads(line)))), hub, lines


async def test_nothing_is_relied_on_before_the_first_set() -> None:
    freshness, hub, lines = make_freshness(0.0)
    freshness.lost("not there")
    assert freshness.state is SourceState.WAITING
    assert freshness.status() == {"source": "a source", "state": "waiting", "age_s": None, "error": "not there"}
    await asyncio.sleep(0)
    assert not hub.table.policies_ready
    assert [line["message"] for line in lines] == ["policies-cannot-be-read"]


async def test_a_set_that_was_read_is_relied_on() -> None:
    freshness, hub, lines = make_freshness(0.0)
    freshness.read()
    freshness.read()
    assert hub.table.policies_ready
    assert [line["message"] for line in lines] == ["policies-read"]


async def test_age_of_a_set_counts_from_its_loss() -> None:
    now = 100.0
    freshness = Freshness("a source", InternalHub(lambda: None), 9.0, Logger(sink=lambda _: None), lambda: now)
    assert freshness.age_s is None
    freshness.read()
    now = 200.0
    assert freshness.age_s == 0.0
    freshness.lost("gone")
    now = 203.0
    freshness.lost("still gone")
    assert freshness.age_s == 3.0
    freshness.close()


async def test_a_lost_source_is_denied_after_its_time_and_back_at_once() -> None:
    freshness, hub, lines = make_freshness(0.01)
    freshness.read()
    freshness.lost("gone")
    assert (freshness.state, hub.table.policies_ready) == (SourceState.LOST, True)
    await eventually(lambda: freshness.state is SourceState.EXPIRED, "the set to expire")
    assert not hub.table.policies_ready
    freshness.lost("gone for good")
    assert freshness.state is SourceState.EXPIRED
    freshness.read()
    assert (freshness.state, hub.table.policies_ready, freshness.error) == (SourceState.CURRENT, True, "")
    assert [line["message"] for line in lines] == [
        "policies-read",
        "policies-cannot-be-read",
        "policies-expired",
        "policies-cannot-be-read",
        "policies-read",
    ]


async def test_a_source_that_is_back_in_time_never_expires() -> None:
    freshness, hub, _ = make_freshness(0.02)
    freshness.read()
    freshness.lost("gone")
    freshness.read()
    await asyncio.sleep(0.04)
    assert hub.table.policies_ready


async def test_the_time_counts_from_the_first_failure() -> None:
    freshness, hub, _ = make_freshness(0.02)
    freshness.read()
    expired = False
    for attempt in range(1000):
        freshness.lost(f"attempt {attempt}")
        await asyncio.sleep(0.001)
        expired = not hub.table.policies_ready
        if expired:
            break
    assert expired


async def test_close_leaves_things_as_they_are() -> None:
    freshness, hub, _ = make_freshness(0.0)
    freshness.read()
    freshness.lost("gone")
    freshness.close()
    await asyncio.sleep(0.01)
    assert hub.table.policies_ready


def test_the_hub_hears_only_of_sources_that_differ() -> None:
    hub = InternalHub(lambda: None)
    keeper = BookKeeper(hub)
    keeper.replace([policy("a", "b"), policy("c", "d")], NOW)
    assert len(hub.take_changes()) == 2
    keeper.replace([policy("c", "d"), policy("a", "e")], NOW)
    assert hub.take_changes() == [PutPolicies("a", [policy("a", "e")])]
    assert keeper.policies == [policy("a", "e"), policy("c", "d")]
    assert set(keeper.tags) == {"a", "c", "d", "e"}
    keeper.replace([], NOW)
    assert hub.table.sources() == []


@pytest.mark.parametrize(("source", "made"), [("jetstream", PolicyBucket), ("file", PolicyFile)])
def test_the_configuration_names_the_source(tmp_path: Path, source: str, made: type) -> None:
    policies = InternalPolicies(source=source, file=str(tmp_path / "policies.yml"))
    found = make_policies(Internal(policies=policies), InternalHub(lambda: None), Logger())
    assert isinstance(found, made)
    assert found.writable is (source == "jetstream")
