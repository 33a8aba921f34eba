"""What control tells an agent, heard over a real socket."""

import asyncio
from collections.abc import Iterator

import pytest

from router.control.metron import STEADY, Metron
from router.wire.dropsonde import Encoder
from tests.control.reporting import SECOND_NS, Reporting
from tests.support.dropsonde import HearingAgent, hearing_agent


class Platform:
    """A metron at one end and what control has at the other; the clock moves as told."""

    def __init__(self, hearing: HearingAgent) -> None:
        self.heard = hearing.heard
        self.reporting = Reporting(counters=(lambda: {"token_fetch_errors": 2},))
        self.agent = hearing.sender()
        clock = self.reporting.clock
        self.metron = Metron(
            self.reporting.figures, self.agent, Encoder("gorouter"), clock, lambda: int(clock() * SECOND_NS)
        )

    def seconds(self, count: int) -> None:
        for _ in range(count):
            self.reporting.now += 1
            self.metron.tick()

    def counters(self) -> dict[str, int]:
        return {each.counterEvent.name: each.counterEvent.delta for each in self.heard() if each.eventType == 7}


@pytest.fixture
def platform() -> Iterator[Platform]:
    with hearing_agent() as hearing:
        made = Platform(hearing)
        yield made
        made.metron.close()


def test_up_time_is_told_every_second_and_the_rest_every_five(platform: Platform) -> None:
    platform.seconds(4)
    told = [(each.valueMetric.name, each.valueMetric.value, each.valueMetric.unit) for each in platform.heard()]
    platform.seconds(1)

    assert told == [("uptime", second, "seconds") for second in (1, 2, 3, 4)]
    assert len(platform.counters()) > len(STEADY)


def test_late_ticks_do_not_make_reports_rarer(platform: Platform) -> None:
    reports = 0
    for _ in range(10):
        platform.reporting.now += 5.3
        platform.metron.tick()
        reports += "responses" in platform.counters()

    assert reports == 10


def test_values_have_gorouters_names_and_units(platform: Platform) -> None:
    platform.reporting.register("a.test")
    platform.seconds(5)

    values = {each.valueMetric.name: each.valueMetric for each in platform.heard() if each.eventType == 6}
    assert {name: value.unit for name, value in values.items()} == {
        "uptime": "seconds",
        "total_routes": "",
        "ms_since_last_registry_update": "ms",
        "file_descriptors": "file",
        "buffered_messages": "message",
        "total_dropped_messages": "message",
    }
    assert (values["total_routes"].value, values["ms_since_last_registry_update"].value) == (1, 5000)
    assert values["file_descriptors"].value > 0


def test_envelopes_name_gorouter_and_the_time(platform: Platform) -> None:
    platform.seconds(1)

    [envelope] = platform.heard()
    assert (envelope.origin, envelope.timestamp) == ("gorouter", 1001 * SECOND_NS)


def test_counters_are_told_by_their_growth_and_when_they_stand_still(platform: Platform) -> None:
    for total in (3, 5, 5):
        platform.reporting.worker(1, {"bad_gateways": total})
        platform.seconds(5)

    told = [each.counterEvent.delta for each in platform.heard() if each.counterEvent.name == "bad_gateways"]
    assert told == [3, 2, 0]


def test_counters_have_gorouters_names(platform: Platform) -> None:
    reporting = platform.reporting
    figures = {"total_requests\troute-emitter": 2, "total_requests\tdea-1": 1, "total_requests\t": 4}
    reporting.worker(1, {"total_requests": 7, "responses_2xx": 5, "responses_xxx": 1, **figures})
    reporting.register("a.test", "route-emitter")
    reporting.register("b.test", host="10.0.0.2")
    platform.seconds(5)
    told = platform.counters()

    assert set(STEADY) <= set(told)
    assert {name: told[name] for name in told if name not in STEADY} == {
        "requests.route-emitter": 2,
        "requests.dea-1": 1,
        "routed_app_requests": 1,
        "responses": 6,
        "responses.2xx": 5,
        "responses.3xx": 0,
        "responses.4xx": 0,
        "responses.5xx": 0,
        "responses.xxx": 1,
        "registry_message": 1,
        "registry_message.route-emitter": 1,
        "unregistry_message": 0,
    }
    assert (told["total_requests"], told["token_fetch_errors"]) == (7, 2)


def test_registration_latency_is_told_as_it_is_measured(platform: Platform) -> None:
    platform.reporting.tally.on_latency = platform.metron.registration_latency
    platform.reporting.now += 30
    platform.reporting.register("a.test", updated_at_ns=int(1029.9975 * SECOND_NS))

    [envelope] = platform.heard()
    value = envelope.valueMetric
    assert (value.name, value.value, value.unit) == ("route_registration_latency", pytest.approx(2.5), "ms")


def test_what_grew_while_nobody_listened_is_not_told_later(platform: Platform) -> None:
    platform.agent.silent_until = 1006
    platform.reporting.worker(1, {"bad_gateways": 1000})
    platform.seconds(10)

    assert platform.counters()["bad_gateways"] == 0
    assert platform.metron.figures()["metron_datagrams_lost"] > len(STEADY)


async def test_telling_goes_on_until_it_is_cancelled(platform: Platform) -> None:
    running = asyncio.create_task(platform.metron.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    assert [each.valueMetric.name for each in platform.heard()] == ["uptime"]
