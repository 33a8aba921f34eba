"""Internal routes as containers meet them: real namespaces, a real resolver client, curl, NATS with JetStream."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.wire.identities import DROP, PUT, AddressesGone, Workload, WorkloadsSaid, encode
from tests.support.announce import Announcer
from tests.support.bucket import jetstream_server
from tests.support.cell import Cell
from tests.support.needs import needs
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until

ROUTER = "10.255.0.2"
ADDRESSES = {
    "rtr": ROUTER,
    "front": "10.255.1.2",
    "back": "10.255.1.3",
    "other": "10.255.1.4",
    "none": "10.255.1.9",
}
NAME = "backend.apps.internal"
TOKEN = "operator"
API_PORT = 14002


def internal_config() -> dict[str, Any]:
    return {
        "listen_address": ROUTER,
        "port": 8888,
        "internal": {
            "domains": [{"name": "apps.internal"}],
            "container_networks": ["10.255.0.0/16"],
            "addresses": [ROUTER],
            "discovery": {"register_interval": "1s", "staleness_threshold": "10m", "warm_duration": "10ms"},
            "policy_api": {"port": API_PORT, "admin_token": TOKEN},
            "proxy": {"http_ports": [80, 8080]},
        },
    }


class Inside:
    """The router on its cell, and what an operator, an agent and the containers do with it."""

    def __init__(self, cell: Cell, router: RunningRouter, bus: Announcer) -> None:
        self.cell = cell
        self.router = router
        self._bus = bus
        self._sequence = 0

    def identify(self, container: str, *ports: int, generation: int = 1, app: str = "") -> None:
        workload = Workload(
            ip=ADDRESSES[container],
            app=app or container,
            space="space",
            organization="org",
            instance=f"{app or container}-0",
            index="0",
            generation=generation,
            ports=ports,
        )
        self._sequence += 1
        said = WorkloadsSaid(agent="cell", sequence=self._sequence, workloads=[workload], ttl=600)
        self._bus.publish(PUT, encode(said))

    def forget(self, container: str) -> None:
        self._sequence += 1
        gone = AddressesGone(agent="cell", sequence=self._sequence, addresses=[ADDRESSES[container]])
        self._bus.publish(DROP, encode(gone))

    def announce(self, container: str, *names: str, verb: str = "register") -> None:
        message = {"host": ADDRESSES[container], "port": 0, "uris": names, "app": container}
        self._bus.publish(f"service-discovery.{verb}", json.dumps(message).encode())

    def announce_in_public(self, container: str, name: str, port: int) -> None:
        self._bus.register(name, port=port, host=ADDRESSES[container])

    def policy(self, change: str, port: int = 5000) -> None:
        """Let the front-end app reach the back-end's port (``policies``), or end that (``policies/delete``)."""
        policy = {
            "source": {"id": "front"},
            "destination": {"id": "back", "protocol": "tcp", "ports": {"start": port, "end": port}},
        }
        answer = self.cell.run(
            "rtr",
            [
                *("curl", "-sS", "-w", "%{http_code}", "-H", f"Authorization: Bearer {TOKEN}"),
                *("-d", json.dumps({"policies": [policy]})),
                f"http://127.0.0.1:{API_PORT}/networking/v1/external/{change}",
            ],
        )
        assert answer.stdout.endswith("200"), answer

    def resolve(self, container: str, name: str = NAME, kind: str = "A") -> tuple[str, list[str]]:
        """Return status and answers, as dig sees them."""
        shown = self.cell.run(container, [needs("dig"), "+tries=1", "+time=30", kind, name, f"@{ROUTER}"]).stdout
        status = shown.partition("status: ")[2].partition(",")[0]
        answers = [line.split()[4] for line in shown.splitlines() if f"\tIN\t{kind}\t" in line and line[0] != ";"]
        return status, answers

    def connections_to(self, container: str) -> int:
        """Return the number of established connections a container has accepted on its port."""
        shown = self.cell.run(
            container, [needs("ss"), "-Htn", "state", "established", "sport", "=", ":5000"]
        ).stdout
        return len(shown.splitlines())

    def get(self, container: str, url: str) -> str:
        """Return the status that curl gets, with the container's own resolver."""
        command = ["curl", "-sS", "-m", "30", "-o", "/dev/null", "-w", "%{http_code}", url]
        return self.cell.run(container, command).stdout


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    needs("curl")
    with Cell(ADDRESSES, resolver=ROUTER) as cell:
        served = tmp_path / "served"
        served.mkdir()
        with (served / "big").open("wb") as big:
            big.truncate(100_000_000)
        serve = [
            sys.executable,
            "-m",
            "http.server",
            "5000",
            "--bind",
            ADDRESSES["back"],
            "--directory",
            str(served),
        ]
        server = cell.start("back", serve)
        try:
            with cell.inside("rtr"):
                nats = jetstream_server(tmp_path)
                nats.start()
                try:
                    with (
                        RunningRouter(tmp_path / "router", nats.port, internal_config()) as router,
                        Announcer(nats.port) as bus,
                    ):
                        yield Inside(cell, router, bus)
                finally:
                    nats.stop()
        finally:
            server.kill()
            server.wait()


