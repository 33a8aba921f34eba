"""Everything whose figures control gathers, without the processes around it."""

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from router.config.schema import Config
from router.config.sections import Meters
from router.control.figures import Figures, Source
from router.control.registry_log import RegistryTally, make_registry
from router.control.totals import Totals
from router.log import DEBUG, Logger
from router.sync import Stats
from tests.support.registry import announced

SECOND_NS = 1_000_000_000


class Reporting:
    """A registry, totals of workers and what gathers their figures; the clock stands at 1000 s.

    Attributes:
        log: lines of the component log.
        now: monotonic seconds.
    """

    def __init__(self, counters: tuple[Source, ...] = (), gauges: tuple[Source, ...] = ()) -> None:
        self.log: list[dict[str, Any]] = []
        self.now = 1000.0
        self.logger = Logger(level=DEBUG, sink=lambda line: self.log.append(msgspec.json.decode(line)))
        self.tally = RegistryTally(
            Meters().route_registration_latency_histogram_buckets,
            20.0,
            self.clock,
            lambda: int(self.now * SECOND_NS),
        )
        self.registry = make_registry(Config(), self.logger, self.tally)
        self.totals = Totals()
        self.pids: list[int] = []
        self.figures = Figures(
            self.registry,
            self.tally,
            self.totals,
            lambda: self.pids,
            self.logger,
            counters=counters,
            gauges=gauges,
            clock=self.clock,
        )

    def clock(self) -> float:
        return self.now

    def worker(self, number: int, counters: Mapping[str, int | float], **gauges: int) -> None:
        """Report as a worker does, a second after it counted."""
        sent = msgspec.msgpack.encode(Stats(counters, gauges))
        self.totals.update(number, msgspec.msgpack.decode(sent, type=Stats))

    def register(self, uri: str, component: str = "", **fields: Any) -> None:
        tags = {"component": component} if component else {}
        self.registry.register(announced(uri, tags=tags, **fields), self.now)


OWN_PID = os.getpid()
