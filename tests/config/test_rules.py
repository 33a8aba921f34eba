import pytest

from router.config.problems import Problem
from tests.config.conftest import Judge

PREFIX = "http_rewrite: {responses: "


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (
            "balancing_algorithm: random",
            "balancing_algorithm",
            "Invalid load balancing algorithm random. Allowed values are [round-robin least-connection]",
        ),
        (
            "balancing_algorithm_az_preference: x",
            "balancing_algorithm_az_preference",
            "Invalid load balancing AZ preference x. Allowed values are [none locally-optimistic]",
        ),
        (
            "routing_table_sharding_mode: x",
            "routing_table_sharding_mode",
            "Invalid sharding mode: x. Allowed values are [all segments shared-and-segments]",
        ),
        (
            "routing_table_sharding_mode: segments",
            "isolation_segments",
            "Expected isolation segments; routing table sharding mode set to segments and none provided.",
        ),
        (
            "forwarded_client_cert: x",
            "forwarded_client_cert",
            "Invalid forwarded client cert mode: x. Allowed values are [always_forward forward sanitize_set]",
        ),
        (
            "logging: {redact_query_params: x}",
            "logging.redact_query_params",
            "Invalid query param redaction mode: x. Allowed values are [none all hash]",
        ),
        (
            "logging: {level: loud}",
            "logging.level",
            "Invalid log level loud. Allowed values are [debug info warn error dpanic panic fatal]",
        ),
        (
            "worker_timeout: 4s",
            "worker_timeout",
            "must be 0 or at least 5s: 4s",
        ),
        (
            "disable_http: true",
            "disable_http",
            "neither http nor https listener is enabled: router.enable_ssl: false, router.disable_http: true",
        ),
        (
            "status: {enable_nontls_health_checks: false}",
            "status.enable_nontls_health_checks",
            "Neither TLS nor non-TLS health endpoints are enabled. Refusing to start gorouter.",
        ),
        (
            "load_balancer_healthy_threshold: -1s",
            "load_balancer_healthy_threshold",
            "Invalid load balancer healthy threshold: -1s",
        ),
        ("status: {port: 8081}", "status.port", "port 8081 is already used by port"),
        ("status: {port: 8082}", "status.routes.port", "port 8082 is already used by status.port"),
        ("prometheus: {enabled: true, port: 8081}", "prometheus.port", "port 8081 is already used by port"),
        ("listen_address: localhost", "listen_address", "not an IP address: localhost"),
        ("workers: 100000", "workers", "more than 1024 workers: 100000"),
        ("go_max_procs: 100000", "go_max_procs", "more than 1024 workers: 100000"),
        ("nats: {hosts: []}", "nats.hosts", "at least one NATS server is needed"),
        ("nats: {hosts: [{}]}", "nats.hosts[0].hostname", "not a host name: ''"),
        ("nats: {hosts: [{hostname: 'a b'}]}", "nats.hosts[0].hostname", "not a host name: 'a b'"),
        (
            "nats: {hosts: [{hostname: a, port: 0}]}",
            "nats.hosts[0].port",
            "the port of a NATS server must not be 0",
        ),
        (
            "route_services_hairpinning_allowlist: [ok.example.com, '*']",
            "route_services_hairpinning_allowlist[1]",
            "Invalid route service hairpinning allowlist entry: *",
        ),
        (
            "route_services: {egress_blocklist: [10.0.0.0/8, ten]}",
            "route_services.egress_blocklist[1]",
            "invalid CIDR address: ten",
        ),
        (
            "hash_based_routing: {lookup_table_size: XXL}",
            "hash_based_routing.lookup_table_size",
            "Invalid lookup table size XXL. Allowed values are [XS S M L XL]",
        ),
        (
            "access_log: {enable_streaming: true}\nlogging: {syslog_network: carrier-pigeon}",
            "logging.syslog_network",
            "unknown network carrier-pigeon. Allowed values are [udp tcp]",
        ),
        (
            "access_log: {enable_streaming: true}\nlogging: {syslog_addr: localhost}",
            "logging.syslog_addr",
            "not host:port: 'localhost'",
        ),
        (
            "access_log: {enable_streaming: true}\nlogging: {syslog_addr: 'localhost:70000'}",
            "logging.syslog_addr",
            "not host:port: 'localhost:70000'",
        ),
        (
            PREFIX + "{add_headers_if_not_present: [{name: 'a b', value: c}]}}",
            "http_rewrite.responses.add_headers_if_not_present[0].name",
            "not a header name: 'a b'",
        ),
        (
            PREFIX + '{add_headers_if_not_present: [{name: a, value: "b\\r\\nc"}]}}',
            "http_rewrite.responses.add_headers_if_not_present[0].value",
            "a header value must not hold line breaks or control characters",
        ),
        (
            PREFIX + "{remove_headers: [{name: ''}]}}",
            "http_rewrite.responses.remove_headers[0].name",
            "not a header name: ''",
        ),
    ],
)
def test_a_broken_rule_is_told(judge: Judge, text: str, key: str, message: str) -> None:
    error = only(judge(text).errors)
    assert (error.key, error.message) == (key, message)
    assert error.line


