"""Which settings have no effect here: the difference between accepting a key and acting on it."""

NO_EFFECT = {
    "healthcheck_poll_interval": "as in Gorouter",
    "healthcheck_timeout": "as in Gorouter",
    "ip_local_port_range": "as in Gorouter; the deployment's scripts read it",
    "keep_alive_100_continue_requests": "the instance's own 100 is relayed, so its connection stays usable",
    "load_balancer_healthy_threshold": "as in Gorouter; the deployment's scripts read it",
    "max_header_bytes": "as in Gorouter; max_request_header_bytes is the limit",
    "pid_file": "as in Gorouter; the supervisor writes it",
    "publish_start_message_interval": "as in Gorouter",
    "route_services_internal_server_port": "hairpinned requests stay within the worker, which needs no listener",
    "websocket_dial_timeout": "as in Gorouter; endpoint_dial_timeout counts",
}
"""Settings without effect, and why."""

UNREAD = ("ip_local_port_range", "max_header_bytes")
"""Keys of `NO_EFFECT` that are not in the schema: deployments write them, but nothing reads them, of any type."""


def status(key: str) -> str:
    """Return ``in effect`` or ``no effect`` for any setting."""
    return "no effect" if key in NO_EFFECT else "in effect"
