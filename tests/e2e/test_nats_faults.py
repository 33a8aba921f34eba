"""Behaviour 11 and the like: the bus may be absent, die and come back; requests never notice."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import StartRouter, wait_everywhere
from tests.support.announce import Announcer, status_of
from tests.support.load import Load
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.recorder import MakeBackend
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until


@pytest.fixture
def second_server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path)
    yield server
    server.kill()


def test_no_nats_at_the_start_is_a_clear_error_and_status_1(tmp_path: Path) -> None:
    router = RunningRouter(tmp_path, free_port())
    router.start(wait=False)
    try:
        assert router.wait_exit() == 1
        assert router.remains() == []
    finally:
        router.kill_all()
    errors = [line for line in router.log if line.get("log_level") == 3]
    assert errors, router.story()
    assert any("nats" in str(line).lower() for line in errors)
    assert (tmp_path / "stderr").read_text() == ""
    assert "gorouter.started" not in router.messages()


def test_routes_survive_nats_and_requests_never_notice(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend, nats_server: NatsServer
) -> None:
    """NATS is away for many times the stale threshold; with pruning suspended every route stays."""
    router = start_router(
        {
            "droplet_stale_threshold": "1500ms",
            "prune_stale_droplets_interval": "60ms",
            "suspend_pruning_if_nats_unavailable": True,
        }
    )
    backend = make_backend()
    beat_on = threading.Event()

    def beat() -> None:
        while not beat_on.wait(0.05):
            announcer.register("app.test", port=backend.port)

    beating = threading.Thread(target=beat)
    beating.start()
    wait_everywhere(router, "app.test")
    with Load(router.port, "app.test") as load:
        # Nobody may be speaking when the server dies: what is said then is waited for in vain.
        beat_on.set()
        beating.join()
        nats_server.kill()
        wait_until(lambda: router.messages().count("prune-suspended") > 100, "prune passes were left out")
        answered = load.answered
        wait_until(lambda: load.answered > answered + 100, "requests go on")
    account = load.account
    assert set(account.statuses) == {200}
    assert (account.refused, account.lost_first, account.lost_reused) == (0, 0, 0)
    nats_server.start()
    # Nobody announces it any more: it goes after a full threshold, and not before it has had one.
    wait_everywhere(router, "app.test", 404)


def test_announcements_are_heard_again_when_nats_is_back(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend, nats_server: NatsServer
) -> None:
    router = start_router()
    backend = make_backend()
    announcer.register("before.test", port=backend.port)
    wait_everywhere(router, "before.test")
    nats_server.kill()
    wait_until(lambda: any("disconnected" in message for message in router.messages()), "the loss is noticed")
    assert status_of(router.port, "before.test") == 200
    nats_server.start()

    def heard() -> bool:
        announcer.register("after.test", port=backend.port)
        return status_of(router.port, "after.test") == 200

    wait_until(heard, "an announcement is heard", every_s=0.05)
    assert status_of(router.port, "before.test") == 200


def test_router_start_is_published_on_every_reconnect(
    start_router: StartRouter, announcer: Announcer, nats_server: NatsServer
) -> None:
    announcer.listen("router.start")
    router = start_router()
    wait_until(lambda: announcer.seen, "router.start is published at the start")

    def heard_again() -> bool:
        """The listener has to be back before the router is: if it was not, NATS dies once more."""
        announcer.seen.clear()
        disconnects = router.messages().count("nats-connection-reconnected")
        nats_server.kill()
        nats_server.start()
        wait_until(
            lambda: router.messages().count("nats-connection-reconnected") > disconnects, "the router is back"
        )
        # The greeting is answered by the same connection: behind its answer nothing is still on its way.
        wait_until(lambda: announcer.hears("router.greet"), "greetings are answered")
        return bool(announcer.seen)

    wait_until(heard_again, "router.start after a reconnect", timeout_s=60)
    assert b"pruneThresholdInSeconds" in announcer.seen[0][1]


def test_second_server_takes_over(
    start_router: StartRouter, make_backend: MakeBackend, nats_server: NatsServer, second_server: NatsServer
) -> None:
    second_server.start()
    hosts = [{"hostname": "127.0.0.1", "port": server.port} for server in (nats_server, second_server)]
    router = start_router({"nats": {"hosts": hosts}})
    nats_server.kill()
    backend = make_backend()
    with Announcer(second_server.port) as announcer:

        def heard() -> bool:
            announcer.register("app.test", port=backend.port)
            return status_of(router.port, "app.test") == 200

        wait_until(heard, "an announcement through the second server", every_s=0.05)


def test_router_ends_in_time_with_nats_dead(start_router: StartRouter, nats_server: NatsServer) -> None:
    router = start_router()
    nats_server.kill()
    assert router.stop() == 0
    assert router.messages()[-1] == "gorouter.stopped"


def test_garbage_on_the_bus_does_no_harm(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router()
    backend = make_backend()
    for payload in (b"", b"\xff" * 1000, b"[" * 100_000, b"x" * 900_000, b'{"uris":' + b"[" * 5000, b"null"):
        for subject in ("router.register", "router.unregister", "router.greet", "router.whatever"):
            announcer.publish(subject, payload)
    announcer.register("app.test", port=backend.port)
    wait_everywhere(router, "app.test")
    assert len(router.workers()) == 2
