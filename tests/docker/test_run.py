"""`router docker` as a process, beside a real engine, a real nats-server and a real router."""

from collections.abc import Callable

import pytest

from tests.docker.conftest import Place, RunningWatcher
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

Watch = Callable[..., RunningWatcher]
URIS = {"router.uris": "app.test"}


def test_started_container_answers_through_its_lowest_exposed_tcp_port(place: Place, watch: Watch) -> None:
    watch()
    container = place.podman.launch(URIS)
    wait_until(lambda: place.body("app.test") == container[:12], "the container answers")
    host_port = place.podman.inspect(container)["NetworkSettings"]["Ports"]["8079/tcp"][0]["HostPort"]
    (endpoint,) = place.routes()["app.test"]
    assert endpoint["address"] == f"127.0.0.1:{host_port}"


def test_running_containers_are_adopted_at_the_start(place: Place, watch: Watch) -> None:
    container = place.podman.launch(URIS)
    watch()
    wait_until(lambda: place.body("app.test") == container[:12], "the container answers")
