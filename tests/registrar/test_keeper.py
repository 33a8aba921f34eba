"""One configured route, announced while its check succeeds, against a real nats-server."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs
from nats.aio.client import Client
from nats.aio.msg import Msg

from router.registrar import Announcer, Route
from router.registrar.checks import Outcome
from router.registrar.keeper import Keeper, KeeperObserver
from router.registrar.service_config import Check, ConfiguredRoute, ScriptProbe
from tests.registrar.test_checks import script
from tests.support.nats import NatsServer, settle

INTERVAL_S = 0.2


class Said(KeeperObserver):
    """Tells a test what came of the checks, one event after the other."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[str] = asyncio.Queue()

    def checked(self, configured: ConfiguredRoute, outcome: Outcome) -> None:
        self.events.put_nowait("healthy" if outcome.healthy else f"ill: {outcome.reason}")

    def came_up(self, configured: ConfiguredRoute) -> None:
        self.events.put_nowait(f"up {configured.name}")

    def went_down(self, configured: ConfiguredRoute, reason: str) -> None:
        self.events.put_nowait(f"down {configured.name}: {reason}")

    async def until(self, event: str) -> list[str]:
        """Return what was told up to an event that begins so."""
        told: list[str] = []
        async with asyncio.timeout(60):
            while not told or not told[-1].startswith(event):
                told.append(await self.events.get())
        return told


@pytest.fixture
async def announcer(nats_server: NatsServer) -> AsyncIterator[Announcer]:
    async with Announcer(f"nats://127.0.0.1:{nats_server.port}") as running:
        yield running


@pytest.fixture
async def heard(nats_server: NatsServer) -> AsyncIterator[list[str]]:
    """Subjects heard so far, and the uri of each."""
    client = Client()
    await client.connect(f"nats://127.0.0.1:{nats_server.port}")
    messages: list[str] = []

    async def take(message: Msg) -> None:
        if message.data.startswith(b"{"):
            messages.append(f"{message.subject.removeprefix('router.')} {json.loads(message.data)['uris'][0]}")

    await client.subscribe("router.*", cb=take)
    await settle(client)
    yield messages
    await client.close()


def configured(
    name: str, probe: ScriptProbe | None, *, timeout_s: float = 10.0, failures: int = 1
) -> ConfiguredRoute:
    check = (
        None if probe is None else Check(name="c", probe=probe, timeout_s=timeout_s, failure_threshold=failures)
    )
    route = Route(host="10.0.0.1", port=1, uris=[f"{name}.test"])
    return ConfiguredRoute(name=name, route=route, interval_s=INTERVAL_S, check=check)


async def heard_count(heard: list[str], message: str, count: int) -> None:
    async with asyncio.timeout(60):
        while heard.count(message) < count:  # noqa: ASYNC110 (the event is a message on another connection)
            await asyncio.sleep(0.01)


async def test_route_without_a_check_is_announced_until_it_is_stopped(
    announcer: Announcer, heard: list[str]
) -> None:
    keeper = Keeper(configured("a", None), announcer, KeeperObserver(), 5)
    keeper.start()
    await heard_count(heard, "register a.test", 3)
    assert keeper.up
    await keeper.stop()
    await heard_count(heard, "unregister a.test", 1)
    assert (keeper.up, announcer.announced) == (False, [])


async def test_route_follows_its_check(tmp_path: Path, announcer: Announcer, heard: list[str]) -> None:
    said, healthy = Said(), tmp_path / "healthy"
    keeper = Keeper(configured("a", script(tmp_path, f"test -e {healthy}")), announcer, said, 2)
    keeper.start()
    assert (await said.until("down"))[-1] == "down a: exit status 1"
    # Twice, as often as the limit allows, though nothing was ever announced: a predecessor may have done that.
    for _ in range(3):
        await said.until("ill")
    await heard_count(heard, "unregister a.test", 2)
    assert heard.count("unregister a.test") == 2
    _touch(healthy)
    await said.until("up")
    await heard_count(heard, "register a.test", 2)
    _touch(healthy, there=False)
    await said.until("down")
    await heard_count(heard, "unregister a.test", 3)
    assert announcer.announced == []
    await keeper.stop()


