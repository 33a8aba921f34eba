"""Containers as tests of deciding parts want them, and the inspection a Podman gives."""

from typing import Any

from router.docker.container import Binding, Container
from router.docker.labels import read_labels
from router.docker.offer import Ground, Offer, offer_of

ID = "bcd7345369e99555be54381eb3de0b0d8a66a55d989915da07f72b8050ec2110"
GROUND = Ground(host="10.0.0.7")


def container(**facts: Any) -> Container:
    """Return a container that exposes 8079 and 8081, both published; facts replace what it is otherwise."""
    usual: dict[str, Any] = {
        "id": ID,
        "name": "web",
        "running": True,
        "started_ns": 5_000_000,
        "network_mode": "bridge",
        "tcp": (8079, 8081),
        "bindings": {8079: (Binding("", 40001),), 8081: (Binding("", 40002),)},
        "addresses": {"podman": ("10.88.0.2",)},
    }
    return Container(**{**usual, **facts})


def offer(labels: dict[str, str] | None = None, *, index: int = 0, ground: Ground = GROUND, **facts: Any) -> Offer:
    """Return what is announced for a container with these labels."""
    labels = {"router.uris": "app.test"} if labels is None else labels
    return offer_of(container(labels=labels, **facts), read_labels(labels), index, ground)


def codes(of: Offer) -> list[str]:
    return [note.code for note in of.notes]


def inspection(**parts: Any) -> dict[str, Any]:
    """Return what Podman's Docker API answers for a running container, as far as anybody looks."""
    return {
        "Id": ID,
        "Created": "2026-11-21T14:55:08.578841175Z",
        "Name": "/web",
        "Image": "sha256:d88e",
        "State": {"Running": True, "Paused": False, "StartedAt": "2026-11-21T14:55:08.820415981Z"},
        "HostConfig": {"NetworkMode": "bridge"},
        "Config": {
            "ExposedPorts": {"8081/udp": {}, "8081/tcp": {}, "8079/tcp": {}, "8078/udp": {}},
            "Env": ["PORT=1", "PATH=/bin", "PORT=8079"],
            "Labels": {"router.uris": "app.test"},
        },
        "NetworkSettings": {
            "Ports": {"8079/tcp": [{"HostIp": "", "HostPort": "39549"}], "8081/tcp": None},
            "Networks": {"podman": {"IPAddress": "10.88.0.2", "GlobalIPv6Address": "fd00::2"}},
        },
        **parts,
    }
