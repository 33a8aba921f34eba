"""Two workers, seen from outside, balance and limit like one."""

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import FRESH_CONNECTIONS, Slow, StartRouter, wait_everywhere
from tests.support.announce import Announcer
from tests.support.ports import free_port
from tests.support.rawclient import RawClient
from tests.support.recorder import MakeBackend, RecordingBackend, named
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until

HOST = "app.test"


def body_on_fresh_connection(router: RunningRouter) -> bytes:
    with RawClient(router.port) as client:
        return client.get(host=HOST).body


@contextlib.contextmanager
def one_in_flight(router: RunningRouter, backend: RecordingBackend) -> Iterator[RawClient]:
    with RawClient(router.port) as holder:
        holder.send(f"GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        wait_until(lambda: any(request.target == "/slow" for request in backend.requests), "one is in flight")
        yield holder


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def backend(slow: Slow, make_backend: MakeBackend) -> RecordingBackend:
    return make_backend(slow.script)


@pytest.fixture
def limited(start_router: StartRouter, announcer: Announcer, backend: RecordingBackend) -> RunningRouter:
    """Two workers, and one request at a time for the instance."""
    router = start_router({"workers": 2, "backends": {"max_conns": 1}})
    announcer.register(HOST, port=backend.port)
    wait_everywhere(router, HOST)
    return router


def wait_known(announcer: Announcer, router: RunningRouter, make_backend: MakeBackend) -> None:
    """Wait until every worker knows all that was announced before: changes travel in one ordered stream."""
    announcer.register("canary.test", port=make_backend().port)
    wait_everywhere(router, "canary.test")


def test_instances_take_turns_whichever_worker_a_connection_meets(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"workers": 2})
    for name in ("a", "b", "c"):
        announcer.register(HOST, port=make_backend(named(name)).port)
    wait_known(announcer, router, make_backend)
    bodies = [body_on_fresh_connection(router) for _ in range(30)]
    assert all(len(set(bodies[start : start + 3])) == 3 for start in range(28)), bodies


def test_shares_by_weight_hold_over_all_workers(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"workers": 2})
    for name, weight in (("a", 5), ("b", 1), ("c", 1)):
        announcer.register(HOST, port=make_backend(named(name)).port, options={"weight": weight})
    wait_known(announcer, router, make_backend)
    bodies = [body_on_fresh_connection(router) for _ in range(35)]
    for start in range(28):
        cycle = bodies[start : start + 7]
        assert [cycle.count(name) for name in (b"a", b"b", b"c")] == [5, 1, 1], bodies


def test_limit_of_an_endpoint_holds_over_all_workers(
    limited: RunningRouter, backend: RecordingBackend, slow: Slow
) -> None:
    with one_in_flight(limited, backend) as holder:
        for _ in range(20):
            with RawClient(limited.port) as client:
                response = client.get(host=HOST)
            assert response.status == 503
            assert response.header("X-Cf-Routererror") == "Connection Limit Reached"
        slow.release.set()
        assert holder.read_response().status == 200
    wait_everywhere(limited, HOST)


def test_count_of_a_worker_that_died_does_not_stay(
    limited: RunningRouter, backend: RecordingBackend, slow: Slow
) -> None:
    with one_in_flight(limited, backend) as holder:
        for pid in limited.workers():
            os.kill(pid, signal.SIGKILL)
        assert holder.is_closed_by_peer()
    slow.release.set()
    wait_everywhere(limited, HOST)


def test_endpoint_that_one_worker_could_not_reach_is_avoided_by_the_other(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"workers": 2, "backends": {"max_attempts": 1}})
    announcer.register(HOST, port=make_backend(named("alive")).port)
    wait_everywhere(router, HOST)
    announcer.register(HOST, port=free_port())

    def one_fails() -> bool:
        with RawClient(router.port) as client:
            return client.get(host=HOST).status == 502

    wait_until(one_fails, "the dead one is met")
    wait_until(lambda: _marked(router), "the mark has come round")
    assert {_status(router) for _ in range(20)} == {200}


def _status(router: RunningRouter) -> int:
    with RawClient(router.port) as client:
        return client.get(host=HOST).status


def _marked(router: RunningRouter) -> bool:
    return all(_status(router) == 200 for _ in range(FRESH_CONNECTIONS))
