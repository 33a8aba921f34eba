"""The router.yml that `router dev` runs its router with: an ordinary Gorouter configuration, for small scale."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml


class RouterSettings(NamedTuple):
    """What differs from one `router dev` to the next."""

    http_port: int
    https_port: int
    status_port: int
    routes_port: int
    route_services_port: int
    workers: int
    nats_host: str
    nats_port: int
    nats_user: str
    nats_password: str
    status_password: str
    certificate: str
    private_key: str
    access_log: Path
    internal: dict[str, Any] | None = None
    """The section ``internal``."""


HEADER = """\
# Written by `router dev` at each start; changes made here are lost.
# An ordinary Gorouter configuration: `router check -c` explains it, docs/configuration.md lists every key.
"""


def config_text(settings: RouterSettings) -> str:
    """Return the file's text."""
    return HEADER + yaml.dump(_config(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _config(settings: RouterSettings) -> dict[str, Any]:
    internal = {} if settings.internal is None else {"internal": settings.internal}
    return {
        "listen_address": "127.0.0.1",
        "port": settings.http_port,
        "enable_ssl": True,
        "ssl_port": settings.https_port,
        "tls_pem": [{"cert_chain": settings.certificate, "private_key": settings.private_key}],
        "client_cert_validation": "none",
        "min_tls_version": "TLSv1.2",
        "max_tls_version": "TLSv1.3",
        "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384",
        "workers": settings.workers,
        # A router killed here must free its ports at once for the next one.
        "orphan_grace": "1s",
        "status": {
            "port": settings.status_port,
            "user": "router",
            "pass": settings.status_password,
            "routes": {"port": settings.routes_port},
        },
        "route_services_internal_server_port": settings.route_services_port,
        "nats": {
            "hosts": [{"hostname": settings.nats_host, "port": settings.nats_port}],
            "user": settings.nats_user,
            "pass": settings.nats_password,
        },
        "start_response_delay_interval": "0s",
        # A sixth of the usual times, so that one can watch a dead instance leave the table.
        "droplet_stale_threshold": "20s",
        "prune_stale_droplets_interval": "5s",
        "disable_keep_alives": False,
        "max_idle_conns_per_host": 100,
        "backends": {"max_attempts": 3},
        "logging": {"level": "info", "format": {"timestamp": "rfc3339"}},
        "access_log": {"file": str(settings.access_log)},
        **internal,
    }


class _Dumper(yaml.SafeDumper):
    """Writes PEM texts as the blocks they are."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
