"""What a reload changes of internal routing, and what it leaves, in a whole router on loopback addresses."""

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.certs import make_ca
from tests.e2e.conftest import StartRouter
from tests.support.ports import free_port
from tests.support.rawclient import RawClient
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until

CALLER = "127.0.20.2"
QUIET_S = 0.2
"""Between questions: a worker writes 20 lines a second on what it denies, and no more."""


def identities_file(directory: Path, app: str) -> str:
    path = directory / f"{app}.yml"
    path.write_text(yaml.safe_dump({"workloads": [{"ip": CALLER, "app": app}]}))
    return str(path)


@pytest.fixture
def section(tmp_path: Path) -> dict[str, Any]:
    policies = tmp_path / "policies.yml"
    policies.write_text("policies: []\n")
    return {
        "domains": [{"name": "apps.internal", "identity": "ip"}],
        "container_networks": ["127.0.20.0/24"],
        "addresses": ["127.0.0.1"],
        "discovery": {"warm_duration": "10ms"},
        "identities": {"file": identities_file(tmp_path, "before")},
        "policies": {"source": "file", "file": str(policies)},
        "dns": {"port": free_port()},
        "proxy": {"http_ports": [free_port()]},
    }


def denial(router: RunningRouter, port: int) -> tuple[str, str]:
    """Ask for a name as the caller; return the app it passes for and why it is refused."""
    seen = len(router.log)
    with RawClient(port, source=CALLER) as client:
        assert client.get(host="none.apps.internal").status in (403, 503)
    line = wait_until(
        lambda: next((line for line in router.log[seen:] if line["message"] == "internal-request-denied"), None),
        "the denial in the log",
    )
    return line["data"]["caller_app"], line["data"]["reason"]


def reload(router: RunningRouter, section: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the router another file; return what it logs until the reload is done."""
    seen = len(router.log)
    router.config_file.write_text(yaml.safe_dump({**router.config, "internal": section}, sort_keys=False))
    router.signal(signal.SIGHUP)

    def finished() -> bool:
        return any(line["message"].startswith(("reload-finished", "reload-failed")) for line in router.log[seen:])

    wait_until(finished, "the reload is over")
    return [line for line in router.log[seen:] if line["message"].startswith("reload-")]


def test_rules_for_callers_change_and_listeners_wait_for_a_restart(
    tmp_path: Path, start_router: StartRouter, section: dict[str, Any]
) -> None:
    router = start_router({"internal": section})
    port = section["proxy"]["http_ports"][0]
    wait_until(lambda: denial(router, port) == ("before", "no-policy"), "the caller is known", every_s=QUIET_S)

    identities = {"file": identities_file(tmp_path, "after")}
    changed = {**section, "identities": identities}
    assert [line["message"] for line in reload(router, changed)] == ["reload-started", "reload-finished"]
    wait_until(lambda: denial(router, port) == ("after", "no-policy"), "the other file counts", every_s=QUIET_S)

    strict = {
        **changed,
        "domains": [{"name": "apps.internal", "identity": "ip+mtls"}],
        "proxy": {**section["proxy"], "identity_ca_certs": make_ca().pair.certificate},
    }
    assert reload(router, strict)[-1]["message"] == "reload-finished", router.story()
    wait_until(
        lambda: denial(router, port)[1] == "certificate-required", "new workers ask for it", every_s=QUIET_S
    )

    lines = reload(router, {**strict, "proxy": {**strict["proxy"], "http_ports": [free_port()]}})
    (kept,) = [line["data"]["keys"] for line in lines if line["message"] == "reload-needs-restart"]
    assert kept == ["internal.proxy"]
    assert denial(router, port)[1] == "certificate-required"
