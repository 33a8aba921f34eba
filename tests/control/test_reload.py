"""What a reload may change."""

from typing import Any

import msgspec
import pytest

from router.config.internal import Internal, InternalDns, InternalDomain, InternalIdentities, InternalProxy
from router.config.schema import Config
from router.config.sections import Logging, Nats, NatsHost, Prometheus, RoutingApi, Status, StatusRoutes, StatusTls
from router.control.reload import FIXED, merge


def test_equal_configurations_keep_nothing_back() -> None:
    assert merge(Config(), Config()) == (Config(), [])


def test_what_workers_use_changes() -> None:
    wanted = Config(endpoint_timeout=7.0, logging=Logging(level="error", disable_log_source_ip=True))

    assert merge(Config(), wanted) == (wanted, [])


def test_listeners_and_nats_stay_as_they_are_and_are_named() -> None:
    running = Config(port=8081)
    wanted = Config(port=9000, nats=Nats(hosts=[NatsHost(hostname="elsewhere")]), max_idle_conns=7)

    merged, kept = merge(running, wanted)

    assert kept == ["port", "nats"]
    assert merged == Config(port=8081, max_idle_conns=7)


def test_a_nested_setting_is_kept_without_its_neighbours() -> None:
    wanted = Config(status=Status(port=1, user="new", routes=StatusRoutes(port=2)))

    merged, kept = merge(Config(), wanted)

    assert kept == ["status.port", "status.routes.port"]
    assert merged.status == Status(user="new")


def test_certificate_of_the_health_listener_changes() -> None:
    running = Config(status=Status(tls=StatusTls(certificate="old", key="old")))
    wanted = Config(status=Status(tls=StatusTls(certificate="new", key="new")))

    assert merge(running, wanted) == (wanted, [])


def internal(*names: str, **sections: Any) -> Config:
    return Config(internal=Internal(domains=[InternalDomain(name=name) for name in names], **sections))


def test_rules_of_internal_routing_change() -> None:
    running = internal("apps.internal", dns=InternalDns(resolvers=["192.0.2.1"]))
    wanted = internal(
        "apps.internal",
        dns=InternalDns(queries_per_second=7),
        identities=InternalIdentities(ttl=9.0, file="/x"),
        proxy=InternalProxy(cert_chain="c", private_key="k", identity_ca_certs="ca"),
    )
    assert merge(running, wanted) == (wanted, [])
    stricter = msgspec.structs.replace(
        wanted.internal, domains=[InternalDomain(name="apps.internal", identity="ip+mtls", view="open")]
    )
    assert merge(running, Config(internal=stricter)) == (Config(internal=stricter), [])


def test_listeners_and_feeds_of_internal_routing_stay_as_they_are() -> None:
    running = internal("apps.internal")
    wanted = internal(
        "apps.internal",
        addresses=["10.255.0.9"],
        dns=InternalDns(port=54, queries_per_second=7),
        proxy=InternalProxy(http_ports=[81], identity_ca_certs="ca"),
    )
    merged, kept = merge(running, wanted)
    assert kept == ["internal.proxy", "internal.addresses", "internal.dns.port"]
    assert merged == internal("apps.internal", dns=InternalDns(queries_per_second=7))


@pytest.mark.parametrize("names", [(), ("apps.internal", "more.internal"), ("other.internal",)])
def test_other_internal_domains_wait_for_a_restart_with_the_whole_section(names: tuple[str, ...]) -> None:
    running = internal("apps.internal", dns=InternalDns(queries_per_second=1))
    assert merge(running, internal(*names)) == (running, ["internal"])


@pytest.mark.parametrize("swap", [False, True])
def test_health_listener_over_tls_neither_appears_nor_goes(swap: bool) -> None:
    without, with_tls = Config(), Config(status=Status(tls=StatusTls(certificate="c", key="k")))
    running, wanted = (with_tls, without) if swap else (without, with_tls)

    assert merge(running, wanted) == (running, ["status.tls"])


@pytest.mark.parametrize("path", FIXED)
def test_every_fixed_setting_exists(path: str) -> None:
    document = msgspec.to_builtins(Config())
    for key in path.split("."):
        document = document[key]


def test_what_watches_control_stays_as_it_is() -> None:
    wanted = Config(
        debug_addr="127.0.0.1:1",
        prometheus=Prometheus(enabled=True, port=9),
        routing_api=RoutingApi(uri="https://a", port=1),
        publish_active_apps_interval=5.0,
        logging=Logging(metron_address="localhost:1", level="error"),
    )
    merged, kept = merge(Config(), wanted)

    assert merged == Config(logging=Logging(level="error"))
    assert set(kept) == {
        "debug_addr",
        "prometheus.enabled",
        "prometheus.port",
        "routing_api",
        "publish_active_apps_interval",
        "logging.metron_address",
    }


@pytest.mark.parametrize("swap", [False, True])
def test_mutual_tls_of_the_metrics_listener_neither_appears_nor_goes(swap: bool) -> None:
    plain = Config(prometheus=Prometheus(enabled=True))
    mutual = Config(prometheus=Prometheus(enabled=True, cert_path="/c", key_path="/k", ca_path="/ca"))
    running, wanted = (mutual, plain) if swap else (plain, mutual)

    assert merge(running, wanted) == (
        running,
        ["prometheus.cert_path", "prometheus.key_path", "prometheus.ca_path"],
    )


def test_certificate_of_the_metrics_listener_changes() -> None:
    running = Config(prometheus=Prometheus(enabled=True, cert_path="/c", key_path="/k", ca_path="/ca"))
    wanted = Config(prometheus=Prometheus(enabled=True, cert_path="/c2", key_path="/k2", ca_path="/ca2"))

    assert merge(running, wanted) == (wanted, [])
