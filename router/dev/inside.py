"""The inside of `router dev`: which loopback address plays which container, and which ports are used there.

Where containers would have addresses of a network of their own, these have some of 127.0.0.0/8, all of which a
Linux machine has: a caller is a container by the address it calls from (``curl --interface``, ``dig -b``).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from router.wire.identities import Workload

DOMAIN = "apps.internal"
NETWORK = "127.0.20.0/24"
"""What containers have their addresses of."""
ROUTER = "127.0.30.1"
"""Where containers find the router and its DNS."""

FRONT, OTHER, BACKEND = "front", "other", "backend"
"""Apps, by what stands for their GUIDs: front may reach backend, other may not."""
NAME = f"{BACKEND}.{DOMAIN}"
CALLERS = {FRONT: "127.0.20.2", OTHER: "127.0.20.3"}

HTTP_PORT, DNS_PORT, API_PORT, APP_PORT = 8080, 1053, 4002, 5000
"""Where one is taken, any free one does."""

ANNOUNCE_S = 5
"""Seconds between two announcements of an internal name."""

FreePort = Callable[..., int]


class Inside(NamedTuple):
    """What one `router dev` uses of it."""

    http_port: int
    """Of the router, for containers."""
    dns_port: int
    api_port: int
    """Of the policy API, on 127.0.0.1."""
    app_port: int
    """That the backend's instances listen on."""


def backend_address(number: int) -> str:
    """Return the container address of an instance of the backend."""
    return f"127.0.20.{10 + number}"


def chosen(free_port: FreePort, instances: int, taken: Sequence[int], everywhere: Sequence[int]) -> Inside:
    """Choose ports.

    Args:
        free_port: `places.free_port`.
        instances: of the backend.
        taken: ports of 127.0.0.1 that others will use.
        everywhere: those among them that they will use on all addresses.
    """
    backends = [backend_address(number) for number in range(instances)]
    return Inside(
        http_port=free_port(HTTP_PORT, [ROUTER], everywhere),
        dns_port=free_port(DNS_PORT, [ROUTER], everywhere, udp=True),
        api_port=free_port(API_PORT, ["127.0.0.1"], taken),
        app_port=free_port(APP_PORT, backends, everywhere),
    )


def workloads(instances: int, app_port: int, generation: int) -> list[Workload]:
    """Return what an agent would say of these containers.

    Args:
        generation: that all have; milliseconds since the epoch.
    """
    containers: list[tuple[str, int, str, tuple[int, ...]]]
    containers = [(app, 0, address, ()) for app, address in CALLERS.items()]
    containers += [(BACKEND, number, backend_address(number), (app_port,)) for number in range(instances)]
    return [
        Workload(
            ip=address,
            app=app,
            space="development",
            organization="router-dev",
            instance=f"{app}-{number}",
            index=str(number),
            generation=generation,
            ports=ports,
        )
        for app, number, address, ports in containers
    ]


def internal_section(inside: Inside, token: str) -> dict[str, Any]:
    """Return the section ``internal`` of the router's configuration; names leave it as quickly as routes do."""
    return {
        "domains": [{"name": DOMAIN}],
        "container_networks": [NETWORK],
        "addresses": [ROUTER],
        "discovery": {
            "register_interval": f"{ANNOUNCE_S}s",
            "staleness_threshold": "20s",
            "pruning_interval": "5s",
            "resume_pruning_delay": "5s",
            "warm_duration": "500ms",
        },
        "policy_api": {"port": inside.api_port, "admin_token": token},
        "dns": {"port": inside.dns_port},
        "proxy": {"http_ports": [inside.http_port]},
    }
