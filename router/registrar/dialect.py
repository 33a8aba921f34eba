"""The two families of subjects on which routes are announced, and how an announcer speaks each.

``router.*`` carries routes that clients outside reach; ``service-discovery.*`` carries internal names, which only
containers ask for. They share the scheme: whoever announces greets, routers answer with how often they want to
hear, and a router that starts asks all to announce at once (GOROUTER.md §2, INTERNAL.md §1).
"""

from collections.abc import Callable
from typing import NamedTuple

from router.registrar.schedule import DEFAULT_INTERVAL_S, interval_from_router
from router.wire import announcement, discovery
from router.wire.announcement import RouterStart

INTERNAL_INTERVAL_S = 60.0
"""Cloud Foundry's own default for internal routes (INTERNAL.md §1.5)."""


class Subjects(NamedTuple):
    """What one family is called on NATS, and how a router's word in it is read."""

    register: str
    unregister: str
    start: str
    greet: str
    decode_start: Callable[[bytes], RouterStart]
    """Raises `ValueError`."""
    default_interval_s: float


def _decode_discovery_start(payload: bytes) -> RouterStart:
    start = discovery.decode_start(payload)
    return RouterStart(
        id=start.id,
        hosts=[start.host],
        minimum_register_interval_s=start.minimum_register_interval_s,
        prune_threshold_s=start.prune_threshold_s,
    )


PUBLIC = Subjects(
    announcement.REGISTER,
    announcement.UNREGISTER,
    announcement.START,
    announcement.GREET,
    announcement.decode_start,
    DEFAULT_INTERVAL_S,
)
INTERNAL = Subjects(
    discovery.REGISTER,
    discovery.UNREGISTER,
    discovery.START,
    discovery.GREET,
    _decode_discovery_start,
    INTERNAL_INTERVAL_S,
)


class Dialect:
    """One family as one announcer speaks it.

    Args:
        answers: subject of its own on which answers to its greeting come.
        fixed_interval_s: how often to announce whatever routers say; None obeys them.
    """

    def __init__(self, subjects: Subjects, answers: str, fixed_interval_s: float | None) -> None:
        self.subjects = subjects
        self.answers = answers
        self.spoken = False
        """Whether its subjects are listened to: agents may lack the permission for those they do not need."""
        self.interval_s = fixed_interval_s or subjects.default_interval_s
        self._fixed = fixed_interval_s is not None

    def obey(self, router: RouterStart) -> None:
        """Announce from now on as often as a router asks for."""
        if not self._fixed:
            default_s = self.subjects.default_interval_s
            self.interval_s = interval_from_router(
                router.minimum_register_interval_s, router.prune_threshold_s, default_s
            )
