"""Whether this router should be sent traffic, and who has to be told when that changes.

Three states, passed through once: initializing, healthy, degraded; a drain never turns back (the Gorouter's
states and order). Every listener answers from here, control's and, told over the sync stream, the workers'.
"""

import enum
from collections.abc import Callable


class State(enum.Enum):
    INITIALIZING = "initializing"
    HEALTHY = "healthy"
    DEGRADED = "degraded"


NEXT = {State.INITIALIZING: (State.HEALTHY, State.DEGRADED), State.HEALTHY: (State.DEGRADED,), State.DEGRADED: ()}


class Health:
    """The state of this process.

    Args:
        on_change: called after each change, with whether health checks now succeed.
    """

    def __init__(self, on_change: Callable[[bool], None] = lambda healthy: None) -> None:
        self.state = State.INITIALIZING
        self.on_change = on_change

    @property
    def healthy(self) -> bool:
        return self.state is State.HEALTHY

    def enter(self, state: State) -> None:
        """Go to a later state; one that does not follow the present one changes nothing."""
        if state in NEXT[self.state]:
            self.state = state
            self.on_change(self.healthy)
