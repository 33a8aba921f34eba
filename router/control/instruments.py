"""Everything by which this router is watched: metrics, the platform's agent, varz, active apps, the debug server.

Owns which of them there are and their order; each one's work is its own module's. One law: they look on, and none
of them is missed by the others when the configuration leaves it out.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Protocol
from uuid import uuid4

from router.config.schema import Config
from router.control.active_apps import ActiveApps
from router.control.debug_server import DebugServer
from router.control.figures import Figures, Source
from router.control.metron import ORIGIN, Metron
from router.control.nats_link import LinkUser
from router.control.processes import Processes
from router.control.prometheus import MetricsServer
from router.control.registry_log import RegistryTally
from router.control.subscriber import Subscriber
from router.control.supervisor import Supervisor
from router.control.varz import Component, Varz, VarzIdentity
from router.log import LEVELS, Logger
from router.metrics import Agent
from router.routing.registry import Registry
from router.wire.dropsonde import Encoder

Credentials = Callable[[], tuple[str, str]]


class _Part(Protocol):
    async def close(self) -> None: ...


def make_varz(
    config: Config,
    registry: Registry,
    supervisor: Callable[[], Supervisor],
    credentials: Credentials,
    router_ip: str,
    logger: Logger,
) -> Varz | None:
    """Make the document of the deprecated status listener; None if the configuration does not ask for it.

    Args:
        supervisor: returns the one that there will be by the time anybody asks.
        credentials: returns user and password of the status listener.
    """
    status = config.status
    if not status.enable_deprecated_varz_healthz_endpoints:
        return None
    processes = Processes()
    return Varz(
        VarzIdentity(
            index=config.index, uuid=str(uuid4()), host=f"{router_ip}:{status.port}", started_s=time.time()
        ),
        credentials=credentials,
        figures=lambda: supervisor().totals.counters(),
        registry=registry,
        processes=lambda: processes.read([os.getpid(), *supervisor().pids]),
        log_counts=lambda: logger.counts,
    )


def component_users(varz: Varz | None, logger: Logger) -> list[LinkUser]:
    """Return what announces this router over NATS in the deprecated way."""
    return [] if varz is None else [Component(varz.document, logger)]


class Instruments:
    """Lives as long as control.

    Args:
        counters: further sources of figures that only grow, and of gauges.
    """

    def __init__(
        self,
        config: Config,
        logger: Logger,
        registry: Registry,
        tally: RegistryTally,
        supervisor: Supervisor,
        subscriber: Subscriber,
        varz: Varz | None,
        router_ip: str,
        *,
        counters: Iterable[Source] = (),
        gauges: Iterable[Source] = (),
    ) -> None:
        self._config = config
        self._logger = logger
        self._supervisor = supervisor
        self._varz = varz
        self._metron: Metron | None = None
        self._telling: asyncio.Task[None] | None = None
        own_counters = [self._metron_figures, lambda: {"worker_restarts": supervisor.restarts}, *counters]
        self._figures = Figures(
            registry,
            tally,
            supervisor.totals,
            lambda: supervisor.pids,
            logger,
            counters=own_counters,
            gauges=[subscriber.figures, *gauges],
        )
        self._metrics = (
            MetricsServer(self._figures, logger, supervisor.refresh) if config.prometheus.enabled else None
        )
        self._active = (
            ActiveApps(config.publish_active_apps_interval, subscriber.publish)
            if config.publish_active_apps_interval > 0
            else None
        )
        self._debug = DebugServer(
            config.debug_addr,
            logger,
            get_level=self._level,
            set_level=self._set_level,
            worker_pids=lambda: supervisor.pids,
        )
        if config.enable_envelope_v1_metrics or config.logging.loggregator_enabled:
            self._look_for_agent(config, router_ip, tally)

    def _look_for_agent(self, config: Config, router_ip: str, tally: RegistryTally) -> None:
        agent = Agent(config.logging.metron_address)
        if agent.problem:
            # Each worker looks for it as well, and finds as little; once is enough to say so.
            self._logger.warn("metrics-agent-not-found", error=agent.problem)
        if not config.enable_envelope_v1_metrics:
            agent.close()
            return
        self._metron = Metron(self._figures, agent, Encoder(ORIGIN, index=str(config.index), ip=router_ip))
        tally.on_latency = self._metron.registration_latency

    async def start_debug(self) -> None:
        """Start what helps to find out why the rest does not start."""
        await self._debug.start()

    async def start(self) -> None:
        """Start the rest. Raises `ListenError` and `TlsError`."""
        if self._metrics is not None:
            await self._metrics.start(self._config.prometheus)
        if self._metron is not None:
            self._telling = asyncio.create_task(self._metron.run(), name="metron")
        if self._varz is not None:
            await self._varz.start()

    async def start_publishing(self) -> None:
        """Start what needs the connection to NATS."""
        if self._active is not None:
            await self._active.start()

    def apps(self, counts: Mapping[str, int]) -> None:
        """Take from a worker how many requests each app had."""
        if self._active is not None:
            self._active.add(counts)
        if self._varz is not None:
            self._varz.add_requests(counts)

    def reload(self, config: Config) -> None:
        """Go by other settings from now on. Raises `TlsError`, and then nothing changes."""
        if self._metrics is not None:
            self._metrics.reload(config.prometheus)

    async def close(self) -> None:
        """End everything; what never started does not mind."""
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
        if self._metron is not None:
            self._metron.close()
        parts: list[_Part | None] = [self._active, self._varz, self._metrics, self._debug]
        for part in parts:
            if part is not None:
                await part.close()

    def _metron_figures(self) -> Mapping[str, float]:
        return self._metron.figures() if self._metron is not None else {}

    def _level(self) -> str:
        level = self._logger.level
        return next(name for name, number in LEVELS.items() if number == level)

    def _set_level(self, name: str) -> None:
        self._logger.level = LEVELS[name]
        self._supervisor.set_log_level(name)
