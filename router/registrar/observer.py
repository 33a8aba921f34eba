"""Who is told what happens to an announcer: the connection to NATS, and what routers say.

Owns the names of these events. Whoever wants to know overrides what is of interest; the methods must neither block
nor raise.
"""

from router.wire.announcement import RouterStart
from router.wire.identities import IdentitiesStart

GREET_PATIENCE_S = 3.0
"""After this long without an answer to the greeting, `no_router_answered` is called."""


class BusObserver:
    """Is told of the connection."""

    def connected(self, server: str) -> None:
        """A connection was made, the first one or a further one. The URL carries no credentials."""

    def disconnected(self, reason: str) -> None:
        """The connection was lost; another one is being looked for."""


class Observer(BusObserver):
    """Is told what happens to an `Announcer`."""

    def unreachable(self, told: str) -> None:
        """No server can be connected to; says what each answered. Not called again while that stays the same."""

    def router_heard(self, router: RouterStart, interval_s: float) -> None:
        """A router started or answered the greeting; routes are announced every ``interval_s`` from now on."""

    def no_router_answered(self) -> None:
        """Nobody answered the greeting within `GREET_PATIENCE_S`; routes are announced nevertheless."""


class AgentObserver(BusObserver):
    """Is told what happens to an `IdentityAgent`."""

    def router_heard(self, start: IdentitiesStart) -> None:
        """A router started, reconnected or answered the greeting."""

    def no_router_answered(self) -> None:
        """Nobody answered the greeting: no router hears identities, or this agent may not speak of them."""
