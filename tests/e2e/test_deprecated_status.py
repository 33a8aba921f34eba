"""How platforms before Prometheus watched a router: varz, healthz, components, active apps."""

import json
import re
import zlib
from typing import Any

import pytest

from tests.e2e.conftest import StartRouter
from tests.support.announce import Announcer, status_of
from tests.support.nats import NatsServer
from tests.support.recorder import MakeBackend
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until
from tests.support.watching import ask

USER = "admin:secret"
DEPRECATED = {"enable_deprecated_varz_healthz_endpoints": True, "host": "127.0.0.1"}
KEYS = """
    type index host credentials uuid start uptime num_cores mem cpu log_counts urls droplets bad_requests
    bad_gateways requests_per_sec top10_app_requests ms_since_last_registry_update requests rate responses_2xx
    responses_3xx responses_4xx responses_5xx responses_xxx latency tags
"""


def varz(router: RunningRouter) -> dict[str, Any]:
    status, headers, body = ask(router.health_port, "/varz", user=USER)
    assert status == 200
    assert headers["connection"].lower() == "close"
    assert headers["content-type"] == "application/json"
    document = json.loads(body)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("path", ["/health", "/healthz"])
def test_health_needs_no_credentials(start_router: StartRouter, path: str) -> None:
    router = start_router({"status": DEPRECATED})
    status, headers, body = ask(router.health_port, path)
    assert (status, body) == (200, b"ok\n")
    assert headers["cache-control"] == "private, max-age=0"
    assert headers["expires"] == "0"


def test_every_other_path_asks_for_credentials_first(start_router: StartRouter) -> None:
    router = start_router({"status": DEPRECATED})
    for path in ("/varz", "/routes", "/unknown"):
        for user in ("", "admin:wrong"):
            status, headers, body = ask(router.health_port, path, user=user)
            assert (status, body) == (401, b"401 Unauthorized\n")
            assert headers["www-authenticate"] == "Basic"
    assert ask(router.health_port, "/unknown", user=USER)[0] == 404
    assert ask(router.health_port, "/routes", user=USER)[::2] == (200, b"{}\n")


def test_without_the_switch_there_is_no_varz(start_router: StartRouter) -> None:
    router = start_router({})
    for path in ("/varz", "/healthz", "/routes", "/"):
        assert ask(router.health_port, path, user=USER)[::2] == (404, b"404 page not found\n")
    for method in ("GET", "HEAD", "POST"):
        assert ask(router.health_port, "/health", method=method)[0] == 200
    alive = "/is-process-alive-do-not-use-for-loadbalancing"
    assert ask(router.health_port, alive)[::2] == (200, b"ok\n")


def test_varz_tells_of_requests_together_and_by_component(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"status": DEPRECATED, "index": 3})
    port = make_backend().port
    announcer.register("app.test", "more.test", port=port, app="app-guid", tags={"component": "uaa"})
    wait_until(lambda: status_of(router.port, "app.test") == 200, "the route")
    assert status_of(router.port, "app.test") == 200
    assert status_of(router.port, "unknown.test") == 404
    wait_until(lambda: varz(router)["responses_2xx"] == 2 and varz(router)["bad_requests"], "the workers' reports")

    document = varz(router)
    assert set(document) == set(KEYS.split())
    assert (document["type"], document["index"]) == ("Router", 3)
    assert document["credentials"] == ["admin", "secret"]
    assert document["host"].endswith(f":{router.health_port}")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", document["start"])
    assert re.fullmatch(r"0d:0h:\d+m:\d+s", document["uptime"])
    assert (document["urls"], document["droplets"]) == (2, 1)
    assert document["requests"] == 2
    assert document["top10_app_requests"] == [{"application_id": "app-guid", "rps": 0, "rpm": 2}]
    assert document["mem"] > 10_000
    assert len(document["rate"]) == 3
    assert set(document["latency"]) == {"50", "75", "90", "95", "99", "value", "samples"}
    assert document["latency"]["samples"] == 2
    uaa = document["tags"]["component"]["uaa"]
    assert (uaa["requests"], uaa["responses_2xx"], uaa["responses_4xx"]) == (2, 2, 0)


def test_router_announces_itself_as_a_component_and_answers_who_looks_for_one(
    start_router: StartRouter, announcer: Announcer
) -> None:
    announcer.listen("vcap.component.announce")
    router = start_router({"status": DEPRECATED})
    wait_until(lambda: announcer.seen, "the announcement")
    announced = json.loads(announcer.seen[0][1])
    found = json.loads(announcer.request("vcap.component.discover"))
    assert announced["type"] == found["type"] == "Router"
    assert announced["uuid"] == found["uuid"] == varz(router)["uuid"]
    announcer.publish("vcap.component.discover", b"")
    router.wait_for_log("component-discover-without-reply")


def test_component_protocol_is_silent_without_the_switch(start_router: StartRouter, announcer: Announcer) -> None:
    announcer.listen("vcap.component.announce")
    start_router({})
    assert not announcer.hears("vcap.component.discover")
    assert announcer.seen == []


def test_apps_that_were_asked_for_are_published(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    announcer.listen("router.active_apps")
    router = start_router({"publish_active_apps_interval": "200ms"})
    port = make_backend().port
    announcer.register("one.test", port=port, app="app-1")
    announcer.register("two.test", port=make_backend().port, app="app-2")
    announcer.register("idle.test", port=make_backend().port, app="app-3")
    for host in ("one.test", "two.test"):
        wait_until(lambda: status_of(router.port, host) == 200, "the route")  # noqa: B023

    def heard() -> list[str]:
        return [app for _, payload in announcer.seen for app in json.loads(zlib.decompress(payload))]

    wait_until(lambda: set(heard()) == {"app-1", "app-2"}, "both apps")
    count = len(announcer.seen)
    wait_until(lambda: len(announcer.seen) > count + 1, "the next intervals")
    assert json.loads(zlib.decompress(announcer.seen[-1][1])) == []


def test_absence_of_nats_is_told_again_and_again(start_router: StartRouter, nats_server: NatsServer) -> None:
    router = start_router({})
    connected = router.wait_for_log("Successfully-connected-to-nats")
    assert connected["source"] == "gorouter.stdout.nats"
    nats_server.kill()
    assert router.wait_for_log("nats-connection-disconnected")["log_level"] == 2
    still = router.wait_for_log("nats-connection-still-disconnected")
    assert (still["log_level"], still["data"]["disconnected_seconds"] >= 5) == (2, True)
    nats_server.start()
    back = router.wait_for_log("nats-connection-reconnected")
    assert (back["log_level"], back["data"]["disconnected_seconds"] >= 5) == (1, True)
    assert router.messages().count("nats-connection-disconnected") == 1
