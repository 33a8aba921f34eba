"""Which settings a reload can change: all but those that control took at its start and holds for its life.

Owns that list and the merging of two configurations; does not own reading them nor starting workers.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import structs

from router.config.internal import Internal
from router.config.schema import Config
from router.control.status_tls import has_tls_health

FIXED = (
    # The listeners' sockets, one for each worker slot.
    "workers",
    "go_max_procs",
    "listen_address",
    "port",
    "disable_http",
    "enable_ssl",
    "ssl_port",
    # The NATS connection, and what `router.start` has told the announcers.
    "index",
    "nats",
    "nats_client_ping_interval",
    "start_response_delay_interval",
    # The second source of routes, with its tokens.
    "routing_api",
    "oauth",
    "token_fetcher_max_retries",
    "token_fetcher_retry_interval",
    "token_fetcher_expiration_buffer_time",
    # By what control is watched.
    "debug_addr",
    "enable_envelope_v1_metrics",
    "logging.metron_address",
    "prometheus.enabled",
    "prometheus.port",
    "prometheus.meters.route_registration_latency_histogram_buckets",
    "publish_active_apps_interval",
    "route_latency_metric_muzzle_duration",
    # The listeners of internal routing, its feeds, and what they have learned.
    "internal.container_networks",
    "internal.addresses",
    "internal.discovery",
    "internal.identities.nats",
    "internal.identities.excluded",
    "internal.policies",
    "internal.policy_api",
    "internal.dns.port",
    "internal.discovery_api",
    # The status listeners' sockets.
    "status.host",
    "status.port",
    "status.enable_nontls_health_checks",
    "status.enable_deprecated_varz_healthz_endpoints",
    "status.tls.port",
    "status.routes.port",
    # The shape of log lines, which should not change within a file.
    "logging.syslog",
    "logging.format",
)
"""Key paths that keep the value they had at the start, until control is restarted."""


def merge(running: Config, wanted: Config) -> tuple[Config, list[str]]:
    """Return the configuration to go on with, and the paths of changed settings that it leaves as they are."""
    kept: list[str] = []
    result = wanted
    for path in _fixed(running, wanted):
        keys = path.split(".")
        value = _get(running, keys)
        if _get(result, keys) != value:
            result = _replaced(result, keys, value)
            kept.append(path)
    return result, kept


def _fixed(running: Config, wanted: Config) -> Iterator[str]:
    """Yield the paths to keep: `FIXED`, and sections whose listeners or names are not the same any more."""
    # A certificate can change, the existence of its listener cannot.
    if has_tls_health(running.status) != has_tls_health(wanted.status):
        yield "status.tls"
    if bool(running.prometheus.cert_path) != bool(wanted.prometheus.cert_path):
        yield from ("prometheus.cert_path", "prometheus.key_path", "prometheus.ca_path")
    if _domains(running.internal) != _domains(wanted.internal):
        yield "internal"
    if _ports(running.internal) != _ports(wanted.internal):
        yield "internal.proxy"
    yield from FIXED


def _domains(internal: Internal) -> set[str]:
    return {domain.name for domain in internal.domains}


def _ports(internal: Internal) -> tuple[list[int], list[int]]:
    return internal.proxy.http_ports, internal.proxy.https_ports


def _get(section: Any, keys: list[str]) -> Any:
    for key in keys:
        section = getattr(section, key)
    return section


def _replaced(section: Any, keys: list[str], value: Any) -> Any:
    """Return a copy of a section in which the setting at the path has this value."""
    first, *rest = keys
    return structs.replace(section, **{first: _replaced(getattr(section, first), rest, value) if rest else value})
