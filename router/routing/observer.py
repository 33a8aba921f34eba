"""What the registry tells about itself: events for the log, counters for the metrics.

Owns their names and meaning; does not own how they are written or exposed. One law: a heartbeat that changes
nothing is no event.
"""

from collections import Counter

from router.routing.registrations import Membership
from router.wire.registration import Registration


class RegistryObserver:
    """Called by the registry inside the change it tells of; this one does nothing, and is the default."""

    def route_registered(self, key: str) -> None:
        """A route key is new."""

    def endpoint_registered(self, key: str, membership: Membership) -> None:
        """An endpoint was added to a pool."""

    def endpoint_updated(self, key: str, membership: Membership) -> None:
        """What an endpoint announces of itself has changed."""

    def registration_ignored(self, key: str, address: str, reason: str) -> None:
        """An announcement lost against a newer one."""

    def internal_refused(self, uri: str, registration: Registration) -> None:
        """A public route was announced, or taken back, for an internal name."""

    def algorithm_unknown(self, key: str, algorithm: str) -> None:
        """A registration wants a balancing algorithm that does not exist; the pool keeps its own."""

    def endpoint_unregistered(self, key: str, membership: Membership) -> None:
        """An endpoint was taken out because it said so."""

    def endpoint_not_unregistered(self, key: str, registration: Registration, reason: str) -> None:
        """An unregistration changed nothing."""

    def route_unregistered(self, key: str) -> None:
        """The last endpoint was unregistered and the route with it."""

    def route_pruned(self, key: str, addresses: list[str], segment: str) -> None:
        """Endpoints were dropped because nothing was heard of them; the segment is the first one's."""

    def failed_endpoint_pruned(self, key: str, membership: Membership) -> None:
        """A TLS endpoint was dropped because a worker could not connect to it."""

    def prune_suspended(self) -> None:
        """A prune pass was left out because NATS is away."""


class RegistryCounters:
    """Totals since the start.

    Attributes:
        registered: uris registered, by (``component`` tag, action); an action is ``added``, ``updated``,
            ``refreshed`` or ``unmodified``.
        unregistered: uris unregistered, by ``component`` tag.
        pruned: endpoints dropped because nothing was heard of them.
        updated_at: monotonic seconds of the last accepted registration or unregistration; None before any.
    """

    __slots__ = ("pruned", "registered", "unregistered", "updated_at")

    def __init__(self) -> None:
        self.registered: Counter[tuple[str, str]] = Counter()
        self.unregistered: Counter[str] = Counter()
        self.pruned = 0
        self.updated_at: float | None = None
