"""The router as its watchers see it: metrics, the debug server, what a reload changes of them."""

import os
import re
import signal
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.certs import Pair, issue, make_ca
from tests.e2e.conftest import StartRouter, wait_everywhere
from tests.support.announce import Announcer, status_of
from tests.support.certificates import client_context
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.rawclient import RawClient
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until
from tests.support.watching import ask, metric_types, metrics

TAGS = {"component": "route-emitter", "source_id": "app-1"}
COUNTERS = """
    backend_exhausted_conns backend_invalid_id backend_invalid_tls_cert backend_tls_handshake_failed bad_gateways
    empty_content_length_header promhttp_metric_handler_errors_total registry_message rejected_requests responses
    routes_pruned total_requests unregistry_message websocket_failures websocket_upgrades
"""
GAUGES = "buffered_messages file_descriptors ms_since_last_registry_update total_dropped_messages total_routes"
HISTOGRAMS = "gorouter_time http_latency_seconds latency route_lookup_time route_registration_latency"
PROCESS = """
    process_cpu_seconds_total process_max_fds process_open_fds process_resident_memory_bytes
    process_start_time_seconds process_virtual_memory_bytes python_info
"""


@dataclass
class Watched:
    """A router that has had its share of everything, and the figures it shows of that."""

    router: RunningRouter
    port: int
    figures: dict[str, float]


def by_app(conversation: Conversation) -> None:
    """Answer with the status that is the path's first segment."""
    while True:
        request = conversation.read_request()
        conversation.answer(status=f"{request.target[1:4]} x")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("watched")
    server = NatsServer(directory)
    port = free_port()
    config = {
        "prometheus": {"enabled": True, "port": port},
        "per_app_prometheus_http_metrics_reporting": True,
        "route_latency_metric_muzzle_duration": "0s",
    }
    server.start()
    try:
        with (
            RunningRouter(directory, server.port, config) as router,
            Announcer(server.port) as announcer,
            RecordingBackend(by_app) as backend,
        ):
            live_through_everything(router, announcer, backend)
            yield Watched(
                router, port, wait_until(lambda: whole_report(port), "the worker's report", timeout_s=60)
            )
    finally:
        server.kill()


def whole_report(port: int) -> dict[str, float] | None:
    """Return the figures once the worker has told of the last request, and so of all before it."""
    figures = metrics(port)
    return figures if figures.get("empty_content_length_header") else None


