"""Behaviour 15: workers die and are replaced; control dies and is outlived for a while."""

import os
import signal

import pytest

from tests.e2e.conftest import StartRouter, wait_everywhere
from tests.support import processes
from tests.support.announce import Announcer, status_of
from tests.support.load import Load
from tests.support.rawclient import RawClient
from tests.support.recorder import MakeBackend, named
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until

CLIENTS = 4


def kill_workers_under_load(router: RunningRouter, host: str, kills: int) -> None:
    with Load(router.port, host, keep_alive=CLIENTS, fresh=CLIENTS) as load:
        for number in range(kills):
            victim = router.workers()[number % 2]
            started = router.messages().count("worker-started")
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: router.messages().count("worker-started") > started, "its place is taken")  # noqa: B023
            answered = load.answered
            wait_until(lambda: load.answered > answered + 20, "requests go on")  # noqa: B023
    account = load.account
    assert set(account.statuses) == {200}, "every answer is the app's; a known route is never 404"
    assert account.refused == 0, "new connections are never refused"
    assert account.lost_first + account.lost_reused <= kills * 2 * CLIENTS, "only requests on the dead worker fail"


def test_killed_workers_are_replaced_and_cost_only_what_was_on_them(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    """Five kills; twenty in the slow twin."""
    router = start_router()
    announcer.register("app.test", port=make_backend().port)
    wait_everywhere(router, "app.test")
    kill_workers_under_load(router, "app.test", 5)


@pytest.mark.slow
def test_twenty_killed_workers_cost_only_what_was_on_them(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router()
    announcer.register("app.test", port=make_backend().port)
    wait_everywhere(router, "app.test")
    kill_workers_under_load(router, "app.test", 20)


def test_new_worker_has_the_whole_table_before_it_answers(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"workers": 1})
    backend = make_backend()
    for number in range(100):
        announcer.register(*(f"app-{number}-{each}.test" for each in range(20)), port=backend.port)
    wait_everywhere(router, "app-99-19.test")
    for number in (0, 57):
        os.kill(router.worker, signal.SIGKILL)
        # The connection waits in the listening socket, which control holds open, until the new worker takes it.
        with RawClient(router.port, timeout_s=60) as client:
            assert client.get(host=f"app-{number}-7.test").status == 200


def test_killed_worker_lets_the_others_connections_live(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router()
    announcer.register("app.test", port=make_backend().port)
    wait_everywhere(router, "app.test")
    with Load(router.port, "app.test", keep_alive=8, fresh=0) as load:
        wait_until(lambda: load.answered > 100, "connections to both workers are in use")
        os.kill(router.workers()[0], signal.SIGKILL)
        answered = load.answered
        wait_until(lambda: load.answered > answered + 200, "requests go on")
    assert load.account.lost_first + load.account.lost_reused <= 8
    assert set(load.account.statuses) == {200}


@pytest.mark.slow
def test_workers_serve_on_without_control_for_the_grace_and_no_longer(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"orphan_grace": "10s", "drain_timeout": "1s"})
    announcer.register("app.test", port=make_backend().port)
    wait_everywhere(router, "app.test")
    orphans = router.workers()
    os.kill(router.pid, signal.SIGKILL)
    router.wait_exit()
    assert [status_of(router.port, "app.test") for _ in range(40)] == [200] * 40
    assert all(processes.is_alive(pid) for pid in orphans)
    wait_until(lambda: router.remains() == [], "the orphans are gone", timeout_s=60)
    assert status_of(router.port, "app.test") == 0


@pytest.mark.slow
def test_restarted_control_takes_the_ports_over_from_orphans(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"orphan_grace": "30s"})
    backend = make_backend(named("app"))
    announcer.register("app.test", port=backend.port)
    wait_everywhere(router, "app.test")
    orphans = router.workers()
    with Load(router.port, "app.test", keep_alive=0, fresh=4) as load:
        os.kill(router.pid, signal.SIGKILL)
        router.wait_exit()
        # Agents announce anew when they hear router.start; here it is done for them while the ports are closed.
        router.config["start_response_delay_interval"] = "4s"
        router.log.clear()
        router.start(wait=False)
        router.wait_for_log("Successfully-connected-to-nats")

        def announced() -> bool:
            announcer.register("app.test", port=backend.port)
            return "gorouter.started" in router.messages()

        wait_until(announced, "the new control has started", timeout_s=60, every_s=0.05)
        wait_until(
            lambda: not any(processes.is_alive(pid) for pid in orphans), "the orphans are gone", timeout_s=60
        )
        answered = load.answered
        wait_until(lambda: load.answered > answered + 20, "requests go on")
    assert load.account.refused == 0
    assert set(load.account.statuses) == {200}


def test_worker_that_is_told_to_end_by_an_operator_is_replaced(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router()
    announcer.register("app.test", port=make_backend().port)
    wait_everywhere(router, "app.test")
    victim = router.workers()[0]
    os.kill(victim, signal.SIGTERM)
    wait_until(lambda: victim not in router.workers() and len(router.workers()) == 2, "the worker is replaced")
    wait_everywhere(router, "app.test")


def test_processors_to_use_are_workers_to_start(start_router: StartRouter) -> None:
    router = start_router({"workers": 0, "go_max_procs": 1})
    assert len(router.workers()) == 1
