"""What is announced for one container: its routes, its identity, and what people should be told about it.

Pure. Owns the choice of the port and everything that may keep a container from getting a route; does not own what
labels mean (`docker.labels`) nor how things are said (`docker.speaker`). One law: a container that cannot have a
route keeps its identity, so that policies hold for it.

The routed port is that of Cloud Foundry: the lowest TCP port that is exposed, 8080 if none is (INTERNAL.md §6).
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
from msgspec import Struct

from router.docker.container import Binding, Container
from router.docker.labels import Wishes, compose_app
from router.registrar.rules import announcement_problems, name_problems
from router.wire.announcement import DEFAULT_WEIGHT, Announcement, PoolSettings
from router.wire.discovery import NameRegistration
from router.wire.identities import IdentityError, Workload, checked

DEFAULT_PORT = 8080

MOST_PORTS = 1000
"""What an identity holds; of an image that exposes more, the lowest."""

_OPAQUE = re.compile(r"[!-~]{1,255}\Z")


SHARED = "container:"
"""Begins the network mode of a container that lives in another one's network, and ends with that one's id."""

MALFORMED = "container-labels-malformed"


class Note(NamedTuple):
    """Something to tell about a container; ``code`` is the log line's message."""

    code: str
    text: str
    is_warning: bool = True


class Ground(Struct, frozen=True, kw_only=True):
    """What holds for all containers of this machine."""

    host: str
    """Address at which routers reach the ports that containers publish."""
    domain: str = ""
    """Where containers get a name that have no ``router.uris``: ``NAME.domain``. Empty: they get none."""
    networks: tuple[str, ...] = ()
    """Container networks whose addresses count, the preferred one first; empty: all of them."""
    availability_zone: str = ""
    tags: Mapping[str, str] = {}


class Offer(Struct, frozen=True, kw_only=True):
    """What is to be announced for one container."""

    public: Announcement | None = None
    internal: NameRegistration | None = None
    workloads: tuple[Workload, ...] = ()
    notes: tuple[Note, ...] = ()


class _NoRoute(Exception):
    """Why a container gets no public route."""

    def __init__(self, code: str, text: str, *, is_warning: bool = True) -> None:
        super().__init__(text)
        self.note = Note(code, text, is_warning)


def app_of(container: Container, wishes: Wishes) -> str:
    """Return the app a container belongs to: its label's, that of its Compose service, or its own name."""
    return wishes.app or compose_app(container.labels) or container.name or container.id[:12]


def instance_guid(container_id: str) -> str:
    """Return the first 128 bits of a container's id in the shape of a GUID."""
    digits = container_id[:32]
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def offer_of(container: Container, wishes: Wishes, index: int, ground: Ground) -> Offer:
    """Decide what is announced for a running container that is the ``index``-th instance of its app."""
    notes = list(_remarks(container, wishes))
    workloads = _workloads(container, wishes, index, ground, notes)
    if wishes.task or wishes.problems:
        return Offer(workloads=workloads, notes=tuple(notes))
    public, internal = None, None
    try:
        public = _public(container, wishes, index, ground)
    except _NoRoute as reason:
        notes.append(reason.note)
    try:
        internal = _internal(container, wishes, index, ground)
    except _NoRoute as reason:
        notes.append(reason.note)
    if any(note.code == MALFORMED for note in notes):
        return Offer(workloads=workloads, notes=tuple(notes))
    notes += _port_remarks(container, wishes, public)
    if (public or internal) and not _serves(container):
        state = "paused" if container.paused else f"health {container.health}"
        notes.append(Note("container-does-not-serve", f"has no routes meanwhile: {state}", is_warning=False))
        return Offer(workloads=workloads, notes=tuple(notes))
    return Offer(public=public, internal=internal, workloads=workloads, notes=tuple(notes))


def _serves(container: Container) -> bool:
    return not container.paused and container.health in ("", "healthy")


