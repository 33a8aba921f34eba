"""Behaviour 12: the bus comes and goes again and again, routes change meanwhile, and nothing is left of it."""

import base64
import contextlib
import http.client
import json
import os
import random
import threading
import time
from typing import Any

import nats.errors
import pytest

from tests.e2e.conftest import StartRouter
from tests.support.announce import Announcer, status_of
from tests.support.nats import NatsServer
from tests.support.processes import open_sockets
from tests.support.recorder import RecordingBackend
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until

ROUTES = 50


class Churn:
    """An agent that announces what a model says, as agents do: changes at once, everything again and again."""

    def __init__(self, announcer: Announcer, port: int) -> None:
        self.there: set[str] = set()
        self._announcer = announcer
        self._port = port
        self._random = random.Random(12)
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def settle(self) -> set[str]:
        """Change nothing more; say all once more; return the model."""
        self._done.set()
        self._thread.join(60)
        self.announce_all()
        return self.there

    def announce_all(self) -> None:
        for number in range(ROUTES):
            self._announce(f"app-{number}.test")

    def _run(self) -> None:
        while not self._done.wait(0.01):
            name = f"app-{self._random.randrange(ROUTES)}.test"
            self.there ^= {name}
            self._announce(name)

    def _announce(self, name: str) -> None:
        act = self._announcer.register if name in self.there else self._announcer.unregister
        # With the server gone a message is lost, as an agent's would be: it is said again at the end.
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            act(name, port=self._port)


def routes_of(router: RunningRouter) -> set[str]:
    connection = http.client.HTTPConnection("127.0.0.1", router.routes_port, timeout=60)
    connection.request(
        "GET", "/routes", headers={"Authorization": f"Basic {base64.b64encode(b'admin:secret').decode()}"}
    )
    listed = json.loads(connection.getresponse().read())
    connection.close()
    return set(listed)


def flap(
    times: int, start_router: StartRouter, announcer: Announcer, nats_server: NatsServer, backend: RecordingBackend
) -> None:
    router = start_router({"suspend_pruning_if_nats_unavailable": True})
    wait_until(lambda: announcer.hears("router.greet"), "the router listens")
    sockets, threads = open_sockets(router.pid), len(os.listdir(f"/proc/{router.pid}/task"))
    churn = Churn(announcer, backend.port)
    pauses = random.Random(1)
    for _ in range(times):
        nats_server.kill()
        time.sleep(pauses.uniform(0.05, 0.3))
        nats_server.start()
        time.sleep(pauses.uniform(0.05, 0.5))
    wait_until(lambda: announcer.hears("router.greet"), "the router is back")
    wait_until(lambda: heard_once(announcer, router, backend), "an announcement is heard")
    model = churn.settle()
    wait_until(lambda: routes_of(router) == model, "the table is what was announced")
    wait_until(lambda: statuses(router, model) == {True: {200}, False: {404}}, "workers route accordingly")
    wait_until(lambda: open_sockets(router.pid) <= sockets, "no socket is left over")
    assert len(os.listdir(f"/proc/{router.pid}/task")) <= threads + 1
    assert registrations_of_one_message(announcer, router, backend) == 1


def heard_once(announcer: Announcer, router: RunningRouter, backend: RecordingBackend) -> bool:
    announcer.register("heard.test", port=backend.port)
    heard = "heard.test" in routes_of(router)
    announcer.unregister("heard.test", port=backend.port)
    return heard and "heard.test" not in routes_of(router)


def statuses(router: RunningRouter, model: set[str]) -> dict[bool, set[int]]:
    answers: dict[bool, set[int]] = {True: set(), False: set()}
    for number in range(ROUTES):
        name = f"app-{number}.test"
        answers[name in model].add(status_of(router.port, name))
    return answers


def registrations_of_one_message(announcer: Announcer, router: RunningRouter, backend: RecordingBackend) -> int:
    """How often one message is taken: as often as there are subscriptions to its subject."""

    def concerns(line: dict[str, Any]) -> bool:
        return bool(line["data"].get("uri") == "once.test")

    announcer.register("once.test", port=backend.port)
    wait_until(lambda: "once.test" in routes_of(router), "it is heard")
    announcer.unregister("once.test", port=backend.port)
    announcer.unregister("once.test", port=backend.port)
    wait_until(lambda: "once.test" not in routes_of(router), "it is gone")
    # Whatever the registration led to is in the log before this line.
    router.wait_for_log("endpoint-unregistered", where=concerns)
    return sum(line.get("message") == "endpoint-registered" and concerns(line) for line in list(router.log))


def test_bus_that_comes_and_goes_leaves_nothing_behind(
    start_router: StartRouter, announcer: Announcer, nats_server: NatsServer
) -> None:
    """Three times; the slow twin does more."""
    with RecordingBackend() as backend:
        flap(3, start_router, announcer, nats_server, backend)


@pytest.mark.slow
def test_bus_that_comes_and_goes_twenty_times_leaves_nothing_behind(
    start_router: StartRouter, announcer: Announcer, nats_server: NatsServer
) -> None:
    with RecordingBackend() as backend:
        flap(20, start_router, announcer, nats_server, backend)
