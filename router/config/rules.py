"""The rules that settings must obey, one by one and together, except for TLS (`rules_tls`).

Wherever Gorouter has a text for a mistake, it is used as it is, since operators search for it. A rule never stops
another: each looks at the whole `Config` and says all it has to say.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any

from router.config.durations import format_duration
from router.config.findings import Findings
from router.config.schema import MAX_REQUEST_HEADER_BYTES, Config
from router.config.sections import ATTEMPT_FIELDS, StatusTls

LOG_LEVELS = ("debug", "info", "warn", "error", "dpanic", "panic", "fatal")
ACCESS_LOG_FIELDS = (*ATTEMPT_FIELDS, "local_address")
TABLE_SIZES = ("XS", "S", "M", "L", "XL")
XFCC_FORMATS = ("raw", "envoy")
SYSLOG_NETWORKS = ("udp", "tcp")
MAX_WORKERS = 1024
MIN_WORKER_TIMEOUT_S = 5.0
"""Workers give a sign of life once a second; a busy machine may delay one."""
MAX_PORT = 65535

_FORWARDED_CERT_MODES = ("always_forward", "forward", "sanitize_set")
_CHOICES: dict[str, tuple[str, tuple[str, ...]]] = {
    "balancing_algorithm": ("Invalid load balancing algorithm", ("round-robin", "least-connection")),
    "balancing_algorithm_az_preference": (
        "Invalid load balancing AZ preference",
        ("none", "locally-optimistic"),
    ),
    "routing_table_sharding_mode": ("Invalid sharding mode:", ("all", "segments", "shared-and-segments")),
    "forwarded_client_cert": ("Invalid forwarded client cert mode:", _FORWARDED_CERT_MODES),
    "logging.redact_query_params": ("Invalid query param redaction mode:", ("none", "all", "hash")),
}

_HAIRPIN_HOST = re.compile(r"(\*\.)?[a-z\d-]+(\.[a-z\d-]+)+", re.IGNORECASE | re.ASCII)
_DOMAIN_NAME = re.compile(r"(\*\.)?[a-z\d_-]+(\.[a-z\d_-]+)*", re.IGNORECASE | re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token, RFC 9110 section 5.6.2."""
_FRAMING_FIELDS = frozenset(
    {"content-length", "transfer-encoding", "connection", "keep-alive", "trailer", "upgrade"}
)
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


def check(config: Config, raw: dict[str, Any], findings: Findings) -> None:
    """Apply every rule of this module.

    Args:
        raw: the settings as written, by key path, for rules about values that a `Config` no longer shows.
    """
    for rule in _RULES:
        rule(config, findings)
    _note_adjustments(config, raw, findings)


def _choices(config: Config, findings: Findings) -> None:
    for key, (text, allowed) in _CHOICES.items():
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name)
        if value not in allowed:
            findings.error(key, f"{text} {value}. Allowed values are [{' '.join(allowed)}]")


def _sharding(config: Config, findings: Findings) -> None:
    if config.routing_table_sharding_mode == "segments" and not config.isolation_segments:
        text = "Expected isolation segments; routing table sharding mode set to segments and none provided."
        findings.error("isolation_segments", text, "routing_table_sharding_mode")


def _hash_table_size(config: Config, findings: Findings) -> None:
    size = config.hash_based_routing.lookup_table_size
    if size and size not in TABLE_SIZES:
        text = f"Invalid lookup table size {size}. Allowed values are [{' '.join(TABLE_SIZES)}]"
        findings.error("hash_based_routing.lookup_table_size", text)


def _listeners(config: Config, findings: Findings) -> None:
    if config.disable_http and not config.enable_ssl:
        text = "neither http nor https listener is enabled: router.enable_ssl: false, router.disable_http: true"
        findings.error("disable_http", text, "enable_ssl")
    if config.listen_address:
        try:
            ipaddress.ip_address(config.listen_address)
        except ValueError:
            findings.error("listen_address", f"not an IP address: {config.listen_address}")


def _announcers(config: Config, findings: Findings) -> None:
    for index, network in enumerate(config.enable_proxy_from):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            findings.error(f"enable_proxy_from[{index}]", f"invalid CIDR address: {network}")
    if config.enable_proxy_from and not config.enable_proxy:
        findings.warn("enable_proxy_from", "no PROXY protocol headers are accepted at all", "enable_proxy")


