"""What happens to an announcer, as records of Python's logging, for apps that log that way."""

import logging

from router.registrar.observer import Observer
from router.wire.announcement import RouterStart


class LoggingObserver(Observer):
    """Logs every event once, problems as warnings."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("router.registrar")

    def connected(self, server: str) -> None:
        self._logger.info("connected to NATS at %s", server)

    def disconnected(self, reason: str) -> None:
        self._logger.warning("NATS connection lost, reconnecting: %s", reason)

    def unreachable(self, told: str) -> None:
        self._logger.warning("no NATS server can be connected to, trying on: %s", told)

    def router_heard(self, router: RouterStart, interval_s: float) -> None:
        self._logger.info("router %s listens; announcing every %.3g s", router.id, interval_s)

    def no_router_answered(self) -> None:
        self._logger.warning("no router has answered; one that starts later will hear of the routes at once")