def _remarks(container: Container, wishes: Wishes) -> Iterator[Note]:
    if wishes.problems:
        yield Note(MALFORMED, "; ".join(wishes.problems))
    if wishes.unknown:
        yield Note("container-labels-unknown", f"labels that mean nothing: {', '.join(wishes.unknown)}")
    if wishes.from_image:
        names = ", ".join(wishes.from_image)
        yield Note("container-labels-of-image", f"passed over, since they are the image's own: {names}")
    if container.network_mode.startswith(SHARED) and (
        wishes.app or wishes.space or wishes.organization or wishes.instance
    ):
        text = f"has no address of its own: policies know it as container {_shared_with(container)}, or as its pod"
        yield Note("container-shares-network", text)
    if container.not_ports:
        claimed = ", ".join(container.not_ports)[:200]
        yield Note("container-ports-malformed", f"exposes what is no port between 1 and 65535: {claimed}")


# Public routes.


def _public(container: Container, wishes: Wishes, index: int, ground: Ground) -> Announcement | None:
    uris = _uris(container, wishes, index, ground)
    if not uris:
        return None
    if container.network_mode == "host":
        text = "lives in the machine's own network: it has no ports of its own that could be told apart"
        raise _NoRoute("container-on-host-network", text)
    tls = _reached_at(container, wishes.tls_port, ground) if wishes.tls_port else None
    plain = _plain(container, wishes, ground, optional=tls is not None)
    at = tls or plain
    assert at is not None
    announcement = Announcement(
        host=at.host_ip,
        uris=uris,
        port=plain.port if plain is not None and plain.host_ip == at.host_ip else 0,
        tls_port=tls.port if tls is not None else 0,
        app=app_of(container, wishes),
        private_instance_id=_instance(container, wishes),
        private_instance_index=str(index),
        server_cert_domain_san=wishes.san,
        protocol=wishes.protocol,
        route_service_url=wishes.route_service_url,
        tags={**ground.tags, **wishes.tags},
        availability_zone=_zone(wishes, ground),
        options=PoolSettings(
            loadbalancing=wishes.loadbalancing, hash_header=wishes.hash_header, hash_balance=wishes.hash_balance
        ),
        weight=DEFAULT_WEIGHT if wishes.weight is None else wishes.weight,
    )
    if problems := announcement_problems(announcement):
        raise _NoRoute(MALFORMED, "; ".join(problems))
    return announcement


def _uris(container: Container, wishes: Wishes, index: int, ground: Ground) -> list[str]:
    if wishes.uris:
        return list(wishes.uris)
    has_port = bool(container.tcp) or wishes.port or wishes.tls_port
    if not has_port and not wishes.internal and container.udp:
        text = f"exposes UDP ports alone ({_listed(container.udp)}), and routers speak TCP"
        raise _NoRoute("container-udp-only", text, is_warning=False)
    return [f"{app_of(container, wishes)}.{ground.domain}".lower()] if ground.domain and has_port else []


def routed_port(container: Container, wishes: Wishes) -> int:
    """Return the container's port that requests from outside go to."""
    if wishes.port or wishes.tls_port:
        return wishes.port or wishes.tls_port
    if not container.tcp and container.udp:
        text = f"exposes UDP ports alone ({_listed(container.udp)}), and routers speak TCP"
        raise _NoRoute("container-udp-only", text)
    return container.tcp[0] if container.tcp else DEFAULT_PORT


def _plain(container: Container, wishes: Wishes, ground: Ground, *, optional: bool) -> Binding | None:
    if optional and not wishes.port:
        return None
    return _reached_at(container, routed_port(container, wishes), ground)


