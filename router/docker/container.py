"""What an engine says of one container: its inspection, as JSON, read into the few facts that matter here.

Owns the differences between Docker and Podman; decides nothing. One law: whatever an engine leaves out or sets to
null counts as absent, and what cannot be understood of one container is an error of that container alone.
"""

import datetime
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

PORT_MAX = 65535


class ContainerError(ValueError):
    """An inspection that cannot be read; the text says where."""


class Binding(Struct, frozen=True):
    """Where the engine's machine listens for a container's port."""

    host_ip: str
    """Empty: on all of the machine's addresses."""
    port: int


class Container(Struct, frozen=True, kw_only=True):
    """One container as it was when the engine was asked."""

    id: str
    name: str = ""
    image: str = ""
    """Id of its image."""
    created_ns: int = 0
    started_ns: int = 0
    """Nanoseconds since the epoch, cut to microseconds; 0 if it never ran."""
    running: bool = False
    """Also while it is paused."""
    paused: bool = False
    health: str = ""
    """``starting``, ``healthy`` or ``unhealthy``; empty without a health check."""
    labels: Mapping[str, str] = {}
    environment_port: str | None = None
    """Its ``PORT``; None if there is none."""
    network_mode: str = ""
    tcp: tuple[int, ...] = ()
    """TCP ports it exposes or publishes, ascending."""
    udp: tuple[int, ...] = ()
    not_ports: tuple[str, ...] = ()
    """What it claims to expose and no port can be."""
    bindings: Mapping[int, tuple[Binding, ...]] = {}
    """TCP ports that are published."""
    addresses: Mapping[str, tuple[str, ...]] = {}
    """Its own addresses, by the name of the network; IPv4 first."""


class _Health(Struct, rename="pascal"):
    status: str | None = None


class _State(Struct, rename="pascal"):
    running: bool | None = False
    paused: bool | None = False
    restarting: bool | None = False
    """Ended, and to be started again; of such a container Docker says that it runs."""
    started_at: str | None = None
    health: _Health | None = None


class _Config(Struct, rename="pascal"):
    env: list[str] | None = None
    labels: dict[str, str] | None = None
    exposed_ports: dict[str, Any] | None = None


class _HostConfig(Struct, rename="pascal"):
    network_mode: str | None = None


class _Network(Struct, rename="pascal"):
    ip_address: str | None = msgspec.field(name="IPAddress", default=None)
    ipv6_address: str | None = msgspec.field(name="GlobalIPv6Address", default=None)


class _Binding(Struct, rename="pascal"):
    host_ip: str | None = None
    host_port: str | None = None


class _NetworkSettings(Struct, rename="pascal"):
    ports: dict[str, list[_Binding] | None] | None = None
    networks: dict[str, _Network | None] | None = None


class _Inspection(Struct, rename="pascal"):
    id: str
    name: str | None = None
    image: str | None = None
    created: str | None = None
    state: _State | None = None
    config: _Config | None = None
    host_config: _HostConfig | None = None
    network_settings: _NetworkSettings | None = None


def read_container(inspection: object) -> Container:
    """Read the answer to ``GET /containers/{id}/json``. Raises `ContainerError`."""
    try:
        found = msgspec.convert(inspection, _Inspection)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ContainerError(f"the engine's description is not understood: {error}") from None
    state = found.state or _State()
    config = found.config or _Config()
    network = found.network_settings or _NetworkSettings()
    published = network.ports or {}
    tcp, udp, not_ports = _ports([*(config.exposed_ports or {}), *published])
    return Container(
        id=found.id,
        name=(found.name or "").removeprefix("/"),
        image=found.image or "",
        created_ns=nanoseconds(found.created or ""),
        started_ns=nanoseconds(state.started_at or ""),
        running=bool((state.running or state.paused) and not state.restarting),
        paused=bool(state.paused),
        health=_health(state),
        labels=config.labels or {},
        environment_port=_environment_port(config.env or []),
        network_mode=(found.host_config or _HostConfig()).network_mode or "",
        tcp=tcp,
        udp=udp,
        not_ports=not_ports,
        bindings=_bindings(published),
        addresses=_addresses(network.networks or {}),
    )


def nanoseconds(text: str) -> int:
    """Return an RFC 3339 time as nanoseconds since the epoch; 0 if it is none, or the engine's "never"."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return 0
    since_epoch = moment.astimezone(datetime.UTC) - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return max(since_epoch // datetime.timedelta(microseconds=1) * 1000, 0)


def _health(state: _State) -> str:
    status = (state.health.status if state.health else "") or ""
    # Docker says `none` of a container whose health check was switched off.
    return "" if status == "none" else status


def _environment_port(environment: list[str]) -> str | None:
    # Of several the last one counts, as for the container's process.
    values = [entry.removeprefix("PORT=") for entry in environment if entry.startswith("PORT=")]
    return values[-1] if values else None


def _ports(keys: list[str]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]:
    """Sort ``8081/udp`` and the like into TCP and UDP ports, ascending, and what is no port."""
    by_protocol: dict[str, set[int]] = {"tcp": set(), "udp": set()}
    not_ports = set()
    for key in keys:
        number, _, protocol = key.partition("/")
        port = _port(number)
        if not port:
            not_ports.add(key)
        # SCTP and what else there may be concerns nobody here.
        elif (protocol or "tcp") in by_protocol:
            by_protocol[protocol or "tcp"].add(port)
    return tuple(sorted(by_protocol["tcp"])), tuple(sorted(by_protocol["udp"])), tuple(sorted(not_ports))


def _port(text: str | None) -> int:
    """Return a port number, 0 if the text is none."""
    if not text or not text.isascii() or not text.isdecimal() or len(text) > 5:
        return 0
    return int(text) if int(text) <= PORT_MAX else 0


def _bindings(published: dict[str, list[_Binding] | None]) -> dict[int, tuple[Binding, ...]]:
    bindings = {}
    for key, entries in published.items():
        number, _, protocol = key.partition("/")
        listening = tuple(
            Binding("" if each.host_ip in (None, "0.0.0.0", "::") else str(each.host_ip), _port(each.host_port))
            for each in entries or ()
            if _port(each.host_port)
        )
        if protocol in ("tcp", "") and listening and _port(number):
            bindings[_port(number)] = listening
    return bindings


def _addresses(networks: dict[str, _Network | None]) -> dict[str, tuple[str, ...]]:
    found = {}
    for name in sorted(networks):
        network = networks[name] or _Network()
        addresses = tuple(each for each in (network.ip_address, network.ipv6_address) if each)
        if addresses:
            found[name] = addresses
    return found
