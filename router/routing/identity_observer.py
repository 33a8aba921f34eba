"""What the table of identities tells about itself, for the log.

Owns the names of these events and their meaning; does not own how they are written.
"""

from router.routing.internal_records import Identity
from router.wire.identities import Workload


class IdentityObserver:
    """Called by the table inside the change it tells of; this one does nothing, and is the default."""

    def put(self, identity: Identity) -> None:
        """An address belongs to this workload from now on."""

    def dropped(self, identity: Identity, reason: str) -> None:
        """An address does not belong to this workload any more."""

    def refused(self, agent: str, workload: Workload, reason: str) -> None:
        """A claim is not taken; told once, not with each repetition."""

    def conflict(self, ip: str, claims: list[tuple[str, Identity]], believed: Identity | None) -> None:
        """Agents differ over an address."""

    def quarantined(self, claims: list[tuple[str, Identity]], floor: int) -> None:
        """Claims to an address are not believed yet: a newer generation than theirs has had it."""

    def conflict_over(self, ip: str) -> None:
        """They do not any more."""

    def out_of_order(self, agent: str, sequence: int, last: int) -> None:
        """A message is passed over because a later one of its agent came first."""

    def missed(self, agent: str, messages: int) -> None:
        """Messages of an agent were lost on their way."""
