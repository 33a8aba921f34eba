"""Which settings do something here today: the difference between accepting a key and acting on it.

Two tables, kept with the code they describe: a key leaves `NOT_YET` in the same commit that gives it its effect.
"""

from collections.abc import Iterator
from typing import Any

NOT_YET = (
    "access_log.enable_streaming",
    "debug_addr",
    "domains",
    "enable_envelope_v1_metrics",
    "enable_http2",
    "enable_verify_client_certificate_metadata",
    "extra_headers_to_log",
    "hash_based_routing",
    "html_error_template_file",
    "http_2_endpoint_timeout",
    "http_rewrite",
    "logging.enable_attempts_details",
    "logging.extra_access_log_fields",
    "logging.loggregator_enabled",
    "logging.metron_address",
    "logging.redact_query_params",
    "logging.syslog_addr",
    "logging.syslog_network",
    "logging.syslog_truncate",
    "oauth",
    "per_app_prometheus_http_metrics_reporting",
    "per_request_metrics_reporting",
    "prometheus",
    "publish_active_apps_interval",
    "route_latency_metric_muzzle_duration",
    "route_services",
    "route_services_hairpinning",
    "route_services_hairpinning_allowlist",
    "route_services_internal_server_port",
    "route_services_recommend_https",
    "route_services_secret",
    "route_services_secret_decrypt_only",
    "route_services_timeout",
    "routing_api",
    "secure_cookies",
    "send_http_start_stop_client_event",
    "send_http_start_stop_server_event",
    "skip_ssl_validation",
    "status.enable_deprecated_varz_healthz_endpoints",
    "status.host",
    "sticky_session_cookie_names",
    "sticky_sessions_for_auth_negotiate",
    "token_fetcher_expiration_buffer_time",
    "token_fetcher_max_retries",
    "token_fetcher_retry_interval",
    "trace_key",
    "tracing",
    "verify_client_certificate_metadata",
)
"""Settings, or whole sections, that are checked and kept and will act in a later version."""

NO_EFFECT = {
    "enable_http1_concurrent_read_write": "requests are read while responses are written in any case",
    "healthcheck_poll_interval": "as in Gorouter",
    "healthcheck_timeout": "as in Gorouter",
    "ip_local_port_range": "as in Gorouter; the deployment's scripts read it",
    "keep_alive_100_continue_requests": "the instance's own 100 is relayed, so its connection stays usable",
    "load_balancer_healthy_threshold": "as in Gorouter; the deployment's scripts read it",
    "max_header_bytes": "as in Gorouter; max_request_header_bytes is the limit",
    "pid_file": "as in Gorouter; the supervisor writes it",
    "publish_start_message_interval": "as in Gorouter",
    "websocket_dial_timeout": "as in Gorouter; endpoint_dial_timeout counts",
}
"""Settings that stay without effect, and why."""

UNREAD = ("ip_local_port_range", "max_header_bytes")
"""Keys of `NO_EFFECT` that are not in the schema: deployments write them, but nothing reads them, of any type."""

_INERT: dict[str, tuple[Any, ...]] = {
    # Values that ask for nothing beyond what is done today.
    "enable_http2": (False,),
}


def not_in_effect(given: dict[str, Any], defaults: dict[str, Any]) -> Iterator[str]:
    """Yield the settings whose wish is not yet granted, in file order.

    Args:
        given: key paths and values of the file.
        defaults: the same key paths and their defaults, which never need mentioning.
    """
    for key, value in given.items():
        inert = _INERT.get(key, (defaults[key],))
        if value not in inert and _is_or_is_in(key, NOT_YET):
            yield key


def status(key: str) -> str:
    """Return ``in effect``, ``not yet`` or ``no effect`` for any setting."""
    if key in NO_EFFECT:
        return "no effect"
    return "not yet" if _is_or_is_in(key, NOT_YET) else "in effect"


def _is_or_is_in(key: str, sections: tuple[str, ...]) -> bool:
    return any(key == section or key.startswith((f"{section}.", f"{section}[")) for section in sections)