def furnish(inside: Inside) -> None:
    inside.identify("front")
    inside.identify("back", 5000)
    inside.identify("other")
    inside.announce("back", NAME, f"0.{NAME}")
    inside.policy("policies")
    wait_until(lambda: inside.get("front", f"http://{NAME}/") == "200", "the policy acts")


def test_name_resolves_and_routes_only_for_the_app_that_a_policy_allows(inside: Inside) -> None:
    furnish(inside)
    assert inside.resolve("front") == ("NOERROR", [ROUTER])
    assert inside.resolve("front", f"0.{NAME}") == ("NOERROR", [ROUTER])
    assert inside.resolve("front", kind="AAAA") == ("NOERROR", [])
    assert inside.resolve("other") == inside.resolve("other", "unknown.apps.internal") == ("NOERROR", [])
    assert inside.resolve("none") == ("REFUSED", [])
    assert inside.get("front", f"http://{NAME}:8080/") == "200"
    for container in ("other", "none"):
        denied = ["curl", "-sS", "-m", "30", "-w", "%{http_code}", "-o", "/dev/null", "-H", f"Host: {NAME}"]
        assert inside.cell.run(container, [*denied, f"http://{ROUTER}/"]).stdout == "403"


def test_kernel_rules_are_rendered_from_the_running_router(inside: Inside) -> None:
    furnish(inside)
    command = [sys.executable, "-m", "router", "policy", "nft", "-c", str(inside.router.config_file)]
    rules = inside.cell.run("rtr", command)
    assert rules.returncode == 0, rules.stderr
    assert "10.255.1.2 . 10.255.1.3 . tcp . 5000" in rules.stdout


def test_internal_name_is_nobodys_in_public(inside: Inside) -> None:
    furnish(inside)
    inside.announce_in_public("back", NAME, 5000)
    inside.announce_in_public("back", "canary.test", 5000)
    ask = ["curl", "-sS", "-m", "30", "-o", "/dev/null", "-w", "%{http_code}"]
    url = f"http://{ROUTER}:8888/"
    wait_until(
        lambda: inside.cell.run("none", [*ask, "-H", "Host: canary.test", url]).stdout == "200",
        "the canary is routed",
    )
    assert inside.cell.run("none", [*ask, "-H", f"Host: {NAME}", url]).stdout == "404"


def test_policy_taken_back_ends_the_download_it_permitted(inside: Inside) -> None:
    furnish(inside)
    with inside.cell.start(
        "front", ["curl", "-sS", "--limit-rate", "4M", "-o", "/dev/null", f"http://{NAME}/big"]
    ) as slow:
        wait_until(lambda: inside.connections_to("back") > 0, "the download runs")
        inside.policy("policies/delete")
        assert slow.wait(60) != 0, "the download is cut"
    wait_until(lambda: inside.resolve("front") == ("NOERROR", []), "the name is gone")
    assert inside.get("front", f"http://{ROUTER}/") == "403"


def test_caller_that_is_gone_is_nobody(inside: Inside) -> None:
    furnish(inside)
    inside.forget("front")
    wait_until(lambda: inside.resolve("front")[0] == "REFUSED", "its questions are refused")


def test_address_with_a_new_tenant_has_the_new_tenants_rights(inside: Inside) -> None:
    furnish(inside)
    inside.identify("front", generation=2, app="other")
    wait_until(lambda: inside.resolve("front") == ("NOERROR", []), "the old tenant's rights are gone")