@pytest.mark.parametrize(
    "text",
    [
        "balancing_algorithm: least-connection",
        "debug_addr: ':17002'",
        "enable_envelope_v1_metrics: false\nlogging: {metron_address: ''}",
        "routing_table_sharding_mode: segments\nisolation_segments: [a]",
        "logging: {level: WARN}",
        "route_services_hairpinning_allowlist: [a.b, '*.Example.com', x-1.y]",
        "route_services: {egress_blocklist: [10.1.2.3/8, '::1/128', 192.0.2.1]}",
        "enable_proxy: true\nenable_proxy_from: [10.1.2.3/8, '::1/128', 192.0.2.1]",
        "listen_address: '::1'",
        "listen_address: 127.0.0.1",
        "status: {port: 0, routes: {port: 0}}",
        "prometheus: {port: 8081}",
        "disable_http: true\nenable_ssl: maybe",
        "nats: {hosts: [{hostname: '::1'}, {hostname: nats.internal, port: 4223}]}",
        PREFIX + "{add_headers_if_not_present: [{name: Strict-Transport-Security, value: max-age=1}]}}",
    ],
)
def test_what_obeys_the_rules_breaks_none(judge: Judge, text: str) -> None:
    assert [error for error in judge(text).errors if error.key != "enable_ssl"] == []


def test_rules_about_domains_name_every_item(judge: Judge) -> None:
    text = "domains:\n- {name: '*.', forwarded_client_cert: x}\n- {name: a.b, xfcc_format: y}\n- {name: A.b}\n"
    found = {(error.key, error.line): error.message for error in judge(text).errors}
    assert found["domains[0].name", 2] == "not a domain name: '*.'"
    assert found["domains[0].forwarded_client_cert", 2].startswith("Invalid forwarded client cert mode: x.")
    assert found["domains[1].xfcc_format", 3] == "Invalid xfcc format: y. Allowed values are [raw envoy]"
    assert found["domains[2].name", 4] == "domain A.b is listed twice"


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("max_request_header_bytes: 2000000", "max_request_header_bytes", "1048576 (1 MiB) is used"),
        ("droplet_stale_threshold: 1s", "droplet_stale_threshold", "raised to start_response_delay_interval, 5s"),
        ("start_response_delay_interval: 300s", "droplet_stale_threshold", None),
        ("route_services: {max_attempts: 0}", "route_services.max_attempts", "0 is taken as 1"),
        ("debug_addr: localhost", "debug_addr", "not host:port: 'localhost'; there will be no debug server"),
        (
            "logging: {metron_address: 'a:b'}",
            "logging.metron_address",
            "not host:port: 'a:b'; no agent will be told",
        ),
        (
            "enable_envelope_v1_metrics: false\nlogging: {loggregator_enabled: true, metron_address: ''}",
            "logging.metron_address",
            "not host:port: ''",
        ),
        (
            "logging: {extra_access_log_fields: [dns_time, dsn_time]}",
            "logging.extra_access_log_fields",
            "unknown field 'dsn_time' is ignored",
        ),
    ],
)
def test_an_adjustment_is_a_warning(judge: Judge, text: str, key: str, words: str | None) -> None:
    found = judge(text)
    assert not found.errors
    if words is None:
        assert found.config.droplet_stale_threshold == 300.0
    else:
        warning = only(found.warnings)
        assert warning.key == key
        assert words in warning.message


def test_a_setting_with_a_mistake_is_not_judged_by_rules_too(judge: Judge) -> None:
    text = "routing_table_sharding_mode: segments\nisolation_segments: text\nport: x\nstatus: {port: 8081}\n"
    assert {error.key for error in judge(text).errors} == {"isolation_segments", "port"}


def test_network_that_may_announce_clients_must_be_one(judge: Judge) -> None:
    error = only(judge("enable_proxy: true\nenable_proxy_from: [10.0.0.0/8, 10.0.0.0/33]\n").errors)

    assert (error.key, error.message) == ("enable_proxy_from[1]", "invalid CIDR address: 10.0.0.0/33")


def test_networks_for_a_protocol_that_is_off_are_remarked_upon(judge: Judge) -> None:
    warning = only(judge("enable_proxy_from: [10.0.0.0/8]\n").warnings)

    assert warning.key == "enable_proxy_from"
    assert judge("enable_proxy: true\nenable_proxy_from: [10.0.0.0/8]\n").warnings == []
