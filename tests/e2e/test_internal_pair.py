"""Two routers that share one nats-server: what an operator says to one holds at both, soon and for good."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.inside import NAME, UPGRADE, Asker, Platform
from tests.support.rawclient import RawClient, Truncated
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PAIR = ("rtr", "rtr2")
CHANGES = 200
BOUND_S = 30.0
"""Generous: a machine that is busy, or stands still, is not to fail a test; the figures are printed."""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Platform]:
    with Platform(tmp_path, routers=PAIR) as platform:
        platform.furnish()
        yield platform


class Probe:
    """A container's standing connections to a router, by which it learns whether it is let in."""

    def __init__(self, platform: Platform, router: str, stack: contextlib.ExitStack) -> None:
        self._platform = platform
        self._router = router
        self._stack = stack
        self._asker: Asker = stack.enter_context(platform.asker("front", router))
        self._client = self._connect()

    def names(self) -> bool:
        status, addresses = self._asker.ask()
        assert (status, addresses) in (("NOERROR", []), ("NOERROR", [self._platform.addresses[self._router]]))
        return bool(addresses)

    def requests(self) -> bool:
        try:
            response = self._client.get(host=NAME)
        except Truncated:
            # The permission was taken back while the answer was on its way.
            self._client = self._connect()
            return False
        assert response.status in (200, 403)
        if response.header("Connection") == "close":
            self._client = self._connect()
        return response.status == 200

    def _connect(self) -> RawClient:
        return self._stack.enter_context(self._platform.client("front", self._router))