def _reached_at(container: Container, port: int, ground: Ground) -> Binding:
    """Return where routers reach a container's port."""
    listening = container.bindings.get(port, ())
    if not container.bindings:
        raise _NoRoute("container-publishes-nothing", f"publishes no TCP port, so nobody reaches its port {port}")
    if not listening:
        others = _listed(sorted(container.bindings))
        text = f"its port {port} is not published, {others} is; label router.port can choose another"
        raise _NoRoute("container-port-not-published", text)
    for each in listening:
        if not each.host_ip:
            return Binding(ground.host, each.port)
        if not _is_loopback(each.host_ip) or _is_loopback(ground.host):
            return each
    text = f"its port {port} is published on {listening[0].host_ip} alone, which other machines cannot reach"
    raise _NoRoute("container-port-on-loopback", text)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "localhost")


def _port_remarks(container: Container, wishes: Wishes, public: Announcement | None) -> Iterator[Note]:
    # Behind TLS it is a sidecar that is routed to, and PORT is the app's own.
    if public is None or container.environment_port is None or (wishes.tls_port and not wishes.port):
        return
    port = routed_port(container, wishes)
    if container.environment_port != str(port):
        text = f"its PORT is {container.environment_port[:80]!r}, but requests go to its port {port}"
        yield Note("container-port-differs", text)


# Internal names and identities.


def _internal(container: Container, wishes: Wishes, index: int, ground: Ground) -> NameRegistration | None:
    if not wishes.internal:
        return None
    addresses = own_addresses(container, ground)
    if not addresses:
        text = "has no address of its own that internal names could lead to; its network is"
        whose = f"that of container {other}" if (other := _shared_with(container)) else container.network_mode
        raise _NoRoute("container-without-address", f"{text} {whose or 'none'}")
    registration = NameRegistration(
        ip=addresses[0],
        names=tuple(name for each in wishes.internal for name in (each, f"{index}.{each}")),
        app=app_of(container, wishes),
        index=str(index),
        port=wishes.internal_port,
    )
    if problems := name_problems(registration):
        raise _NoRoute(MALFORMED, "; ".join(problems))
    return registration


def _shared_with(container: Container) -> str:
    """Return the id of the container whose network this one shares; empty if it has its own."""
    mode = container.network_mode
    return mode.removeprefix(SHARED)[:12] if mode.startswith(SHARED) else ""


def own_addresses(container: Container, ground: Ground) -> tuple[str, ...]:
    """Return the addresses that are the container's alone, the preferred one first."""
    # Podman says of a pod's containers what is their pod's; Docker says nothing of those that share a network.
    if container.network_mode == "host" or container.network_mode.startswith(SHARED):
        return ()
    names = ground.networks or tuple(container.addresses)
    return tuple(dict.fromkeys(address for name in names for address in container.addresses.get(name, ())))


def _workloads(
    container: Container, wishes: Wishes, index: int, ground: Ground, notes: list[Note]
) -> tuple[Workload, ...]:
    who = {
        "app": app_of(container, wishes),
        "space": wishes.space,
        "organization": wishes.organization,
        "instance": _instance(container, wishes),
    }
    if wrong := [f"{name} {text[:64]!r}" for name, text in who.items() if text and not _OPAQUE.match(text)]:
        text = f"has no identity: {', '.join(wrong)}: up to 255 printable ASCII characters without blanks"
        notes.append(Note("container-identity-malformed", text))
        return ()
    try:
        return tuple(
            _checked(
                Workload(
                    ip=address,
                    **who,
                    index=str(index),
                    generation=container.started_ns // 1_000_000,
                    ports=container.tcp[:MOST_PORTS],
                )
            )
            for address in own_addresses(container, ground)
        )
    except (IdentityError, msgspec.ValidationError) as error:
        notes.append(Note("container-identity-malformed", f"has no identity: {error}"))
        return ()


def _checked(workload: Workload) -> Workload:
    # Constructing one checks no texts, and routers refuse the whole message that holds a malformed one.
    return checked(msgspec.convert(msgspec.to_builtins(workload), Workload))


def _instance(container: Container, wishes: Wishes) -> str:
    return wishes.instance or instance_guid(container.id)


def _zone(wishes: Wishes, ground: Ground) -> str:
    return ground.availability_zone if wishes.availability_zone is None else wishes.availability_zone


def _listed(ports: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, ports))
