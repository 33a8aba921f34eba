"""Availability zones, from the configuration and the announcements to the choice."""

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.ports import free_port
from tests.support.recorder import RecordingBackend, named


@pytest.fixture(scope="module")
def zoned(start_live: StartLive) -> Live:
    config = {
        "zone": "z1",
        "balancing_algorithm_az_preference": "locally-optimistic",
        "backends": {"max_attempts": 3},
    }
    return start_live(config)


def answers(live: Live, host: str, count: int) -> set[bytes]:
    with live.client() as client:
        return {client.get(host=host).body for _ in range(count)}


def test_requests_stay_in_the_zone_of_the_router(zoned: Live) -> None:
    host = zoned.host()
    with RecordingBackend(named("here")) as here, RecordingBackend(named("there")) as there:
        zoned.route(there, host=host, availability_zone="z2")
        assert answers(zoned, host, 2) == {b"there"}
        zoned.route(here, host=host, availability_zone="z1")
        assert answers(zoned, host, 6) == {b"here"}


def test_retries_leave_the_zone(zoned: Live) -> None:
    host = zoned.host()
    with RecordingBackend(named("there")) as there:
        zoned.route(there, host=host, availability_zone="z2")
        zoned.routes.register(host, backend=free_port(), availability_zone="z1")
        assert answers(zoned, host, 4) == {b"there"}


def test_zones_make_no_difference_by_default(live: Live) -> None:
    host = live.host()
    with RecordingBackend(named("here")) as here, RecordingBackend(named("there")) as there:
        live.route(here, host=host, availability_zone="")
        live.route(there, host=host, availability_zone="z2")
        assert answers(live, host, 4) == {b"here", b"there"}