def show(capsys: pytest.CaptureFixture[str], what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[-1 - len(ordered) // 100]
    say(capsys, f"{what}: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, max {ordered[-1] * 1000:.1f} ms")


def say(capsys: pytest.CaptureFixture[str], figure: str) -> None:
    with capsys.disabled():
        print(f"\n{figure}")


def test_change_through_either_api_acts_on_dns_and_proxy_of_both_routers(
    pair: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    took = []
    with contextlib.ExitStack() as stack:
        probes = [Probe(pair, router, stack) for router in PAIR]
        surfaces = [surface for probe in probes for surface in (probe.names, probe.requests)]
        for number in range(CHANGES):
            is_allowed = bool(number % 2)
            start = time.monotonic()
            pair.policy("policies" if is_allowed else "policies/delete", router=PAIR[number // 2 % 2])
            for surface in surfaces:
                wait_until(lambda: surface() is is_allowed, f"change {number} acts", every_s=0.001)  # noqa: B023
            took.append(time.monotonic() - start)
    show(capsys, f"{CHANGES} policy changes until DNS and proxy of both routers act", took)
    assert max(took) < BOUND_S


def policies(platform: Platform, router: str) -> list[tuple[str, str, int]]:
    """Return what a router decides by."""
    found = platform.facts(router)["policies"]
    return sorted((each["source"], each["destination"], each["start"]) for each in found)


def state_of_policies(platform: Platform, router: str) -> str:
    return str(platform.facts(router)["status"]["policies"]["state"])


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_restart_of_nats_loses_no_policy_and_stops_nobody(pair: Platform, end: str) -> None:
    for port in range(6000, 6040):
        pair.policy("policies", port=port, router=PAIR[port % 2])
    for router in PAIR:
        wait_until(lambda: len(policies(pair, router)) == 41, f"{router} has all of them")  # noqa: B023
    before = policies(pair, "rtr")
    getattr(pair.nats, end)()
    for router in PAIR:
        wait_until(lambda: state_of_policies(pair, router) == "lost", f"{router} notices")  # noqa: B023
        assert pair.get("front", router=router) == 200
        assert pair.ask("front", router=router) == ("NOERROR", [pair.addresses[router]])
        assert pair.get("other", router=router) == 403
    pair.start_nats()
    for router in PAIR:
        wait_until(lambda: state_of_policies(pair, router) == "current", f"{router} is back")  # noqa: B023
        assert policies(pair, router) == before
    pair.policy("policies", "other", router="rtr2")
    for router in PAIR:
        wait_until(lambda: pair.get("other", router=router) == 200, f"{router} hears of news")  # noqa: B023


def test_router_that_starts_after_a_restart_of_nats_has_every_policy(pair: Platform) -> None:
    before = policies(pair, "rtr")
    pair.routers["rtr2"].stop()
    pair.nats.kill()
    pair.start_nats()
    pair.routers["rtr2"].log.clear()
    with pair.cell.inside("rtr2"):
        pair.routers["rtr2"].start()
    wait_until(lambda: state_of_policies(pair, "rtr2") == "current", "the policies are read")
    assert policies(pair, "rtr2") == before


def test_both_routers_deny_everything_when_nats_stays_away_for_longer_than_configured(tmp_path: Path) -> None:
    with Platform(tmp_path, routers=PAIR, config={"policies": {"keep": "1s"}}) as pair:
        pair.furnish()
        with contextlib.ExitStack() as stack:
            tunnels = [tunnel(pair, router, stack) for router in PAIR]
            pair.nats.kill()
            for router in PAIR:
                wait_until(lambda: state_of_policies(pair, router) == "expired", f"{router} gives up")  # noqa: B023
            for open_tunnel in tunnels:
                open_tunnel.read_until_end()
        for router in PAIR:
            assert pair.facts(router)["policies_ready"] is False
            pair.routers[router].wait_for_log("policies-expired")
            wait_until(lambda: pair.get("front", router=router) == 503, f"{router} denies")  # noqa: B023
            assert pair.ask("front", router=router) == ("SERVFAIL", [])
        pair.start_nats()
        for router in PAIR:
            wait_until(lambda: pair.get("front", router=router) == 200, f"{router} is back")  # noqa: B023
            assert pair.ask("front", router=router) == ("NOERROR", [pair.addresses[router]])


def tunnel(platform: Platform, router: str, stack: contextlib.ExitStack) -> RawClient:
    """Open a WebSocket from front to back and see that it echoes."""
    client: RawClient = stack.enter_context(platform.client("front", router))
    assert client.get(host=NAME, headers=UPGRADE).status == 101
    client.send(b"echo")
    assert client.read_exactly(4) == b"echo"
    return client


def stream(platform: Platform, router: str, stack: contextlib.ExitStack) -> RawClient:
    """Begin a download from back to front that never ends, and see that it flows."""
    client: RawClient = stack.enter_context(platform.client("front", router))
    client.send(f"GET /stream HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
    while client.read_line() != b"more\n":
        pass
    return client


TAKEN_BACK: dict[str, Callable[[Platform], None]] = {
    "the policy": lambda pair: pair.policy("policies/delete", router="rtr2"),
    "the caller's identity": lambda pair: pair.forget("front"),
    "the instance's identity": lambda pair: pair.forget("back"),
    "the instance's name": lambda pair: pair.announce("back", NAME, verb="unregister"),
}


@pytest.mark.parametrize("what", TAKEN_BACK)
def test_what_is_taken_back_ends_websockets_and_downloads_on_both_routers(
    pair: Platform, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.ExitStack() as stack:
        live = [begin(pair, router, stack) for router in PAIR for begin in (tunnel, stream)]
        assert pair.services["back"].live == len(live)
        start = time.monotonic()
        TAKEN_BACK[what](pair)
        for client in live:
            client.read_until_end()
        took = time.monotonic() - start
    wait_until(lambda: pair.services["back"].live == 0, "the instance is let go")
    say(capsys, f"{what} taken back until all connections are closed: {took * 1000:.1f} ms")
    assert took < BOUND_S
    for router in PAIR:
        wait_until(
            lambda: len(pair.log_of("internal-request-revoked", router)) >= 2,  # noqa: B023
            f"{router} tells of them",
        )
        assert len(pair.log_of("internal-request-revoked", router)) == 2
        assert pair.get("front", router=router) == 403
