"""Who may reach what inside: identities, policies and internal names, and the decisions made from them.

One `InternalTable` is kept by control, for DNS, and one by each worker, for requests; both by the same changes.
Owns the decisions; does not own where the facts come from. One law: what is not known to be allowed is denied, and
an unknown name cannot be told from a forbidden one.

All look-ups are dictionary accesses: their cost does not grow with the number of names, workloads or policies.
"""

from collections.abc import Iterator

from router.routing.internal_records import (
    DropIdentity,
    DropName,
    Identity,
    InternalChange,
    NameEntry,
    Policy,
    PutIdentity,
    PutName,
    PutPolicies,
    SetInternalState,
)

TCP = "tcp"
UDP = "udp"

Target = tuple[Identity, int]
"""A workload and the port of it that may be reached."""


class InternalTable:
    """Facts about workloads, and what follows from them.

    Attributes:
        identities: by address.
        names: instances behind each internal name, first-seen order.
        policies_ready: a policy set has been received and is not too old.
        names_warm: names have been heard for long enough to be believed complete.
        version: grows with every change that can alter a decision.
    """

    def __init__(self) -> None:
        self.identities: dict[str, Identity] = {}
        self.names: dict[str, list[NameEntry]] = {}
        self.policies_ready = False
        self.names_warm = False
        self.version = 0
        self._policies: dict[str, dict[str, tuple[Policy, ...]]] = {}
        self._addresses: dict[str, str] = {}
        """Of instances, by GUID."""

    def apply(self, change: InternalChange) -> None:
        """Apply one change."""
        self.version += 1
        if isinstance(change, PutIdentity):
            self._drop_identity(change.identity.ip)
            self.identities[change.identity.ip] = change.identity
            self._addresses[change.identity.instance] = change.identity.ip
        elif isinstance(change, DropIdentity):
            self._drop_identity(change.ip)
        elif isinstance(change, PutName):
            self.names[change.name] = change.entries
        elif isinstance(change, DropName):
            self.names.pop(change.name, None)
        elif isinstance(change, PutPolicies):
            self._put_policies(change)
        elif isinstance(change, SetInternalState):
            self.policies_ready = change.policies_ready
            self.names_warm = change.names_warm

    def _drop_identity(self, ip: str) -> None:
        gone = self.identities.pop(ip, None)
        if gone is not None and self._addresses.get(gone.instance) == ip:
            del self._addresses[gone.instance]

    def instance(self, instance: str) -> Identity | None:
        """Return the workload with this instance GUID, if it lives."""
        address = self._addresses.get(instance) if instance else None
        return None if address is None else self.identities.get(address)

    def _put_policies(self, change: PutPolicies) -> None:
        by_destination: dict[str, list[Policy]] = {}
        for policy in change.policies:
            by_destination.setdefault(policy.destination, []).append(policy)
        if by_destination:
            self._policies[change.source] = {app: tuple(found) for app, found in by_destination.items()}
        else:
            self._policies.pop(change.source, None)

    def snapshot(self, chunk: int) -> Iterator[list[InternalChange]]:
        """Yield the changes that make an empty table equal to this one as it is at the call."""
        changes: list[InternalChange] = [PutIdentity(identity) for identity in self.identities.values()]
        changes += [PutName(name, list(entries)) for name, entries in self.names.items()]
        changes += [PutPolicies(source, list(self.policies_of(source))) for source in self._policies]
        changes.append(SetInternalState(self.policies_ready, self.names_warm))
        return (changes[start : start + chunk] for start in range(0, len(changes), chunk))

    def sources(self) -> list[str]:
        """Return all apps that are the source of a policy."""
        return list(self._policies)

    def policies_of(self, source: str) -> Iterator[Policy]:
        """Yield the policies with this source app."""
        for policies in self._policies.get(source, {}).values():
            yield from policies

    def allows(self, source: str, destination: str, protocol: str, port: int) -> bool:
        """Whether instances of one app may reach this port of another's."""
        if not self.policies_ready:
            return False
        for policy in self._policies.get(source, {}).get(destination, ()):
            if policy.start <= port <= policy.end and policy.protocol == protocol:
                return True
        return False

    def may_resolve(self, source: str, destination: str) -> bool:
        """Whether there is any policy between two apps: the port is not known when a name is asked for."""
        return self.policies_ready and destination in self._policies.get(source, {})

    def instances(self, name: str) -> Iterator[tuple[NameEntry, Identity]]:
        """Yield the instances behind a name whose address is known to belong to the app that announced it."""
        for entry in self.names.get(name, ()):
            identity = self.identities.get(entry.ip)
            if identity is not None and (not entry.app or entry.app == identity.app):
                yield entry, identity

    def resolvable(self, name: str, source: Identity) -> list[Identity]:
        """Return the instances behind a name that the source may know of; none for unknown and forbidden names."""
        return [found for _, found in self.instances(name) if self.may_resolve(source.app, found.app)]

    def reachable(self, name: str, source: Identity, dialled_port: int) -> list[Target]:
        """Return the instances behind a name, each with its port, that the source may send requests to."""
        targets: list[Target] = []
        for entry, identity in self.instances(name):
            port = destination_port(entry, identity, dialled_port)
            if port and self.allows(source.app, identity.app, TCP, port):
                targets.append((identity, port))
        return targets


def destination_port(entry: NameEntry, identity: Identity, dialled_port: int) -> int:
    """Choose the port of an instance: the dialled one if it is exposed, else the route's, else the lowest exposed.

    0 means that there is none to choose.
    """
    if dialled_port in identity.ports:
        return dialled_port
    if entry.port:
        return entry.port
    return identity.ports[0] if identity.ports else 0
