"""Every mistake in a configuration that Gorouter has words for, in these words, as `router run` tells it.

And what other tools write that is no mistake: every value of a file spelt in their ways (GOROUTER.md §1.1, 2).
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.certs import Pair, issue, make_ca
from tests.e2e.conftest import StartRouter
from tests.support.announce import status_of

AUTHORITY = make_ca()
PAIR = issue(AUTHORITY, ["app.test"])
SUITES = "ECDHE-ECDSA-AES128-GCM-SHA256"


def pem(pair: Pair) -> dict[str, str]:
    return {"cert_chain": pair.certificate, "private_key": pair.private_key}


def tls(**changes: object) -> dict[str, object]:
    """A good configuration of the TLS listener with changes; None leaves a key out."""
    settings = {
        "enable_ssl": True,
        "client_cert_validation": "none",
        "cipher_suites": SUITES,
        "tls_pem": [pem(PAIR)],
        **changes,
    }
    return {key: value for key, value in settings.items() if value is not None}


MISTAKES: list[tuple[dict[str, Any] | str, str]] = [
    ("port: 1\nport: 2\n", 'mapping key "port" already defined at line 1'),
    ("drain_wait: 5\n", "cannot unmarshal !!int into time.Duration"),
    ("port: 70000\n", "cannot unmarshal !!int into uint16"),
    ("ca_certs: text\n", "cannot unmarshal !!str into []string"),
    (
        {"disable_http": True},
        "neither http nor https listener is enabled: router.enable_ssl: false, router.disable_http: true",
    ),
    (tls(tls_pem=None), "router.tls_pem must be provided if router.enable_ssl is set to true"),
    (
        tls(tls_pem=[{"cert_chain": PAIR.certificate}]),
        "Error parsing PEM blocks of router.tls_pem, missing cert or key.",
    ),
    (tls(tls_pem=[{"cert_chain": "a", "private_key": "b"}]), "Error loading key pair: "),
    (
        tls(client_cert_validation=None),
        "router.client_cert_validation must be one of 'none', 'request' or 'require'.",
    ),
    (
        tls(min_tls_version="SSLv3"),
        'router.min_tls_version should be one of "", "TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1.0"',
    ),
    (tls(max_tls_version="TLSv1.1"), 'router.max_tls_version should be one of "TLSv1.2" or "TLSv1.3"'),
    (tls(cipher_suites=None), "must specify list of cipher suite when ssl is enabled"),
    (tls(cipher_suites="NONE-SUCH"), "Invalid cipher string configuration: NONE-SUCH, please choose from ["),
    (
        {"ca_certs": [AUTHORITY.pair.certificate, "garbage"]},
        "Error while adding 1 cert in CACerts to gorouter's cert pool",
    ),
    (
        tls(only_trust_client_ca_certs=True, client_cert_validation="require"),
        "router.client_ca_certs cannot be empty if router.only_trust_client_ca_certs is 'true' and "
        "router.client_cert_validation is set to 'request' or 'require'.",
    ),
    (
        tls(
            client_cert_validation="request",
            enable_verify_client_certificate_metadata=True,
            verify_client_certificate_metadata=[{"issuer_in_chain": {"common_name": "nobody"}}],
        ),
        "no CA certificate found for rule with ca subject CN=nobody",
    ),
    (
        {"forwarded_client_cert": "x"},
        "Invalid forwarded client cert mode: x. Allowed values are [always_forward forward sanitize_set]",
    ),
    (
        {"balancing_algorithm": "x"},
        "Invalid load balancing algorithm x. Allowed values are [round-robin least-connection]",
    ),
    (
        {"balancing_algorithm_az_preference": "x"},
        "Invalid load balancing AZ preference x. Allowed values are [none locally-optimistic]",
    ),
    (
        {"routing_table_sharding_mode": "x"},
        "Invalid sharding mode: x. Allowed values are [all segments shared-and-segments]",
    ),
    (
        {"routing_table_sharding_mode": "segments"},
        "Expected isolation segments; routing table sharding mode set to segments and none provided.",
    ),
    ({"load_balancer_healthy_threshold": "-1s"}, "Invalid load balancer healthy threshold: -1s"),
    (
        {"status": {"enable_nontls_health_checks": False}},
        "Neither TLS nor non-TLS health endpoints are enabled. Refusing to start gorouter.",
    ),
    (
        {"status": {"tls": {"port": 8443, "certificate": PAIR.certificate}}},
        "router.status.tls.key must be provided",
    ),
    (
        {"status": {"tls": {"port": 8443, "key": PAIR.private_key}}},
        "router.status.tls.certificate must be provided",
    ),
    (
        {"status": {"tls": {"port": 0, "certificate": PAIR.certificate, "key": PAIR.private_key}}},
        "router.status.tls.port must not be 0",
    ),
    (
        {"status": {"tls": {"port": 8443, "certificate": "a", "key": "b"}}},
        "Error loading router.status.tls certificate/key pair: ",
    ),
    ({"nats": {"tls_enabled": True}}, "Error loading NATS key pair: "),
    (
        {"nats": {"tls_enabled": True, **pem(PAIR), "ca_certs": "garbage"}},
        "Error while adding CACerts to gorouter's routing-api cert pool: ",
    ),
    (
        {"logging": {"redact_query_params": "x"}},
        "Invalid query param redaction mode: x. Allowed values are [none all hash]",
    ),
    ({"routing_api": {"uri": "https://a", "port": 1}}, "Error loading routing-api key pair: "),
]


def run(directory: Path, content: dict[str, Any] | str) -> subprocess.CompletedProcess[str]:
    file = directory / "router.yml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    command = [sys.executable, "-m", "router", "-c", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("content", "text"), MISTAKES, ids=[text[:40] for _, text in MISTAKES])
def test_mistake_is_one_line_in_gorouters_words(content: dict[str, Any] | str, text: str, tmp_path: Path) -> None:
    result = run(tmp_path, content)
    assert (result.returncode, result.stderr) == (1, "")
    line = json.loads(result.stdout)
    assert (line["log_level"], line["message"]) == (3, "Error loading config:")
    assert text in line["data"]["error"]


def spelt_otherwise() -> Iterator[tuple[str, object]]:
    """Yield settings in the spelling of tools that write whole structures: zero values, nulls, long durations."""
    yield "endpoint_timeout", "15m0s"
    yield "start_response_delay_interval", "0s"
    yield "drain_timeout", "0s"
    yield "publish_active_apps_interval", "0s"
    yield "empty_pool_timeout", "0s"
    yield "tls_pem", []
    yield "ca_certs", None
    yield "client_ca_certs", ""
    yield "isolation_segments", None
    yield "domains", []
    yield "http_rewrite", {"responses": {"add_headers_if_not_present": None, "remove_headers": []}}
    yield "tracing", {"enable_zipkin": False, "enable_w3c": False, "w3c_tenant_id": None}
    yield "routing_api", {"uri": "", "port": 0, "auth_disabled": False, "ca_certs": "", "cert_chain": None}
    yield "oauth", {"token_endpoint": "", "port": -1, "skip_ssl_validation": False, "ca_certs": ""}
    yield "prometheus", {"enabled": False, "port": 0, "cert_path": "", "meters": None}
    yield "hash_based_routing", None
    yield "route_services", {"max_attempts": 0, "egress_blocklist": []}
    yield "verify_client_certificate_metadata", None
    yield "max_request_headers", 0
    yield "trace_key", 22
    yield "route_services_secret", 12345678
    yield "zone", 1
    yield "max_header_bytes", 1048576
    yield "ip_local_port_range", "1024 65535"
    yield "ssl_cert_path", "/nowhere"
    yield "pid_file", "/run/gorouter.pid"
    yield "debug_addr", ""


def test_file_that_another_tool_has_written_works(start_router: StartRouter) -> None:
    router = start_router(dict(spelt_otherwise()))
    assert status_of(router.port, "unknown.test") == 404
    assert [line for line in router.log if line["log_level"] == 3] == []
