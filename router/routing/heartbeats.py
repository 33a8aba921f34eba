"""Payloads whose registrations are in force, so that hearing one again costs a look-up instead of a decoding.

Owns the way from a payload to the memberships it made; does not own the memberships. One law: a line exists only
while every membership it names is in force, so finding it proves that the payload would change nothing.

Agents repeat the same bytes every few seconds, thousands of times a second in sum, and nearly all of what control
does is hearing them. Lines are found by a cryptographic digest, since the payloads themselves would double what
the table takes. Each membership belongs to at most one line, which bounds their number.
"""

import hashlib

from router.routing.registrations import Membership

MAX_PAYLOAD_BYTES = 65536
"""Larger payloads are not remembered; digesting them would cost more than it saves is likely to."""


class Heartbeats:
    """Lines from the digest of a payload to what it registered."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[bytes, tuple[Membership, ...]] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def find(self, payload: bytes) -> tuple[Membership, ...] | None:
        """Return the memberships this very payload made, if all are in force."""
        return self._lines.get(hashlib.blake2b(payload, digest_size=16).digest())

    def remember(self, payload: bytes, memberships: tuple[Membership, ...]) -> None:
        """Note that the payload, heard again, would only refresh these."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            return
        digest = hashlib.blake2b(payload, digest_size=16).digest()
        for membership in memberships:
            self.forget(membership)
        for membership in memberships:
            membership.payload_digest = digest
        self._lines[digest] = memberships

    def forget(self, membership: Membership) -> None:
        """Drop the line that names a membership which is out of force from now on."""
        if membership.payload_digest:
            self._lines.pop(membership.payload_digest, None)
            membership.payload_digest = b""

    def clear(self) -> None:
        self._lines.clear()