def _health_listeners(config: Config, findings: Findings) -> None:
    status = config.status
    if not status.enable_nontls_health_checks and status.tls == StatusTls():
        text = "Neither TLS nor non-TLS health endpoints are enabled. Refusing to start gorouter."
        findings.error("status.enable_nontls_health_checks", text, "status.tls")


def _ports(config: Config, findings: Findings) -> None:
    # The traffic sockets are shared between processes by SO_REUSEPORT, so binding twice would not fail.
    taken: dict[int, str] = {}
    for key, port in _ports_in_use(config):
        if port and port in taken:
            findings.error(key, f"port {port} is already used by {taken[port]}", taken[port])
        taken.setdefault(port, key)


def _ports_in_use(config: Config) -> Iterator[tuple[str, int]]:
    if not config.disable_http:
        yield "port", config.port
    if config.enable_ssl:
        yield "ssl_port", config.ssl_port
    if config.status.enable_nontls_health_checks:
        yield "status.port", config.status.port
    if config.status.tls != StatusTls():
        yield "status.tls.port", config.status.tls.port
    yield "status.routes.port", config.status.routes.port
    if config.prometheus.enabled:
        yield "prometheus.port", config.prometheus.port


def _internal_ports(config: Config, findings: Findings) -> None:
    # The status listeners take every address of the machine, those for containers among them.
    if not config.internal.enabled:
        return
    status = {key: port for key, port in _ports_in_use(config) if key in ("status.port", "status.tls.port")}
    proxy = config.internal.proxy
    for key, ports in (("http_ports", proxy.http_ports), ("https_ports", proxy.https_ports)):
        for taken, port in status.items():
            if port and port in ports:
                findings.error(f"internal.proxy.{key}", f"port {port} is already used by {taken}", taken)


def _nats_hosts(config: Config, findings: Findings) -> None:
    if not config.nats.hosts:
        findings.error("nats.hosts", "at least one NATS server is needed")
    for index, host in enumerate(config.nats.hosts):
        if not host.hostname or re.search(r"[\s/@]", host.hostname):
            findings.error(f"nats.hosts[{index}].hostname", f"not a host name: {host.hostname!r}")
        if not host.port:
            findings.error(f"nats.hosts[{index}].port", "the port of a NATS server must not be 0")


def _workers(config: Config, findings: Findings) -> None:
    if config.workers > MAX_WORKERS:
        key = "workers" if config.workers != config.go_max_procs else "go_max_procs"
        findings.error(key, f"more than {MAX_WORKERS} workers: {config.workers}")


def _worker_timeout(config: Config, findings: Findings) -> None:
    if 0 < config.worker_timeout < MIN_WORKER_TIMEOUT_S:
        text = f"must be 0 or at least {format_duration(MIN_WORKER_TIMEOUT_S)}"
        findings.error("worker_timeout", f"{text}: {format_duration(config.worker_timeout)}")


def _healthy_threshold(config: Config, findings: Findings) -> None:
    threshold = config.load_balancer_healthy_threshold
    if threshold < 0:
        text = f"Invalid load balancer healthy threshold: {format_duration(threshold)}"
        findings.error("load_balancer_healthy_threshold", text)


def _logging(config: Config, findings: Findings) -> None:
    level = config.logging.level
    if level.lower() not in LOG_LEVELS:
        text = f"Invalid log level {level}. Allowed values are [{' '.join(LOG_LEVELS)}]"
        findings.error("logging.level", text)
    for name in config.logging.extra_access_log_fields:
        if name not in ACCESS_LOG_FIELDS:
            text = f"unknown field {name!r} is ignored; known are {', '.join(ACCESS_LOG_FIELDS)}"
            findings.warn("logging.extra_access_log_fields", text)
    if config.access_log.enable_streaming:
        _streaming(config, findings)


def _streaming(config: Config, findings: Findings) -> None:
    because = "access_log.enable_streaming"
    network, address = config.logging.syslog_network, config.logging.syslog_addr
    if network not in SYSLOG_NETWORKS:
        text = f"unknown network {network}. Allowed values are [{' '.join(SYSLOG_NETWORKS)}]"
        findings.error("logging.syslog_network", text, because)
    if address.startswith(":") or not _is_address(address):
        findings.error("logging.syslog_addr", f"not host:port: {address!r}", because)


def _is_address(text: str) -> bool:
    """Whether a text is ``host:port`` or ``:port``."""
    _, colon, port = text.rpartition(":")
    return bool(colon) and port.isascii() and port.isdigit() and 0 < int(port[:6]) <= MAX_PORT


