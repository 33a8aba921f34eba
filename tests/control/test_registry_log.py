from typing import Any

import msgspec
import pytest

from router.config.internal import Internal, InternalDomain
from router.config.schema import Config
from router.control.registry_log import RegistryTally, make_registry
from router.log import DEBUG, INFO, WARN, Logger
from router.routing.registry import Registry
from tests.support.registry import announced


def logged(level: int = DEBUG, **keys: Any) -> tuple[Registry, list[Any]]:
    lines: list[Any] = []
    logger = Logger(level=level, sink=lambda line: lines.append(msgspec.json.decode(line)))
    return make_registry(Config(**keys), logger), lines


def messages(lines: list[Any]) -> list[str]:
    return [line["message"] for line in lines]


def test_endpoint_is_logged_with_gorouters_fields() -> None:
    table, lines = logged()
    table.register(announced("a.test", app="app", instance_id="id", san="san", tls=True), 0.0)

    assert messages(lines) == ["route-registered", "endpoint-registered"]
    assert lines[0]["data"] == {"uri": "a.test"}
    assert lines[1]["source"] == "gorouter.stdout.registry"
    assert lines[1]["data"] == {
        "uri": "a.test",
        "route_service_url": "",
        "backend": "10.0.0.1:80",
        "application_id": "app",
        "instance_id": "id",
        "server_cert_domain_san": "san",
        "protocol": "http1",
        "modification_tag": {"guid": "", "index": 0},
        "isolation_segment": "-",
        "isTLS": True,
    }


def test_changed_endpoint_is_news_for_debugging_only() -> None:
    verbose, all_lines = logged(DEBUG)
    quiet, few_lines = logged(INFO)
    for table in (verbose, quiet):
        table.register(announced("a.test"), 0.0)
        table.register(announced("a.test", app="other"), 0.0)

    assert messages(all_lines) == ["route-registered", "endpoint-registered", "endpoint-registered"]
    assert messages(few_lines) == ["route-registered", "endpoint-registered"]


def test_every_way_to_go_has_its_line() -> None:
    table, lines = logged(INFO, suspend_pruning_if_nats_unavailable=True)
    table.register(announced("a.test"), 0.0)
    table.register(announced("b.test", tls=True), 0.0)
    table.register(announced("c.test"), 0.0)
    del lines[:]
    table.unregister(announced("a.test"), 0.0)
    table.unregister(announced("a.test"), 0.0)
    table.endpoint_failed("b.test", 2, 0.0)
    table.prune(500.0, nats_connected=True)
    table.prune(500.0, nats_connected=False)

    assert messages(lines) == [
        "endpoint-unregistered",
        "route-unregistered",
        "endpoint-not-unregistered",
        "prune-failed-endpoint",
        "pruned-route",
        "prune-suspended",
    ]
    assert lines[4]["data"] == {"uri": "c.test", "endpoints": ["10.0.0.1:80"], "isolation_segment": "-"}


def test_what_is_refused_says_why() -> None:
    table, lines = logged()
    table.register(announced("a.test", updated_at_ns=5, algorithm="fastest"), 0.0)
    table.register(announced("a.test", updated_at_ns=4), 0.0)

    assert [line["log_level"] for line in lines if "invalid" in line["message"]] == [3]
    assert lines[-1]["message"] == "endpoint-not-registered"
    assert lines[-1]["data"]["reason"] == "older than what is known"


def test_rules_come_from_the_configuration() -> None:
    table, _ = logged(
        droplet_stale_threshold=60.0,
        routing_table_sharding_mode="segments",
        isolation_segments=["mine"],
        enable_http2=False,
    )
    table.register(announced("a.test", isolation_segment="mine", protocol="http2"), 0.0)
    table.register(announced("b.test"), 0.0)

    assert b"".join(table.routes_json()) == (
        b'{"a.test":[{"address":"10.0.0.1:80","availability_zone":"","protocol":"http1","tls":false,"ttl":60,'
        b'"tags":null,"isolation_segment":"mine"}]}\n'
    )


def test_public_announcement_of_an_internal_name_is_logged_and_does_not_flood_the_log() -> None:
    internal = Internal(domains=[InternalDomain(name="Apps.Internal.")])
    table, lines = logged(INFO, internal=internal)
    table.register(announced("x.apps.internal", app="app", tags={"component": "emitter"}), 0.0)
    assert [(line["log_level"], line["message"]) for line in lines] == [(WARN, "internal-name-not-public")]
    assert lines[0]["data"] == {
        "uri": "x.apps.internal",
        "backend": "10.0.0.1:80",
        "application_id": "app",
        "component": "emitter",
        "suppressed": 0,
    }
    for _ in range(1000):
        table.register(announced("x.apps.internal"), 0.0)
    assert len(lines) < 100


class Measured:
    """A registry whose events are counted; clocks stand at 100 s and 1 000 000 s since the epoch."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[float] = []
        self.tally = RegistryTally([1.0, 4.0], 20.0, lambda: self.now, lambda: 10**15)
        self.tally.on_latency = self.told.append
        self.registry = make_registry(Config(), Logger(sink=lambda line: None), self.tally)


def test_routes_that_come_and_go_are_counted() -> None:
    measured = Measured()
    for uri in ("a.test", "b.test"):
        measured.registry.register(announced(uri), 0.0)
        measured.registry.register(announced(uri, port=81), 0.0)
    measured.registry.unregister(announced("a.test"), 0.0)
    assert (measured.tally.routes_registered, measured.tally.routes_unregistered) == (2, 0)
    measured.registry.unregister(announced("a.test", port=81), 0.0)
    assert (measured.tally.routes_registered, measured.tally.routes_unregistered) == (2, 1)


def test_latency_is_measured_for_new_endpoints_once_the_muzzle_time_is_over() -> None:
    measured = Measured()
    decided_ns = 10**15 - 2_500_000
    measured.registry.register(announced("early.test", updated_at_ns=decided_ns), 0.0)
    measured.now = 120.0
    measured.registry.register(announced("a.test", updated_at_ns=decided_ns), 0.0)
    measured.registry.register(announced("a.test", updated_at_ns=decided_ns + 1), 0.0)
    measured.registry.register(announced("silent.test"), 0.0)

    assert measured.told == [pytest.approx(2.5)]
    assert dict(measured.tally.latency.figures())["route_registration_latency\t\t4.0"] == 1


def test_platform_whose_clock_is_ahead_makes_no_negative_latency() -> None:
    measured = Measured()
    measured.now = 120.0
    measured.registry.register(announced("a.test", updated_at_ns=10**15 + 5), 0.0)

    assert measured.told == [0.0]


def test_sources_that_make_no_sense_are_named_once_for_each_registration() -> None:
    table, lines = logged(INFO)
    registration = announced(
        "a.test", app="app", route_policy_scope="any", route_policy_sources="cf:app:a, cf:nobody, http://x"
    )
    table.register(registration, 0.0)
    table.register(registration, 1.0)

    (line,) = [line for line in lines if line["message"] == "route-policy-sources-malformed"]
    assert line["log_level"] == 2
    assert line["data"] == {
        "uri": "a.test",
        "backend": "10.0.0.1:80",
        "application_id": "app",
        "sources": ["cf:nobody", "http://x"],
        "suppressed": 0,
    }


def test_sources_that_change_are_judged_anew() -> None:
    table, lines = logged(INFO)
    for sources in ("cf:app:a", "nobody"):
        table.register(announced("a.test", route_policy_sources=sources), 0.0)

    assert messages(lines).count("route-policy-sources-malformed") == 1
