"""What trusted agents say of workloads on ``router.identities.*``: building and reading the JSON payloads.

Owns field names and what a payload may hold; does not own whether an agent is believed. One law: a payload is
taken whole or not at all, so that half a set is never mistaken for a whole one.

The protocol is this project's own. Fields that are not known are passed over, so that agents may be newer than
routers.
"""

import ipaddress
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

PUT = "router.identities.put"
"""An agent adds workloads to those it has spoken of, or says something new of them."""
DROP = "router.identities.drop"
"""Workloads are gone."""
SNAPSHOT = "router.identities.snapshot"
"""An agent says what it has; of everything it does not say again, it has spoken for the last time."""
START = "router.identities.start"
"""A router wants to hear a snapshot from every agent."""
GREET = "router.identities.greet"
"""An agent wants to hear what routers say on `START`; they answer its reply subject."""
SUBJECTS = "router.identities.*"

MAX_WORKLOADS = 10_000
"""More in one message are a mistake: what a NATS server takes, 1 MiB, holds fewer with all their fields."""

MAX_SEQUENCE = 2**53 - 1
"""Whole numbers up to this one survive every JSON library."""

# Opaque to the router, but fit for a header, a log line and a command line.
_Text = Annotated[str, Meta(pattern=r"\A[!-~]*\Z", max_length=255)]
_Name = Annotated[str, Meta(pattern=r"\A[!-~]+\Z", max_length=255)]
_Port = Annotated[int, Meta(ge=1, le=65535)]
_Number = Annotated[int, Meta(ge=0, le=MAX_SEQUENCE)]
_Seconds = Annotated[float, Meta(gt=0, le=86400)]


class IdentityError(ValueError):
    """A payload that says nothing usable; the text names the field and why, fit for a log line."""


class Workload(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One running container at one of its addresses."""

    ip: str
    """As `normal_address` gives it."""
    app: _Name
    """App GUID: what policies name."""
    space: _Text = ""
    organization: _Text = ""
    instance: _Text = ""
    """Instance GUID: the common name of the workload's instance-identity certificate."""
    index: _Text = ""
    generation: _Number = 0
    """Grows with every container that gets this address, e.g. its start in milliseconds; 0 if not known."""
    ports: Annotated[tuple[_Port, ...], Meta(max_length=1000)] = ()
    """TCP ports the container exposes, ascending."""


class WorkloadsSaid(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Payload of `PUT` and `SNAPSHOT`."""

    agent: _Name
    """Who speaks; the same for as long as it watches the same containers, restarts included."""
    sequence: _Number
    """One more with every message of this agent, never less than before, not after a restart either."""
    workloads: Annotated[list[Workload], Meta(max_length=MAX_WORKLOADS)]
    ttl: _Seconds | None = None
    """Seconds for which this holds unless it is said again; the router's own limit if absent or longer."""
    first: _Number | None = None
    """In a snapshot of several messages: sequence of the first, the others of them being puts."""


class AddressesGone(Struct, frozen=True, kw_only=True):
    """Payload of `DROP`."""

    agent: _Name
    sequence: _Number
    addresses: Annotated[list[str], Meta(max_length=MAX_WORKLOADS)]
    """As `normal_address` gives them."""


class IdentitiesStart(Struct, frozen=True, kw_only=True):
    """Payload of `START`, and answer to `GREET`."""

    router: _Name
    """Which router speaks; constant for the life of its process."""
    interval: _Seconds
    """Seconds within which agents should repeat what they have."""
    ttl: _Seconds
    """Seconds for which an identity that is not repeated holds."""


T = TypeVar("T")

_encode = msgspec.json.Encoder(order="deterministic").encode
_said = msgspec.json.Decoder(WorkloadsSaid)
_gone = msgspec.json.Decoder(AddressesGone)
_start = msgspec.json.Decoder(IdentitiesStart)


def normal_address(text: str) -> str:
    """Return an IP address as `ipaddress` writes it, an IPv4-mapped IPv6 address as IPv4.

    Raises:
        IdentityError: it is not one, or has a scope (``fe80::1%eth0``), which means nothing on another machine.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise IdentityError(f"not an IP address: {text[:64]!r}") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise IdentityError(f"an address with a scope: {text[:64]!r}")
        return str(address.ipv4_mapped or address)
    return str(address)


def checked(workload: Workload) -> Workload:
    """Return the workload as the rest of the router wants it. Raises `IdentityError` with the field's name."""
    try:
        ip = normal_address(workload.ip)
    except IdentityError as error:
        raise IdentityError(f"ip: {error}") from None
    ports = tuple(sorted(set(workload.ports)))
    if ip == workload.ip and ports == workload.ports:
        return workload
    return msgspec.structs.replace(workload, ip=ip, ports=ports)


def decode_said(payload: bytes) -> WorkloadsSaid:
    """Read a payload of `PUT` or `SNAPSHOT`. Raises `IdentityError`; then nothing of it may be used."""
    said = _decoded(_said, payload)
    workloads = []
    addresses = set()
    for number, workload in enumerate(said.workloads):
        try:
            workloads.append(checked(workload))
        except IdentityError as error:
            raise IdentityError(f"{error} - at `$.workloads[{number}]`") from None
        addresses.add(workloads[-1].ip)
    if len(addresses) < len(workloads):
        raise IdentityError("an address is in the message twice - at `$.workloads`")
    if said.first is not None and said.first > said.sequence:
        raise IdentityError("the first message of a snapshot after its last - at `$.first`")
    return msgspec.structs.replace(said, workloads=workloads)


def decode_gone(payload: bytes) -> AddressesGone:
    """Read a payload of `DROP`. Raises `IdentityError`; then nothing of it may be used."""
    gone = _decoded(_gone, payload)
    try:
        return msgspec.structs.replace(gone, addresses=[normal_address(text) for text in gone.addresses])
    except IdentityError as error:
        raise IdentityError(f"{error} - at `$.addresses`") from None


def decode_start(payload: bytes) -> IdentitiesStart:
    """Read a payload of `START`. Raises `IdentityError`."""
    return _decoded(_start, payload)


def encode(message: WorkloadsSaid | AddressesGone | IdentitiesStart) -> bytes:
    """Return the payload of any of them."""
    return _encode(message)


def _decoded(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    try:
        return decoder.decode(payload)
    except RecursionError as error:
        raise IdentityError("nested too deeply") from error
    except ValueError as error:
        raise IdentityError(str(error)) from error