def _watching(config: Config, findings: Findings) -> None:
    # What watches does not keep a router from starting.
    if config.debug_addr and not _is_address(config.debug_addr):
        findings.warn("debug_addr", f"not host:port: {config.debug_addr!r}; there will be no debug server")
    address = config.logging.metron_address
    if (config.enable_envelope_v1_metrics or config.logging.loggregator_enabled) and not _is_address(address):
        findings.warn("logging.metron_address", f"not host:port: {address!r}; no agent will be told anything")


def _route_services(config: Config, findings: Findings) -> None:
    for index, host in enumerate(config.route_services_hairpinning_allowlist):
        if not _HAIRPIN_HOST.fullmatch(host):
            key = f"route_services_hairpinning_allowlist[{index}]"
            findings.error(key, f"Invalid route service hairpinning allowlist entry: {host}")
    for index, network in enumerate(config.route_services.egress_blocklist):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            findings.error(f"route_services.egress_blocklist[{index}]", f"invalid CIDR address: {network}")


def _rewriting(config: Config, findings: Findings) -> None:
    responses = config.http_rewrite.responses
    prefix = "http_rewrite.responses"
    for index, added in enumerate(responses.add_headers_if_not_present):
        key = f"{prefix}.add_headers_if_not_present[{index}]"
        _header_name(added.name, f"{key}.name", findings)
        if added.name.lower() in _FRAMING_FIELDS:
            findings.error(f"{key}.name", f"{added.name} frames the message and cannot be added")
        if not _HEADER_VALUE.fullmatch(added.value):
            findings.error(f"{key}.value", "a header value must not hold line breaks or control characters")
    for index, removed in enumerate(responses.remove_headers):
        _header_name(removed.name, f"{prefix}.remove_headers[{index}].name", findings)


def _header_name(name: str, key: str, findings: Findings) -> None:
    if not _HEADER_NAME.fullmatch(name):
        findings.error(key, f"not a header name: {name!r}")


def _domains(config: Config, findings: Findings) -> None:
    seen: set[str] = set()
    for index, domain in enumerate(config.domains):
        key = f"domains[{index}]"
        if not _DOMAIN_NAME.fullmatch(domain.name):
            findings.error(f"{key}.name", f"not a domain name: {domain.name!r}")
        elif domain.name.lower() in seen:
            findings.error(f"{key}.name", f"domain {domain.name} is listed twice")
        seen.add(domain.name.lower())
        if domain.forwarded_client_cert not in _FORWARDED_CERT_MODES:
            text, allowed = _CHOICES["forwarded_client_cert"]
            mode = domain.forwarded_client_cert
            findings.error(
                f"{key}.forwarded_client_cert", f"{text} {mode}. Allowed values are [{' '.join(allowed)}]"
            )
        if domain.xfcc_format not in XFCC_FORMATS:
            text = f"Invalid xfcc format: {domain.xfcc_format}. Allowed values are [{' '.join(XFCC_FORMATS)}]"
            findings.error(f"{key}.xfcc_format", text)


def _note_adjustments(config: Config, raw: dict[str, Any], findings: Findings) -> None:
    header_bytes = raw.get("max_request_header_bytes", 0)
    if header_bytes > MAX_REQUEST_HEADER_BYTES:
        text = f"{header_bytes} is more than can be; {MAX_REQUEST_HEADER_BYTES} (1 MiB) is used"
        findings.warn("max_request_header_bytes", text)
    threshold = raw.get("droplet_stale_threshold", config.droplet_stale_threshold)
    if threshold < config.droplet_stale_threshold:
        text = f"raised to start_response_delay_interval, {format_duration(config.droplet_stale_threshold)}"
        findings.warn("droplet_stale_threshold", text, "start_response_delay_interval")
    if raw.get("route_services.max_attempts") == 0:
        findings.warn("route_services.max_attempts", "0 is taken as 1; in Gorouter it fails every request")


_RULES: tuple[Callable[[Config, Findings], None], ...] = (
    _choices,
    _sharding,
    _hash_table_size,
    _listeners,
    _announcers,
    _health_listeners,
    _ports,
    _internal_ports,
    _nats_hosts,
    _workers,
    _worker_timeout,
    _healthy_threshold,
    _logging,
    _watching,
    _route_services,
    _rewriting,
    _domains,
)
