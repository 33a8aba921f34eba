"""Announcements of internal names on ``service-discovery.*``: building and reading the JSON payloads.

Owns field names and what a payload may hold; does not own which names and addresses are believed. One law: a
payload is taken whole or not at all.

Subjects and fields are those of Cloud Foundry's route-emitter and service-discovery-controller, which knows no
ports: ``options.port`` is this project's own. Fields that are not read may hold anything, nulls count as absent.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from router.wire.identities import IdentityError, normal_address

REGISTER = "service-discovery.register"
UNREGISTER = "service-discovery.unregister"
START = "service-discovery.start"
"""A router wants everything to be announced now, and says how often from then on."""
GREET = "service-discovery.greet"
"""Who announces wants to hear what routers say on `START`; they answer its reply subject. The payload is empty."""
SUBJECTS = "service-discovery.*"

MAX_NAMES = 1_000
"""More names in one message are a mistake or an attack; route-emitter's have two."""

# Opaque to the router, but fit for a header and a log line.
_Text = Annotated[str, Meta(pattern=r"\A[!-~]*\Z", max_length=255)] | None
_Port = Annotated[int, Meta(ge=1, le=65535)] | None
_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None


class DiscoveryError(ValueError):
    """A payload that announces nothing usable; the text names the field and why, fit for a log line."""


class NameRegistration(Struct, frozen=True, kw_only=True):
    """One instance and the names it stands behind."""

    ip: str
    """Address of the container, as `ipaddress` writes it; IPv4-mapped IPv6 as IPv4. Empty only to unregister."""
    names: tuple[str, ...]
    """As announced: in any case, with or without a trailing dot, perhaps no names at all."""
    app: str = ""
    index: str = ""
    port: int = 0
    """The port the route asks for; 0 leaves the choice to the router."""
    updated_at_ns: int = 0
    """When the instance last changed, in nanoseconds since the epoch; 0 if the message does not say."""


class DiscoveryStart(Struct, frozen=True, kw_only=True):
    """Payload of `START`, and answer to `GREET`."""

    id: str
    """``<index>-<uuid4>``, constant for the life of the router process."""
    host: str
    minimum_register_interval_s: int = msgspec.field(name="minimumRegisterIntervalInSeconds")
    """How often everything should be announced. Never 0: route-emitter makes a timer of it, and crashes."""
    prune_threshold_s: int = msgspec.field(name="pruneThresholdInSeconds")
    """How long the router keeps an instance it hears nothing of."""


class _Options(Struct):
    port: _Port = None


class _Message(Struct):
    host: str | None = None
    uris: list[str | None] | None = None
    app: _Text = None
    private_instance_index: _Text = None
    endpoint_updated_at_ns: _Int64 = None
    options: _Options | None = None


_encode = msgspec.json.Encoder(order="deterministic").encode
_message = msgspec.json.Decoder(_Message)
_start = msgspec.json.Decoder(DiscoveryStart)


def decode_register(payload: bytes) -> NameRegistration:
    """Read a payload of `REGISTER`. Raises `DiscoveryError`; then nothing of it may be used."""
    registration = decode_unregister(payload)
    if not registration.ip:
        raise DiscoveryError("host: missing or empty")
    return registration


def decode_unregister(payload: bytes) -> NameRegistration:
    """Read a payload of `UNREGISTER`, where the host may be missing. Raises `DiscoveryError`."""
    message = _decoded(payload)
    names = tuple(name for name in message.uris or () if name)
    if not names:
        raise DiscoveryError("uris: missing or empty")
    if len(names) > MAX_NAMES:
        raise DiscoveryError(f"uris: {len(names)} entries, no more than {MAX_NAMES} are taken")
    return NameRegistration(
        ip=_checked_host(message.host or ""),
        names=names,
        app=message.app or "",
        index=message.private_instance_index or "",
        port=(message.options.port or 0) if message.options else 0,
        updated_at_ns=max(message.endpoint_updated_at_ns or 0, 0),
    )


def encode_registration(registration: NameRegistration) -> bytes:
    """Return the payload for `REGISTER` or `UNREGISTER`, with the fields route-emitter sends."""
    message: dict[str, object] = {
        "host": registration.ip,
        # Always there and always 0, as from route-emitter: the port of a public route has no meaning here.
        "port": 0,
        "uris": registration.names,
        "app": registration.app,
        "private_instance_index": registration.index,
    }
    if registration.updated_at_ns:
        message["endpoint_updated_at_ns"] = registration.updated_at_ns
    if registration.port:
        message["options"] = {"port": registration.port}
    return _encode(message)


def encode_start(start: DiscoveryStart) -> bytes:
    """Return the payload of `START`, which is also the answer to `GREET`."""
    return _encode(start)


def decode_start(payload: bytes) -> DiscoveryStart:
    """Read what a router says on `START`. Raises `DiscoveryError` if it is not that."""
    try:
        return _start.decode(payload)
    except (ValueError, RecursionError) as error:
        raise DiscoveryError(str(error)) from error


def _decoded(payload: bytes) -> _Message:
    try:
        return _message.decode(payload)
    except RecursionError as error:
        raise DiscoveryError("nested too deeply") from error
    except ValueError as error:
        raise DiscoveryError(str(error)) from error


def _checked_host(host: str) -> str:
    """Return the address; a name is never resolved, since whoever answers for it could point it anywhere."""
    try:
        return normal_address(host) if host else ""
    except IdentityError as error:
        raise DiscoveryError(f"host: {error}") from None
