"""Behaviour 18: a worker without descriptors serves those it has, turns others away, says so, and recovers."""

import contextlib
import os
import resource
import select

from tests.e2e.conftest import StartRouter, wait_everywhere
from tests.support.announce import Announcer, status_of
from tests.support.rawclient import RawClient
from tests.support.recorder import MakeBackend
from tests.support.waiting import wait_until


def test_worker_without_descriptors_serves_whom_it_has_and_recovers(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"workers": 1})
    announcer.register("app.test", port=make_backend().port)
    wait_everywhere(router, "app.test")
    worker = router.worker
    limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        early = stack.enter_context(RawClient(router.port))
        assert early.get(host="app.test").status == 200
        few = max(int(entry) for entry in os.listdir(f"/proc/{worker}/fd")) + 10
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (few, limits[1]))
        others = [stack.enter_context(RawClient(router.port)) for _ in range(100)]

        assert router.wait_for_log("descriptors-exhausted")["data"]["limit"] == few
        assert early.get(host="app.test").status == 200
        wait_until(lambda: sum(map(has_ended, others)) >= 80, "the others are turned away")
        resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
    wait_until(lambda: status_of(router.port, "app.test") == 200, "new connections are served")
    router.wait_for_log("descriptors-available")
    assert router.messages().count("descriptors-exhausted") == 1


def has_ended(client: RawClient) -> bool:
    """Whether the router has closed the connection of a client that asked for nothing."""
    # Not select: among many tests this process may have descriptors above 1023.
    poll = select.poll()
    poll.register(client.socket, select.POLLIN)
    return bool(poll.poll(0))