async def test_slow_check_delays_no_other_and_ends_with_its_route(
    tmp_path: Path, announcer: Announcer, heard: list[str]
) -> None:
    said = Said()
    slow = Keeper(configured("slow", script(tmp_path, "sleep 1000"), timeout_s=500), announcer, said, 5)
    quick = Keeper(configured("quick", ScriptProbe("/bin/true")), announcer, said, 5)
    slow.start()
    quick.start()
    for _ in range(3):
        await said.until("healthy")
    await heard_count(heard, "register quick.test", 1)
    async with asyncio.timeout(60):
        await asyncio.gather(slow.stop(), quick.stop())
    assert [message for message in heard if "slow" in message] == []


async def test_one_failure_of_several_allowed_changes_nothing(
    tmp_path: Path, announcer: Announcer, heard: list[str]
) -> None:
    said, ill = Said(), tmp_path / "ill"
    # Fails once: the file is gone afterwards.
    probe = script(tmp_path, f"! rm {ill} 2>/dev/null")
    keeper = Keeper(configured("a", probe, failures=2), announcer, said, 5)
    keeper.start()
    await said.until("up")
    _touch(ill)
    told = await said.until("ill")
    told += await said.until("healthy")
    await keeper.stop()
    assert not any(event.startswith("down") for event in told)


def _touch(file: Path, *, there: bool = True) -> None:
    if there:
        file.touch()
    else:
        file.unlink()


# Handing over.


def changed(before: ConfiguredRoute, probe: ScriptProbe | None = None, **route: object) -> ConfiguredRoute:
    check = None if probe is None else Check(name="c", probe=probe, timeout_s=10.0)
    return structs.replace(before, route=structs.replace(before.route, **route), check=check)


async def test_heir_takes_over_without_a_gap(announcer: Announcer, heard: list[str]) -> None:
    before = configured("a", None)
    keeper, heir = (Keeper(each, announcer, KeeperObserver(), 5) for each in (before, changed(before, weight=3)))
    keeper.start()
    await heard_count(heard, "register a.test", 1)
    await keeper.hand_over(heir)
    assert (keeper.up, heir.up, len(announcer.announced)) == (False, True, 1)
    heir.start()
    async with asyncio.timeout(60):
        while [getattr(route, "weight", 0) for route in announcer.announced] != [3]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert heard.count("unregister a.test") == 0
    await heir.stop()
    await heard_count(heard, "unregister a.test", 1)


async def test_heir_that_is_found_ill_withdraws_what_it_took_over(
    announcer: Announcer, heard: list[str], tmp_path: Path
) -> None:
    before = configured("a", None)
    said = Said()
    keeper = Keeper(before, announcer, KeeperObserver(), 5)
    heir = Keeper(changed(before, script(tmp_path, "exit 1"), weight=3), announcer, said, 5)
    keeper.start()
    await heard_count(heard, "register a.test", 1)
    await keeper.hand_over(heir)
    heir.start()
    await said.until("down a")
    await heard_count(heard, "unregister a.test", 1)
    assert announcer.announced == []
    await heir.stop()


async def test_heir_at_another_address_takes_over_nothing(announcer: Announcer, heard: list[str]) -> None:
    before = configured("a", None)
    keeper, heir = (Keeper(each, announcer, KeeperObserver(), 5) for each in (before, changed(before, port=2)))
    keeper.start()
    await heard_count(heard, "register a.test", 1)
    await keeper.hand_over(heir)
    assert (heir.up, announcer.announced) == (False, [])
    await heard_count(heard, "unregister a.test", 1)


async def test_keeper_that_announces_nothing_has_nothing_to_hand_over(announcer: Announcer) -> None:
    before = configured("a", None)
    keeper, heir = (Keeper(each, announcer, KeeperObserver(), 5) for each in (before, changed(before, weight=3)))
    await keeper.hand_over(heir)
    assert not heir.up
