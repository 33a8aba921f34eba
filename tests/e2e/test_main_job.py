"""The main job: announced over NATS, routed over HTTP and HTTPS, forgotten when silent."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from router.certs import issue, make_ca
from tests.e2e.conftest import StartRouter, wait_everywhere
from tests.support.announce import Announcer, status_of
from tests.support.certificates import client_context
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.rawclient import RawClient
from tests.support.recorder import MakeBackend, named
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until


def get(port: int, path: str, headers: str = "") -> tuple[int, bytes]:
    with RawClient(port) as client:
        response = client.get(path, host="127.0.0.1", headers=headers)
        return response.status, response.body


def routes(router: RunningRouter) -> dict[str, Any]:
    """Return the document of the routes listener."""
    credentials = base64.b64encode(b"admin:secret").decode()
    status, body = get(router.routes_port, "/routes", f"Authorization: Basic {credentials}\r\n")
    assert status == 200
    document: dict[str, Any] = json.loads(body)
    return document


class Heart:
    """Announces again and again, as an agent does, until stopped."""

    def __init__(self, announce: Callable[[], None]) -> None:
        self._announce = announce
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(0.1):
            self._announce()


def test_announced_instances_are_routed_over_http_and_https(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    authority = make_ca()
    pair = issue(authority, ["app.test", "*.test"])
    router = start_router(
        {
            "enable_ssl": True,
            "ssl_port": free_port(),
            "client_cert_validation": "none",
            "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256",
            "tls_pem": [{"cert_chain": pair.certificate, "private_key": pair.private_key}],
        }
    )
    assert status_of(router.port, "app.test") == 404
    for name in ("one", "two"):
        announcer.register("app.test", "app.test/path", port=make_backend(named(name)).port, app="guid")
    wait_everywhere(router, "app.test")
    answers = set()
    for _ in range(20):
        with RawClient(router.port) as client:
            answers.add(client.get("/path/x", host="app.test").body)
        with RawClient(router.ssl_port, tls=client_context(authority), server_name="app.test") as client:
            answers.add(client.get(host="app.test").body)
    assert answers == {b"one", b"two"}
    assert len(router.workers()) == 2


def test_start_is_told_in_order(start_router: StartRouter) -> None:
    router = start_router()
    messages = router.messages()
    order = ["starting", "Successfully-connected-to-nats", "gorouter.started"]
    places = [next(at for at, message in enumerate(messages) if text in message) for text in order]
    assert places == sorted(places)
    (connected,) = [line for line in router.log if line.get("message") == "Successfully-connected-to-nats"]
    hosts = router.config["nats"]["hosts"]
    assert f"{hosts[0]['hostname']}:{hosts[0]['port']}" in json.dumps(connected)
    assert not any("unparsable" in line for line in router.log)
    assert router.stop() == 0
    assert router.messages()[-1] == "gorouter.stopped"


def test_signals_that_come_before_the_configuration_is_read_are_answered_afterwards(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    config = tmp_path / "router.yml"
    os.mkfifo(config)
    router = RunningRouter(tmp_path / "unused", nats_server.port)
    command = [sys.executable, "-m", "router", "run", "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        # Opening waits until the router reads.
        with config.open("w") as file:
            process.send_signal(signal.SIGUSR2)
            process.send_signal(signal.SIGTERM)
            yaml.safe_dump(router.config, file)
        lines, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert json.loads(lines.splitlines()[-1])["message"] == "gorouter.stopped"


def test_started_means_ready(start_router: StartRouter) -> None:
    router = start_router()
    assert get(router.health_port, "/health") == (200, b"ok\n")
    assert routes(router) == {}
    assert status_of(router.port, "nobody.test") == 404


def test_silent_instances_are_pruned_and_beating_ones_stay(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"droplet_stale_threshold": "4s", "prune_stale_droplets_interval": "300ms"})
    beating, silent = make_backend(), make_backend()
    heart = Heart(lambda: announcer.register("beating.test", port=beating.port))
    announcer.register("silent.test", port=silent.port)
    try:
        wait_everywhere(router, "silent.test", 404)
        assert status_of(router.port, "beating.test") == 200
    finally:
        heart.stop()
    wait_everywhere(router, "beating.test", 404)
    router.wait_for_log("pruned-route")
    assert routes(router) == {}


def test_time_to_live_of_a_message_is_kept(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"prune_stale_droplets_interval": "200ms"})
    backend = make_backend()
    announcer.register("lasting.test", port=backend.port)
    announcer.register("brief.test", port=backend.port, stale_threshold_in_seconds=4)
    wait_until(lambda: "brief.test" in routes(router), "it is announced")
    wait_everywhere(router, "brief.test", 404)
    assert status_of(router.port, "lasting.test") == 200


def test_unregistered_instance_gets_no_further_request(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router()
    staying, leaving = make_backend(named("staying")), make_backend(named("leaving"))
    for backend in (staying, leaving):
        announcer.register("app.test", port=backend.port)
    wait_everywhere(router, "app.test")
    wait_until(lambda: leaving.requests and status_of(router.port, "app.test"), "both are in use")
    announcer.unregister("app.test", port=leaving.port)
    wait_until(lambda: len(routes(router)["app.test"]) == 1, "control has heard of it")
    # A canary behind it in the same stream: when every worker has that, every worker has the removal.
    announcer.register("canary.test", port=staying.port)
    wait_everywhere(router, "canary.test")
    count = len(leaving.requests)
    assert [status_of(router.port, "app.test") for _ in range(40)] == [200] * 40
    assert len(leaving.requests) == count


def test_routes_are_listed_as_gorouter_lists_them(start_router: StartRouter, announcer: Announcer) -> None:
    router = start_router()
    announcer.register(
        "App.Test/Ctx",
        port=61001,
        host="10.0.0.9",
        private_instance_id="i-1",
        tags={"a": "b"},
        availability_zone="z1",
    )
    announcer.register("app.test", port=0, tls_port=61002, host="10.0.0.9", server_cert_domain_san="san")
    wait_until(lambda: len(routes(router)) == 2, "both routes are listed")
    listed = routes(router)
    assert list(listed) == ["app.test", "app.test/ctx"]
    (plain,), (tls,) = listed["app.test/ctx"], listed["app.test"]
    assert (plain["address"], plain["tls"], plain["private_instance_id"]) == ("10.0.0.9:61001", False, "i-1")
    assert (plain["tags"], plain["availability_zone"], plain["ttl"]) == ({"a": "b"}, "z1", 3600)
    assert (tls["address"], tls["tls"], tls["server_cert_domain_san"]) == ("10.0.0.9:61002", True, "san")
    assert "route_service_url" not in plain
    assert get(router.routes_port, "/routes")[0] == 401


def test_greeting_is_answered_with_the_register_interval(start_router: StartRouter, announcer: Announcer) -> None:
    start_router({"droplet_stale_threshold": "90s"})
    answer = json.loads(announcer.request("router.greet"))
    assert set(answer) == {"id", "hosts", "minimumRegisterIntervalInSeconds", "pruneThresholdInSeconds"}
    assert (answer["minimumRegisterIntervalInSeconds"], answer["pruneThresholdInSeconds"]) == (0, 90)


def test_start_delay_keeps_the_ports_closed_while_routes_load(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    announcer.listen("router.start")
    router = start_router({"start_response_delay_interval": "6s"}, wait=False)
    wait_until(lambda: announcer.seen, "the router asks for announcements")
    announcer.register("early.test", port=make_backend().port)
    assert status_of(router.port, "early.test") == 0
    assert get(router.health_port, "/health")[0] == 503
    router.wait_for_log("gorouter.started")
    assert [status_of(router.port, "early.test") for _ in range(20)] == [200] * 20


def test_burst_of_announcements_is_taken_in_whole(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router()
    backend = make_backend()
    for start in range(0, 3000, 10):
        announcer.register(*(f"app-{number}.test" for number in range(start, start + 10)), port=backend.port)
    wait_everywhere(router, "app-2999.test")
    assert len(routes(router)) == 3000
    assert {status_of(router.port, f"app-{number}.test") for number in range(0, 3000, 31)} == {200}


def test_workers_share_one_access_log(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend, tmp_path: Path
) -> None:
    router = start_router({"access_log": {"file": str(tmp_path / "deep.log")}})
    announcer.register("app.test", port=make_backend().port)
    wait_everywhere(router, "app.test")
    wait_until(lambda: (tmp_path / "deep.log").read_text().count("app.test") >= 40, "both workers log to one file")
