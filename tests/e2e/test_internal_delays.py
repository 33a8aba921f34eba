"""How long what was heard holds: two routers on one bus differ by one key, and by what they still know."""

import http.client
import json
import threading
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from router.wire.identities import DROP, PUT, AddressesGone, Workload, WorkloadsSaid, encode
from tests.e2e.conftest import StartRouter
from tests.support.announce import Announcer, status_of
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.router import RunningRouter
from tests.support.waiting import PATIENCE_S, wait_until

ADDRESS = "127.0.21.2"
NAME = "backend.apps.internal"


@pytest.fixture
def internal(tmp_path: Path) -> dict[str, Any]:
    """What both routers have in common; their ports are given to each."""
    policies = tmp_path / "policies.yml"
    policies.write_text("policies: []\n")
    return {
        "domains": [{"name": "apps.internal", "identity": "ip"}],
        "container_networks": ["127.0.21.0/24"],
        "addresses": ["127.0.0.1"],
        "policies": {"source": "file", "file": str(policies)},
    }


def with_ports(internal: dict[str, Any], **changes: Any) -> dict[str, Any]:
    ports = {"dns": {"port": free_port()}, "proxy": {"http_ports": [free_port()]}}
    return {"internal": {**internal, **ports, **changes}}


def facts(router: RunningRouter) -> dict[str, Any]:
    """Return what the router shows as ``/internal``."""
    with closing(http.client.HTTPConnection("127.0.0.1", router.routes_port, timeout=PATIENCE_S)) as connection:
        login = "Basic " + b64encode(b"admin:secret").decode()
        connection.request("GET", "/internal", headers={"Authorization": login})
        return dict(json.loads(connection.getresponse().read()))


def app_at(router: RunningRouter, address: str) -> str:
    """Return the app that is believed to have an address; empty for none."""
    return next((one["app"] for one in facts(router)["identities"] if one["ip"] == address), "")


def test_names_are_held_after_nats_was_away_for_as_long_as_the_key_says(
    start_router: StartRouter, announcer: Announcer, nats_server: NatsServer, internal: dict[str, Any]
) -> None:
    short = {"register_interval": "1s", "staleness_threshold": "1100ms", "pruning_interval": "50ms"}
    public = {
        "droplet_stale_threshold": "1200ms",
        "prune_stale_droplets_interval": "50ms",
        "suspend_pruning_if_nats_unavailable": True,
    }
    keeps, forgets = (
        start_router({**public, **with_ports(internal, discovery={**short, "resume_pruning_delay": delay})})
        for delay in ("10m", "100ms")
    )
    gone = threading.Event()

    def beat() -> None:
        message = json.dumps({"host": ADDRESS, "port": 0, "uris": [NAME], "app": "backend"}).encode()
        while not gone.wait(0.05):
            announcer.publish("service-discovery.register", message)
            announcer.register("clock.test", port=free_port())

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        for router in (keeps, forgets):
            wait_until(lambda: NAME in facts(router)["names"], "the name is known")  # noqa: B023
            wait_until(lambda: status_of(router.port, "clock.test") != 404, "the route is known")  # noqa: B023
    finally:
        gone.set()
        nats_server.kill()
        nats_server.start()
        beating.join()
    wait_until(lambda: NAME not in facts(forgets)["names"], "the name is forgotten where the delay is over")
    # A route goes a whole threshold after NATS is back: by then this router looks for stale names again, too.
    wait_until(lambda: status_of(keeps.port, "clock.test") == 404, "the route is forgotten")
    assert NAME in facts(keeps)["names"]


def test_older_identity_is_not_believed_for_as_long_as_the_key_says(
    start_router: StartRouter, announcer: Announcer, internal: dict[str, Any]
) -> None:
    routers = [
        start_router(with_ports(internal, identities={"quarantine": quarantine}))
        for quarantine in ("10m", "200ms")
    ]
    holds, believes = routers

    def said(app: str, generation: int) -> None:
        workload = Workload(
            ip=ADDRESS,
            app=app,
            space="space",
            organization="org",
            instance=f"{app}-0",
            index="0",
            generation=generation,
            ports=(),
        )
        announcer.publish(PUT, encode(WorkloadsSaid(agent=app, sequence=1, workloads=[workload], ttl=600)))

    said("older", 1)
    said("newer", 2)
    for router in routers:
        wait_until(lambda: app_at(router, ADDRESS) == "newer", "the newer is believed")  # noqa: B023
    announcer.publish(DROP, encode(AddressesGone(agent="newer", sequence=2, addresses=[ADDRESS])))
    wait_until(lambda: app_at(believes, ADDRESS) == "older", "the quarantine is over")
    line = holds.wait_for_log("identity-quarantined")
    assert (line["data"]["ip"], line["data"]["newer_generation"]) == (ADDRESS, 2)
    assert app_at(holds, ADDRESS) == ""