def live_through_everything(router: RunningRouter, announcer: Announcer, backend: RecordingBackend) -> None:
    known: dict[str, Any] = {"port": backend.port, "tags": TAGS}
    announcer.register("app.test", "more.test", endpoint_updated_at_ns=1, **known)
    announcer.register("app.test", "more.test", endpoint_updated_at_ns=1, **known)
    announcer.register("app.test", endpoint_updated_at_ns=2, **known)
    announcer.register("dead.test", port=free_port())
    announcer.unregister("more.test", **known)
    wait_until(lambda: status_of(router.port, "dead.test") == 502, "the routes are there")
    for status in (200, 201, 302, 404, 500):
        assert status_of(router.port, "app.test", f"/{status}") == status
    assert status_of(router.port, "unknown.test") == 404
    with RawClient(router.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length:\r\n\r\n")
        assert client.read_response().status == 400


def test_metrics_have_gorouters_names_and_kinds(watched: Watched) -> None:
    types = metric_types(watched.port)
    expected = {
        **dict.fromkeys(COUNTERS.split(), "counter"),
        **dict.fromkeys(GAUGES.split(), "gauge"),
        **dict.fromkeys(HISTOGRAMS.split(), "histogram"),
    }
    assert {name: types.get(name) for name in expected} == expected
    assert set(PROCESS.split()) <= set(types)
    others = set(types) - set(expected) - set(PROCESS.split()) - {"routes_registered", "routes_unregistered"}
    assert {name for name in others if not name.startswith(("router_", "python_"))} == set()


def test_registrations_are_counted_by_component_and_what_became_of_them(watched: Watched) -> None:
    figures = watched.figures
    assert figures['registry_message{action="added",component="route-emitter"}'] == 2
    assert figures['registry_message{action="refreshed",component="route-emitter"}'] == 2
    assert figures['registry_message{action="updated",component="route-emitter"}'] == 1
    assert figures['registry_message{action="added",component=""}'] == 1
    assert figures['unregistry_message{component="route-emitter"}'] == 1
    assert figures["total_routes"] == 2
    assert figures["routes_pruned"] == 0
    assert figures["ms_since_last_registry_update"] >= 0


def test_requests_are_counted_once_under_every_name(watched: Watched) -> None:
    figures = watched.figures
    assert figures['total_requests{component="route-emitter"}'] == 5
    assert figures['responses{status_group="2xx"}'] == 2
    assert figures['responses{status_group="3xx"}'] == 1
    assert figures['responses{status_group="4xx"}'] == 1
    assert figures['responses{status_group="5xx"}'] >= 2, "the app's, and that of the endpoint nobody listens at"
    assert figures["bad_gateways"] == figures['responses{status_group="5xx"}'] - 1
    assert figures["rejected_requests"] >= 1
    assert figures["empty_content_length_header"] == 1
    assert figures['router_component_responses_total{component="route-emitter",status_group="2xx"}'] == 2


def test_times_are_histograms_in_gorouters_buckets(watched: Watched) -> None:
    figures = watched.figures
    bounds = {
        "route_lookup_time": [*range(10_000, 100_001, 10_000)],
        "gorouter_time": [1, 2, 4, 6, 8, 10, 20, 40, 50, 100, 500, 1000],
        "route_registration_latency": [0.1, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4],
    }
    for name, expected in bounds.items():
        shown = [f'{name}_bucket{{le="{bound}"}}' for bound in [*expected, "+Inf"]]
        assert [key for key in figures if key.startswith(f"{name}_bucket")] == shown
        assert figures[shown[-1]] == figures[f"{name}_count"] > 0
    assert figures['latency_count{component="route-emitter"}'] == 5
    assert figures['latency_bucket{component="route-emitter",le="+Inf"}'] == 5
    assert figures["route_registration_latency_count"] == 2, "an update is no registration"


def test_latency_by_app_has_its_own_buckets(watched: Watched) -> None:
    figures = watched.figures
    assert figures['http_latency_seconds_count{source_id="app-1"}'] == 5
    bounds = ["0.1", "0.2", "0.4", "0.8", "1.6", "3.2", "6.4", "12.8", "25.6", "+Inf"]
    for bound in bounds:
        assert f'http_latency_seconds_bucket{{source_id="app-1",le="{bound}"}}' in figures
    assert figures['http_latency_seconds_count{source_id="gorouter"}'] >= 1, "of endpoints that announce no source"


def test_processes_and_the_way_to_nats_are_shown(watched: Watched) -> None:
    figures = watched.figures
    assert figures["router_workers"] == 1
    assert figures["router_nats_connected"] == 1
    assert figures["router_worker_restarts_total"] == 0
    assert figures["file_descriptors"] > 10
    assert figures["process_resident_memory_bytes"] > 10_000_000
    assert figures["buffered_messages"] == figures["total_dropped_messages"] == 0


def test_nothing_but_the_metrics_is_served_and_only_on_loopback(watched: Watched) -> None:
    assert ask(watched.port, "/")[::2] == (404, b"404 page not found\n")
    status, headers, _ = ask(watched.port, "/metrics")
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_counters_never_fall_when_a_worker_is_replaced(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    port = free_port()
    router = start_router({"prometheus": {"enabled": True, "port": port}})
    announcer.register("app.test", port=make_backend().port, tags=TAGS)
    wait_everywhere(router, "app.test")
    # What a worker counted in its last moments dies with it: first everything has to be reported.
    name = 'total_requests{component="route-emitter"}'
    served = len([line for line in router.access_lines() if " 200 " in line])
    wait_until(lambda: metrics(port).get(name, 0) >= served, "the reports")
    before = metrics(port)
    started = router.messages().count("worker-started")
    os.kill(router.workers()[0], signal.SIGKILL)
    wait_until(lambda: router.messages().count("worker-started") > started, "the place is taken")

    after = metrics(port)
    types = metric_types(port)
    fallen = {
        key: (value, after.get(key))
        for key, value in before.items()
        if types.get(key.partition("{")[0]) == "counter" or "_bucket{" in key or "_count" in key
        if after.get(key, -1) < value and not key.startswith("python_")
    }
    assert fallen == {}
    assert after["router_worker_restarts_total"] == 1
    assert after["router_workers"] == 2


def test_lost_nats_is_shown(start_router: StartRouter, nats_server: NatsServer) -> None:
    port = free_port()
    start_router({"prometheus": {"enabled": True, "port": port}})
    assert metrics(port)["router_nats_connected"] == 1
    nats_server.kill()
    wait_until(lambda: metrics(port)["router_nats_connected"] == 0, "the loss")
    nats_server.start()
    wait_until(lambda: metrics(port)["router_nats_connected"] == 1, "the return")


def metrics_files(directory: Path, pair: Pair, authority: str) -> dict[str, str]:
    texts = {"cert_path": pair.certificate, "key_path": pair.private_key, "ca_path": authority}
    for name, text in texts.items():
        (directory / name).write_text(text)
    return {name: str(directory / name) for name in texts}


def test_metrics_over_mutual_tls_are_for_those_with_a_certificate(
    start_router: StartRouter, tmp_path: Path
) -> None:
    authority, port = make_ca(), free_port()
    files = metrics_files(tmp_path, issue(authority, ["localhost"]), authority.pair.certificate)
    start_router({"prometheus": {"enabled": True, "port": port, **files}})
    known = client_context(authority, identity=issue(authority, ["prometheus"], client=True), directory=tmp_path)
    foreign = client_context(authority, identity=issue(make_ca(), ["prometheus"], client=True), directory=tmp_path)

    assert metrics(port, known)["router_workers"] == 2
    for context in (client_context(authority), foreign):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            metrics(port, context)


def test_metrics_certificate_that_cannot_be_used_ends_the_start(start_router: StartRouter, tmp_path: Path) -> None:
    files = {"cert_path": str(tmp_path / "none.pem"), "key_path": "", "ca_path": ""}
    router = start_router({"prometheus": {"enabled": True, "port": free_port(), **files}}, wait=False)
    assert router.wait_exit() == 1
    error = router.wait_for_log("gorouter-failed-to-start")["data"]["error"]
    assert "prometheus.cert_path" in error
    assert "none.pem" in error


# The debug server.


def test_level_changed_through_the_debug_server_holds_for_workers_to_come(
    start_router: StartRouter, announcer: Announcer
) -> None:
    port = free_port()
    router = start_router({"debug_addr": f"127.0.0.1:{port}", "workers": 1})
    dead = free_port()
    announcer.register("dead.test", port=dead)
    wait_until(lambda: status_of(router.port, "dead.test") == 502, "the route is there")
    router.wait_for_log("endpoint-marked-as-ineligible")
    assert ask(port, "/log-level")[::2] == (200, b"debug\n")
    assert ask(port, "/log-level", method="PUT", body=b"error")[::2] == (200, b"error\n")

    os.kill(router.worker, signal.SIGKILL)
    router.wait_for_log("worker-exited")
    seen = len(router.log)
    wait_until(lambda: status_of(router.port, "dead.test") == 502, "the successor serves")
    router.wait_for_log("backend-endpoint-failed", where=lambda line: line in router.log[seen:])
    assert {line["log_level"] for line in router.log[seen:]} == {3}
    assert ask(port, "/debug/workers")[2] == f'{{"control":{router.pid},"workers":[{router.worker}]}}\n'.encode()


def test_debug_address_that_is_taken_costs_a_line_only(start_router: StartRouter) -> None:
    router = start_router({"debug_addr": "nowhere"})
    assert router.wait_for_log("debug-server-failed")["data"]["address"] == "nowhere"


# Reload.


def reload(router: RunningRouter, changes: dict[str, Any]) -> dict[str, Any]:
    """Write changed settings to the file, reload, and return the data of the line about what needs a restart."""
    config = yaml.safe_load(router.config_file.read_text())
    for path, value in changes.items():
        section = config
        *parents, last = path.split(".")
        for name in parents:
            section = section.setdefault(name, {})
        section[last] = value
    router.config_file.write_text(yaml.safe_dump(config))
    finished = router.messages().count("reload-finished")
    router.signal(signal.SIGHUP)
    wait_until(lambda: router.messages().count("reload-finished") > finished, "the reload")
    found = [line["data"] for line in router.log if line["message"] == "reload-needs-restart"]
    return found[-1] if found else {}


def test_reload_names_what_of_watching_needs_a_restart(start_router: StartRouter) -> None:
    port = free_port()
    router = start_router({"prometheus": {"enabled": True, "port": port}, "workers": 1})
    changes = {
        "prometheus.port": free_port(),
        "debug_addr": "127.0.0.1:1",
        "publish_active_apps_interval": "1s",
        "logging.metron_address": "127.0.0.1:1",
        "routing_api.auth_disabled": True,
        "route_latency_metric_muzzle_duration": "1s",
    }
    needing = reload(router, changes)
    assert set(needing["keys"]) == {*changes} - {"routing_api.auth_disabled"} | {"routing_api"}
    assert metrics(port)["router_workers"] >= 1


@pytest.mark.parametrize("of_requests", [False, True])
def test_metrics_agent_that_cannot_be_found_is_told_once(start_router: StartRouter, of_requests: bool) -> None:
    logging = {"metron_address": "127.0.0.1:none", "loggregator_enabled": of_requests}
    router = start_router({"enable_envelope_v1_metrics": not of_requests, "logging": logging, "workers": 2})
    line = router.wait_for_log("metrics-agent-not-found")
    assert line["log_level"] == 2
    assert line["data"]["error"].startswith("127.0.0.1:none: ")
    assert router.messages().count("metrics-agent-not-found") == 1


def test_reload_changes_log_headers_credentials_buckets_and_what_agents_are_told(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    port = free_port()
    router = start_router({"prometheus": {"enabled": True, "port": port}, "workers": 1})
    announcer.register("app.test", port=make_backend().port)
    wait_until(lambda: status_of(router.port, "app.test") == 200, "the route")
    needing = reload(
        router,
        {
            "extra_headers_to_log": ["X-Colour"],
            "status.pass": "new",
            "droplet_stale_threshold": "77s",
            "prometheus.meters.routing_response_latency_histogram_buckets": [3, 30],
        },
    )
    assert needing == {}
    router.wait_for_log("worker-left")
    with RawClient(router.port) as client:
        assert client.get("/after", host="app.test", headers="X-Colour: red\r\n").status == 200
    assert router.wait_access_line("/after").endswith(' x_colour:"red"')
    assert ask(router.routes_port, "/routes", user="admin:secret")[0] == 401
    assert ask(router.routes_port, "/routes", user="admin:new")[0] == 200
    assert b'"pruneThresholdInSeconds":77' in announcer.request("router.greet")
    assert 'gorouter_time_bucket{le="30"}' in metrics(port)
    assert 'gorouter_time_bucket{le="20"}' not in metrics(port)


# Health over TLS alone, and the shape of the log.


@pytest.mark.parametrize("offered", [["http/1.1"], []], ids=" ".join)
def test_health_is_asked_over_tls_alone(start_router: StartRouter, offered: list[str]) -> None:
    authority = make_ca()
    pair = issue(authority, ["localhost"])
    port = free_port()
    tls = {"port": port, "certificate": pair.certificate, "key": pair.private_key}
    router = start_router({"status": {"enable_nontls_health_checks": False, "tls": tls}, "workers": 1})
    context = client_context(authority)
    if offered:
        context.set_alpn_protocols(offered)

    status, headers, body = ask(port, "/health", tls=context)
    assert (status, body) == (200, b"ok\n")
    assert headers["cache-control"] == "private, max-age=0"
    with pytest.raises(ConnectionRefusedError):
        ask(router.health_port, "/health")


def test_log_lines_have_the_documented_shape(start_router: StartRouter) -> None:
    router = start_router({"logging": {"format": {"timestamp": "unix-epoch"}}})
    other = start_router({"logging": {"format": {"timestamp": "rfc3339"}, "level": "INFO"}, "workers": 1})
    for line in [*router.log, *other.log]:
        assert list(line) == ["log_level", "timestamp", "message", "source", "data"]
        assert line["source"].startswith("gorouter.stdout")
    assert all(isinstance(line["timestamp"], float) for line in router.log)
    shape = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
    assert all(re.fullmatch(shape, line["timestamp"]) for line in other.log)
    assert {line["log_level"] for line in other.log} <= {1, 2}


def test_malformed_policy_sources_are_told_once_for_a_registration(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"workers": 1})
    port = make_backend().port
    options = {"route_policy_scope": "any", "route_policy_sources": "cf:app:a,nonsense"}
    for _ in range(3):
        announcer.register("app.test", port=port, app="app", options=options)
    announcer.register("last.test", port=port)
    router.wait_for_log("endpoint-registered", where=lambda line: line["data"]["uri"] == "last.test")
    (line,) = [line for line in router.log if line["message"] == "route-policy-sources-malformed"]
    assert (line["log_level"], line["source"]) == (2, "gorouter.stdout.registry")
    assert line["data"]["sources"] == ["nonsense"]


def test_counters_of_workers_that_a_reload_has_sent_away_are_kept(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    port = free_port()
    router = start_router({"prometheus": {"enabled": True, "port": port}, "workers": 1})
    announcer.register("app.test", port=make_backend().port, tags=TAGS)
    wait_until(lambda: status_of(router.port, "app.test") == 200, "the route")
    for _ in range(9):
        assert status_of(router.port, "app.test") == 200
    # Not reported yet, but the worker's last words tell of them.
    reload(router, {})
    router.wait_for_log("worker-left")
    assert metrics(port)['total_requests{component="route-emitter"}'] == 10
    assert metrics(port)["router_worker_restarts_total"] == 0
