"""Writes what happens to identities into the component log, as ``internal.identities``.

Owns message and field names of the lines; does not own what the events mean. One law: what an agent can provoke
without end is limited, and what was left out is counted.
"""

from collections.abc import Callable
from typing import Any

from router.log import Logger
from router.log_limit import LogLimit
from router.routing.identity_observer import IdentityObserver
from router.routing.internal_records import Identity
from router.wire.identities import Workload

Claims = list[tuple[str, Identity]]


class IdentityLog(IdentityObserver):
    """Writes a line for each event.

    Args:
        logger: of the component.
        clock: monotonic seconds.
    """

    def __init__(self, logger: Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._limit = LogLimit()

    def put(self, identity: Identity) -> None:
        self._logger.info("identity-put", **_fields(identity))

    def dropped(self, identity: Identity, reason: str) -> None:
        self._logger.info("identity-dropped", reason=reason, **_fields(identity))

    def refused(self, agent: str, workload: Workload, reason: str) -> None:
        self.warn("identity-refused", agent=agent, ip=workload.ip, app=workload.app, reason=reason)

    def conflict(self, ip: str, claims: Claims, believed: Identity | None) -> None:
        app = "-" if believed is None else believed.app
        self.warn("identity-conflict", ip=ip, claims=_claims(claims), believed=app)

    def conflict_over(self, ip: str) -> None:
        self._logger.info("identity-conflict-over", ip=ip)

    def quarantined(self, claims: Claims, floor: int) -> None:
        self.warn("identity-quarantined", ip=claims[0][1].ip, claims=_claims(claims), newer_generation=floor)

    def out_of_order(self, agent: str, sequence: int, last: int) -> None:
        self.warn("identity-message-out-of-order", agent=agent, sequence=sequence, last_sequence=last)

    def missed(self, agent: str, messages: int) -> None:
        self._logger.debug("identity-messages-missed", agent=agent, messages=messages)

    def warn(self, message: str, **fields: Any) -> None:
        """Write a warning, unless there were too many."""
        if self._limit.admit(self._clock()):
            self._logger.warn(message, **fields, suppressed=self._limit.take_suppressed())


def _fields(identity: Identity) -> dict[str, Any]:
    return {
        "ip": identity.ip,
        "app": identity.app,
        "instance": identity.instance,
        "index": identity.index,
        "generation": identity.generation,
        "ports": list(identity.ports),
    }


def _claims(claims: Claims) -> list[dict[str, Any]]:
    return [
        {"agent": agent, "app": identity.app, "instance": identity.instance, "generation": identity.generation}
        for agent, identity in claims
    ]
