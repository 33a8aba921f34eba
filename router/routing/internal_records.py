"""Facts that internal routing decides by, and the changes to them that travel from control to the workers.

Values only, like `routing.records`: identities say whose a container address is, policies say which app may reach
which, names say which instances stand behind an internal host name.
"""

import msgspec

from router.routing.records import Change


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Which workload a container address belongs to; fed by a trusted agent, never by the workload itself."""

    ip: str
    """Normalised text of the address, as `ipaddress` writes it; IPv4-mapped IPv6 as IPv4."""
    app: str
    """App GUID: what policies name."""
    space: str = ""
    organization: str = ""
    instance: str = ""
    """Instance GUID: the CN of its instance-identity certificate."""
    index: str = ""
    generation: int = 0
    """Grows with every container that gets this address, so that nothing is inherited from the one before."""
    ports: tuple[int, ...] = ()
    """TCP ports the container exposes, ascending."""


class Policy(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Instances of one app may reach instances of another: what is not allowed is denied."""

    source: str
    destination: str
    protocol: str
    """``tcp`` or ``udp``."""
    start: int
    end: int
    """The port range, both ends included."""


class NameEntry(msgspec.Struct, frozen=True, array_like=True):
    """One instance behind an internal name."""

    ip: str
    app: str
    """App GUID as announced; believed only if the address's identity agrees."""
    index: str = ""
    port: int = 0
    """The port the route asks for; 0 leaves the choice to what is dialled and what is exposed."""


class PutIdentity(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """An address belongs to this workload from now on, whatever it belonged to before."""

    identity: Identity


class DropIdentity(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """An address belongs to nobody."""

    ip: str


class PutName(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """All instances behind an internal name, in first-seen order; replaces what was there. Never empty."""

    name: str
    """Lower-case, without trailing dot."""
    entries: list[NameEntry]


class DropName(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Nobody stands behind this name any more."""

    name: str


class PutPolicies(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """All policies with this source app; replaces what was there, an empty list removes them."""

    source: str
    policies: list[Policy]


class SetInternalState(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Whether decisions can be made at all; both false at first. Not ready means deny (fail closed)."""

    policies_ready: bool
    names_warm: bool


InternalChange = PutIdentity | DropIdentity | PutName | DropName | PutPolicies | SetInternalState
"""One step of what internal routing decides by."""

INTERNAL_CHANGES = (PutIdentity, DropIdentity, PutName, DropName, PutPolicies, SetInternalState)
"""The same as a tuple of types."""

AnyChange = Change | InternalChange
"""What a frame of the stream to a worker may hold."""
