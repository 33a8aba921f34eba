"""`router policy nft` against a running router: the ways past the proxy, closed and opened in a real kernel."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.inside import CONTAINERS, PORT, Platform
from tests.support.needs import needs
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

EVERY_S = "0.1"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Platform]:
    """A host with containers and the router, and the command that keeps its kernel's rules up to date."""
    needs("nft")
    with Platform(tmp_path, on_host=True) as platform:
        platform.furnish()
        with following(platform):
            yield platform


@contextlib.contextmanager
def following(platform: Platform) -> Iterator[None]:
    command = ["policy", "nft", "-c", str(platform.routers["cell"].config_file), "--apply", "--every", EVERY_S]
    with platform.cell.inside("cell"):
        process = subprocess.Popen([sys.executable, "-m", "router", *command], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("loaded: ")
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def dial(platform: Platform, source: str, *, port: int = PORT) -> str:
    """Let a container dial the back-end's own address; return what becomes of it."""
    command = [
        *(needs("curl"), "-sS", "-m", "30", "-o", "/dev/null", "-w", "%{http_code}"),
        f"http://{CONTAINERS['back']}:{port}/",
    ]
    done = platform.cell.run(source, command)
    return done.stdout if done.returncode == 0 else "refused" if done.returncode == 7 else done.stderr


def test_direct_path_is_open_for_the_allowed_and_closed_at_once_for_the_forbidden(host: Platform) -> None:
    assert dial(host, "front") == "200"
    assert dial(host, "other") == "refused"
    assert dial(host, "none") == "refused"
    assert dial(host, "front", port=PORT + 1) == "refused"


def test_kernel_follows_policies_that_come_and_go(host: Platform) -> None:
    host.policy("policies", "other")
    wait_until(lambda: dial(host, "other") == "200", "the kernel lets the other in")
    host.policy("policies/delete")
    wait_until(lambda: dial(host, "front") == "refused", "the kernel keeps front out")
    assert dial(host, "other") == "200"


def test_kernel_follows_containers_that_come_and_go(host: Platform) -> None:
    host.identify("none", app="front")
    wait_until(lambda: dial(host, "none") == "200", "the kernel lets a new instance in")
    host.forget("front")
    wait_until(lambda: dial(host, "front") == "refused", "the kernel forgets the old one")


def test_direct_connection_ends_with_the_policy_that_permitted_it(host: Platform) -> None:
    with host.direct("front", "back") as client:
        assert client.get(host="direct").status == 200
        host.policy("policies/delete")
        wait_until(lambda: dial(host, "front") == "refused", "the kernel keeps front out")
        client.send(b"GET / HTTP/1.1\r\nHost: direct\r\n\r\n")
        assert client.is_closed_by_peer()


def test_proxy_and_dns_are_reached_whatever_the_kernel_closes(host: Platform) -> None:
    assert host.get("front") == 200
    assert host.get("other") == 403
    assert host.ask("other") == ("NOERROR", [])
    assert host.ask("none") == ("REFUSED", [])


def test_rules_stay_loaded_while_the_router_is_away(host: Platform) -> None:
    router = host.routers["cell"]
    router.stop()
    assert dial(host, "front") == "200"
    assert dial(host, "other") == "refused"
    router.log.clear()
    with host.cell.inside("cell"):
        router.start()
    host.identify("front")
    host.identify("back", PORT)
    host.identify("other")
    host.policy("policies", "other")
    wait_until(lambda: dial(host, "other") == "200", "the rules are followed again")
