"""Policies as the policy API writes them: JSON in and out, for both versions of it.

Owns the shapes, their validation and its texts, and the filters of a listing; does not own who may do what. One
law: the texts, and the order of the checks that they come from, are those of Cloud Foundry's policy server, since
clients show them to people and compare them in scripts.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from router.routing.access import TCP, UDP
from router.routing.internal_records import Policy

PORTS = range(1, 65536)
MAX_ID_LENGTH = 255
"""Characters of an app GUID; the columns of the policy server's database are as wide."""


class Version(Enum):
    """Of the API: ``v0`` knows single ports only, ``v1`` ranges."""

    V0 = "v0"
    V1 = "v1"


class MalformedPolicies(ValueError):
    """A body is not a list of policies; the text is what the client gets."""


class _Source(Struct):
    id: str | None = None
    tag: str | None = None


class _Ports(Struct):
    start: int | None = None
    end: int | None = None


class _RangeDestination(Struct):
    id: str | None = None
    tag: str | None = None
    protocol: str | None = None
    ports: _Ports | None = None


class _PortDestination(Struct):
    id: str | None = None
    tag: str | None = None
    protocol: str | None = None
    port: int | None = None


class _RangePolicy(Struct):
    source: _Source | None = None
    destination: _RangeDestination | None = None


class _PortPolicy(Struct):
    source: _Source | None = None
    destination: _PortDestination | None = None


class _RangePolicies(Struct):
    policies: list[_RangePolicy | None] | None = None


class _PortPolicies(Struct):
    policies: list[_PortPolicy | None] | None = None


_decode_v0 = msgspec.json.Decoder(_PortPolicies).decode
_decode_v1 = msgspec.json.Decoder(_RangePolicies).decode
encode = msgspec.json.Encoder().encode
"""Any answer as JSON text, properly escaped."""


def parse(body: bytes, version: Version) -> list[Policy]:
    """Return the policies in the body of a request, in its order and with its repetitions.

    Raises:
        MalformedPolicies: for the first mistake; nothing of the body may then be used.
    """
    try:
        found = (_decode_v0 if version is Version.V0 else _decode_v1)(body).policies
    except (ValueError, RecursionError) as error:
        raise MalformedPolicies(f"mapper: unmarshal json: {error}") from None
    try:
        if not found:
            raise MalformedPolicies("missing policies")
        return [_policy(each) for each in found]
    except MalformedPolicies as error:
        raise MalformedPolicies(f"mapper: validate policies: {error}") from None


def _policy(given: _RangePolicy | _PortPolicy | None) -> Policy:
    source = (given and given.source) or _Source()
    destination = (given and given.destination) or _RangeDestination()
    if not source.id:
        raise MalformedPolicies("missing source id")
    if not destination.id:
        raise MalformedPolicies("missing destination id")
    if destination.protocol not in (TCP, UDP):
        raise MalformedPolicies("invalid destination protocol, specify either udp or tcp")
    if isinstance(destination, _PortDestination):
        start = end = _checked_port(destination.port or 0)
    else:
        ports = destination.ports or _Ports()
        start, end = _checked_range(ports.start or 0, ports.end or 0)
    if source.tag or destination.tag:
        raise MalformedPolicies("tags may not be specified")
    _check_id("source", source.id)
    _check_id("destination", destination.id)
    return Policy(source.id, destination.id, destination.protocol, start, end)


def _checked_port(port: int) -> int:
    # The policy server takes a v0 port above 65535. It could never match, and makes no valid firewall rule.
    if port < 0 or port > PORTS[-1]:
        raise MalformedPolicies(f"invalid port {port}, must be in range 1-65535")
    if port == 0:
        raise MalformedPolicies("missing port")
    return port


def _checked_range(start: int, end: int) -> tuple[int, int]:
    if start > end:
        raise MalformedPolicies(f"invalid port range {start}-{end}, start must be less than or equal to end")
    if start < 0:
        raise MalformedPolicies(f"invalid start port {start}, must be in range 1-65535")
    if start == 0:
        raise MalformedPolicies("missing start port")
    if end not in PORTS:
        raise MalformedPolicies(f"invalid end port {end}, must be in range 1-65535")
    return start, end


def _check_id(side: str, text: str) -> None:
    # Opaque, but it goes into firewall rules, logs and terminals: what cannot be printed has no place there. The
    # policy server's database refuses what is longer; both are refused after all that has a text of its own.
    if len(text) > MAX_ID_LENGTH or not text.isprintable():
        raise MalformedPolicies(f"invalid {side} id, must be printable and at most {MAX_ID_LENGTH} characters")


class Filter(NamedTuple):
    """Which policies a listing is asked for; None is no restriction."""

    either: frozenset[str] | None = None
    """App GUIDs, one of which must be source or destination; the two others then do not matter."""
    sources: frozenset[str] | None = None
    destinations: frozenset[str] | None = None

    def wants(self, policy: Policy) -> bool:
        if self.either is not None:
            return policy.source in self.either or policy.destination in self.either
        return (self.sources is None or policy.source in self.sources) and (
            self.destinations is None or policy.destination in self.destinations
        )


def filter_from(query: Mapping[str, str]) -> Filter:
    """Return the filter that a query string asks for; its values are lists of GUIDs, separated by commas.

    An empty value matches nothing.
    """

    def guids(name: str) -> frozenset[str] | None:
        value = query.get(name)
        return None if value is None else frozenset(value.split(","))

    return Filter(guids("id"), guids("source_id"), guids("dest_id"))


def listing(policies: Iterable[Policy], version: Version = Version.V1) -> bytes:
    """Return the answer to a listing. ``v0`` leaves out, without a word, what has more than one port."""
    if version is Version.V0:
        return _listing(_plain(each, {"port": each.start}) for each in policies if each.start == each.end)
    return _listing(_plain(each, _range(each)) for each in policies)


def tagged_listing(policies: Iterable[Policy], tag: Callable[[str], str]) -> bytes:
    """Return the answer of the internal API: ranges, and the tags of both apps."""
    return _listing(_tagged(each, tag) for each in policies)


def _listing(policies: Iterable[dict[str, Any]]) -> bytes:
    listed = list(policies)
    return encode({"total_policies": len(listed), "policies": listed})


def _range(policy: Policy) -> dict[str, Any]:
    return {"ports": {"start": policy.start, "end": policy.end}}


def _plain(policy: Policy, ports: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": {"id": policy.source},
        "destination": {"id": policy.destination, "protocol": policy.protocol, **ports},
    }


def _tagged(policy: Policy, tag: Callable[[str], str]) -> dict[str, Any]:
    destination = {"id": policy.destination, "tag": tag(policy.destination), "protocol": policy.protocol}
    return {
        "source": {"id": policy.source, "tag": tag(policy.source)},
        "destination": {**destination, **_range(policy)},
    }


def tag_text(tag: int) -> str:
    """Write a tag as two octets of upper-case hexadecimal."""
    return f"{tag:04X}"


def tag_entry(app: str, tag: int) -> dict[str, str]:
    """Return the JSON object that tells of an app's tag."""
    return {"id": app, "tag": tag_text(tag), "type": "app"}


def summary(policies: Collection[Policy], limit: int) -> list[str]:
    """Return the first policies as text for the log."""
    return [_text(policy) for policy, _ in zip(policies, range(limit), strict=False)]


def _text(policy: Policy) -> str:
    ports = str(policy.start) if policy.start == policy.end else f"{policy.start}-{policy.end}"
    return f"{policy.source} -> {policy.destination} {policy.protocol} {ports}"
