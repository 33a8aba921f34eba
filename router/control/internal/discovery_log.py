"""Writes what happens to internal names into the component log, as ``internal.names``, and counts it.

Owns message and field names of the lines; does not own what the events mean. One law: what can be provoked without
end is limited, and what was left out is counted.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from router.log import DEBUG, Logger
from router.log_limit import LogLimit
from router.routing.internal_records import NameEntry
from router.routing.names import MAX_NAME_CHARS, NameObserver
from router.wire.discovery import NameRegistration

LOGGED_NAMES = 2
"""Of an announcement that is refused for its address; route-emitter's have no more."""


class NameLog(NameObserver):
    """Writes a line for each event.

    Args:
        logger: of the component.
        clock: monotonic seconds.

    Attributes:
        refusals: by reason, since the start.
        stale: instances forgotten because nothing was heard of them, since the start.
    """

    def __init__(self, logger: Logger, clock: Callable[[], float]) -> None:
        self.refusals: Counter[str] = Counter()
        self.stale = 0
        self._logger = logger
        self._clock = clock
        self._limit = LogLimit()

    def registered(self, name: str, entry: NameEntry) -> None:
        self._logger.info("internal-name-registered", **_fields(name, entry))

    def updated(self, name: str, entry: NameEntry) -> None:
        if self._logger.level <= DEBUG:
            self._logger.debug("internal-name-updated", **_fields(name, entry))

    def unregistered(self, name: str, entry: NameEntry) -> None:
        self._logger.info("internal-name-unregistered", **_fields(name, entry))

    def pruned(self, name: str, entry: NameEntry) -> None:
        self.stale += 1
        self._logger.info("internal-name-pruned", **_fields(name, entry))

    def refused(self, registration: NameRegistration, name: str, reason: str) -> None:
        self.refusals[reason] += 1
        names = [text[:MAX_NAME_CHARS] for text in ([name] if name else registration.names[:LOGGED_NAMES])]
        self.warn("internal-name-refused", names=names, ip=registration.ip, app=registration.app, reason=reason)

    def warn(self, message: str, **fields: Any) -> None:
        """Write a warning, unless there were too many."""
        if self._limit.admit(self._clock()):
            self._logger.warn(message, **fields, suppressed=self._limit.take_suppressed())


def _fields(name: str, entry: NameEntry) -> dict[str, Any]:
    return {"name": name, "ip": entry.ip, "app": entry.app, "index": entry.index, "port": entry.port}
