"""What operators are told about the connection to NATS: its loss and return in the log, its backlog as figures.

Owns the names of those lines and figures, which are Gorouter's because alarms look for them; does not own the
connection. One law: while NATS is away the log says so again and again, at a rate that fills no disk.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import nats.errors

from router.log import Logger
from router.log_limit import LogLimit

STILL_AWAY_FIRST_S = 5.0
STILL_AWAY_EVERY_S = 30.0
"""How long after the loss the log says that NATS is still away, and how often from then on."""


class NatsMonitor:
    """Told of everything that happens to the router's link to NATS; lives as long as the subscriber.

    Args:
        logger: parent of this component's logger.
        buffered: returns how many messages have arrived and were not handled yet.
        clock: monotonic seconds.

    Attributes:
        dropped_messages: messages lost since the start because too many waited.
    """

    def __init__(
        self, logger: Logger, buffered: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.dropped_messages = 0
        self._logger = logger.child("nats")
        self._buffered = buffered
        self._clock = clock
        self._lost_at = 0.0
        self._say_at = 0.0
        self._errors = LogLimit()

    def figures(self) -> Mapping[str, int]:
        """Return the gauges of the connection, by Gorouter's names."""
        return {"buffered_messages": self._buffered(), "total_dropped_messages": self.dropped_messages}

    def connected(self, host: str) -> None:
        """The first connection is there."""
        self._logger.info("Successfully-connected-to-nats", host=host)

    def disconnected(self, host: str, error: str) -> None:
        """The connection is lost."""
        self._lost_at = self._clock()
        self._say_at = self._lost_at + STILL_AWAY_FIRST_S
        self._logger.warn("nats-connection-disconnected", host=host, error=error)

    def still_disconnected(self, errors: Sequence[str]) -> None:
        """No server could be reached, once more; ``errors`` says why, server by server."""
        now = self._clock()
        if now >= self._say_at:
            self._say_at = now + STILL_AWAY_EVERY_S
            seconds = round(now - self._lost_at, 3)
            self._logger.warn("nats-connection-still-disconnected", errors=errors, disconnected_seconds=seconds)

    def reconnected(self, host: str) -> None:
        """A server was reached again, and everything is subscribed."""
        seconds = round(self._clock() - self._lost_at, 3)
        self._logger.info("nats-connection-reconnected", host=host, disconnected_seconds=seconds)

    def failed(self, error: Exception) -> None:
        """Something went wrong while the connection is up."""
        if isinstance(error, nats.errors.SlowConsumerError):
            self.dropped_messages += 1
        if self._errors.admit(self._clock()):
            self._logger.warn(
                "nats-connection-error",
                error=str(error) or repr(error),
                dropped_messages=self.dropped_messages,
                suppressed=self._errors.take_suppressed(),
            )

    def crashed(self, error: Exception) -> None:
        """Watching the connection failed of a fault of ours; it goes on."""
        self._logger.error("nats-watcher-failed", error=repr(error))
