"""The control process: brings the parts up in order, holds them together, takes them down in order.

Owns the order of start, reload and end; every part's work is its own module's. One law: a part that is up is taken
down again, however far the start came and whatever ends the process.
"""

import asyncio
import os
import signal
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from router import __version__, sync
from router.config.load import ConfigError, Loaded, Rule, load
from router.config.schema import Config
from router.control.address import source_address
from router.control.admin import Admin
from router.control.figures import Source
from router.control.health import Health, State
from router.control.instruments import Instruments, component_users, make_varz
from router.control.internal.policy_api import PolicyApiError
from router.control.internal.services import InternalServices
from router.control.listeners import ListenError, Listeners, listener_specs, open_listeners
from router.control.pruner import Pruner
from router.control.publisher import Publisher, Sources
from router.control.registry_log import RegistryTally, make_registry, registry_rules
from router.control.reload import merge
from router.control.routing_api import RoutingApiError, RoutingApiSource, is_configured
from router.control.shutdown import Shutdown
from router.control.signals import Signals
from router.control.status_tls import has_tls_health, health_context
from router.control.subscriber import NatsUnavailable, Subscriber
from router.control.supervisor import Supervisor
from router.control.worker_process import WorkerError
from router.log import LEVELS, Logger
from router.tls import TlsError

START_ERRORS = (NatsUnavailable, ListenError, PolicyApiError, RoutingApiError, TlsError, WorkerError, OSError)
"""What the start may fail of without a fault of ours: one clear line, exit status 1."""

CLOSE_S = 1.0
"""Longest that closing what is left may take once the workers are gone."""


class ControlProcess:
    """One run of the router; `run` is called once.

    Args:
        config_file: read again at a reload; None if there is none.
        loaded: what it held.
        further: rules that it has to keep beside those of `router.config`.
    """

    def __init__(
        self, config_file: Path | None, loaded: Loaded, logger: Logger, further: Sequence[Rule] = ()
    ) -> None:
        config = loaded.config
        self._config_file = config_file
        self._further = further
        self._loaded = loaded
        self._config = config
        self._logger = logger
        self._workers_logger = logger.child("supervisor")
        router_ip = source_address()
        tally = RegistryTally(
            config.prometheus.meters.route_registration_latency_histogram_buckets,
            config.route_latency_metric_muzzle_duration,
        )
        self._registry = make_registry(config, logger, tally)
        self._varz = make_varz(
            config, self._registry, lambda: self._supervisor, self._credentials, router_ip, logger
        )
        self._internal = make_internal_services(config, logger, self._facts_changed)
        self._publisher = Publisher(
            Sources(self._registry, self._internal.hub) if self._internal is not None else self._registry
        )
        self._subscriber = self._make_subscriber(router_ip)
        self._routing_api: RoutingApiSource | None = None
        if is_configured(config.routing_api):
            self._routing_api = RoutingApiSource(
                config, self._registry, logger, on_changes=self._publisher.changed
            )
        self._listeners = Listeners([])
        self._slots = config.workers or len(os.sched_getaffinity(0))
        self._supervisor = Supervisor(
            config,
            self._publisher,
            self._workers_logger,
            slots=self._slots,
            router_ip=router_ip,
            on_failed=self._endpoint_failed,
            on_apps=lambda counts: self._instruments.apps(counts),
        )
        self._instruments = self._make_instruments(tally, router_ip)
        self._health = Health(self._supervisor.set_health)
        self._admin = Admin()
        self._pruner = Pruner(self._prune_steps, self._pruned, config.prune_stale_droplets_interval)
        self._shutdown = Shutdown(time.monotonic, self._supervisor.hasten)
        self._reload_wanted = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []

    def _make_subscriber(self, router_ip: str) -> Subscriber:
        return Subscriber(
            self._config,
            self._registry,
            self._logger,
            on_changes=self._publisher.changed,
            router_ip=router_ip,
            users=[
                *(self._internal.link_users if self._internal is not None else ()),
                *component_users(self._varz, self._logger),
            ],
        )

    def _make_instruments(self, tally: RegistryTally, router_ip: str) -> Instruments:
        counters: list[Source] = [] if self._internal is None else [self._internal.counters]
        if self._routing_api is not None:
            counters.append(self._routing_api.figures)
        return Instruments(
            self._config,
            self._logger,
            self._registry,
            tally,
            self._supervisor,
            self._subscriber,
            self._varz,
            router_ip,
            counters=counters,
            gauges=[] if self._internal is None else [self._internal.gauges],
        )

    async def run(self) -> int:
        """Start, serve until told to end, end. Returns the exit status."""
        handlers = {
            signal.SIGUSR1: lambda: self._note(signal.SIGUSR1, self._shutdown.drain()),
            signal.SIGTERM: lambda: self._note(signal.SIGTERM, self._shutdown.stop()),
            signal.SIGINT: lambda: self._note(signal.SIGINT, self._shutdown.stop()),
            signal.SIGHUP: self._reload_wanted.set,
            signal.SIGUSR2: self._reopen_logs,
        }
        with Signals(handlers, before_quit=lambda: self._supervisor.signal(signal.SIGQUIT)):
            try:
                if await self._unless_told_to_end(self._start()):
                    self._run_in_background(self._reload_when_told())
                    await self._shutdown.begun.wait()
            except START_ERRORS as error:
                self._logger.error("gorouter-failed-to-start", error=describe_error(error))
                await self._take_down(0.0)
                return 1
            except BaseException:
                await self._take_down(0.0)
                raise
            await self._end()
        self._logger.info("gorouter.stopped")
        return 0

    async def _unless_told_to_end(self, start: Awaitable[None]) -> bool:
        """Run the start to its end or to the first signal to end; tell whether it came through."""
        starting = asyncio.ensure_future(start)
        begun = asyncio.ensure_future(self._shutdown.begun.wait())
        await asyncio.wait([starting, begun], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if starting.done():
            starting.result()
            return True
        await _cancel(starting)
        return False

    # The start, in Gorouter's order.

    async def _start(self) -> None:
        self._announce_start()
        await self._instruments.start_debug()
        check_writable(self._config.access_log.file)
        await self._subscriber.connect()
        if self._routing_api is not None:
            await self._routing_api.start()
        await self._instruments.start()
        self._run_in_background(self._pruner.run())
        self._listeners = open_listeners(listener_specs(self._config), self._slots)
        for listener in self._listeners:
            if listener.shared:
                self._logger.warn("listener-shared", address=listener.address, reason="workers of a router before")
        await self._open_status_listeners()
        if self._internal is not None:
            await self._internal.start()
        await self._subscriber.start()
        await self._instruments.start_publishing()
        await asyncio.gather(
            self._supervisor.start(self._listeners),
            # Routes load meanwhile; the traffic ports refuse connections.
            asyncio.sleep(self._config.start_response_delay_interval),
        )
        await self._supervisor.serve()
        self._logger.info(
            "gorouter.started",
            listeners=[f"{listener.kind}://{listener.address}" for listener in self._listeners],
            workers=self._slots,
            routes=self._registry.total_routes,
        )
        self._health.enter(State.HEALTHY)

    def _announce_start(self) -> None:
        file = "" if self._config_file is None else str(self._config_file)
        self._logger.info("gorouter.starting", version=__version__, pid=os.getpid(), config=file)
        self._warn_of(self._loaded)

    def _warn_of(self, loaded: Loaded) -> None:
        for warning in loaded.warnings:
            self._logger.warn("config-warning", warning=str(warning))

    async def _open_status_listeners(self) -> None:
        status = self._config.status
        await self._admin.open_routes(
            self._registry.routes_json,
            self._credentials,
            status.routes.port,
            key="status.routes.port",
            others={"/internal": self._internal.document} if self._internal is not None else {},
        )
        if self._varz is not None:
            documents = {"/varz": self._varz.document, "/routes": self._registry.routes_json}
            await self._admin.open_deprecated(
                self._health,
                documents,
                self._credentials,
                status.host,
                status.port,
                key="status.port",
                refresh=self._supervisor.refresh,
            )
        elif status.enable_nontls_health_checks:
            await self._admin.open_health(self._health, status.port, key="status.port")
        if has_tls_health(status):
            context = health_context(self._config)
            await self._admin.open_health_tls(self._health, status.tls.port, context, key="status.tls.port")

    def _credentials(self) -> tuple[str, str]:
        return self._config.status.user, self._config.status.pass_

    # Events.

    def _facts_changed(self) -> None:
        self._publisher.changed()

    def _endpoint_failed(self, frame: sync.Failed) -> None:
        self._registry.endpoint_failed(frame.key, frame.endpoint_id, time.monotonic())
        self._publisher.changed()

    def _prune_steps(self) -> Iterator[None]:
        return self._registry.prune_in_steps(time.monotonic(), self._subscriber.connected)

    def _pruned(self) -> None:
        self._publisher.flush()

    def _reopen_logs(self) -> None:
        self._logger.info("logs-reopened")
        self._supervisor.broadcast(sync.ReopenLogs())

    def _note(self, number: signal.Signals, had_effect: bool) -> None:
        message = "gorouter.signal.received" if had_effect else "gorouter.signal.ignored"
        self._logger.info(message, signal=number.name)

    # Reload.

    async def _reload_when_told(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            if self._config_file is None:
                self._logger.warn("reload-ignored", reason="there is no configuration file")
            else:
                await self._reload(self._config_file)

    async def _reload(self, config_file: Path) -> None:
        """Go on with what the file says now; if that cannot be, nothing changes."""
        self._logger.info("reload-started", config=str(config_file))
        try:
            loaded = await asyncio.to_thread(load, config_file, further=self._further)
            config, kept = merge(self._config, loaded.config)
            check_writable(config.access_log.file)
            context = health_context(config) if has_tls_health(config.status) else None
            self._instruments.reload(config)
            await self._supervisor.reload(config)
        except (ConfigError, TlsError, WorkerError, OSError) as error:
            self._logger.error("reload-failed", error=describe_error(error))
            return
        self._warn_of(loaded)
        self._config = config
        self._logger.level = LEVELS[config.logging.level.lower()]
        self._registry.apply_rules(registry_rules(config))
        if self._internal is not None:
            self._internal.configure(config.internal)
        self._publisher.changed()
        self._subscriber.reload(config)
        self._pruner.set_interval(config.prune_stale_droplets_interval)
        if self._routing_api is not None:
            self._routing_api.set_prune_interval(config.prune_stale_droplets_interval)
        if context is not None:
            self._admin.set_health_tls(context)
        if kept:
            self._logger.warn("reload-needs-restart", keys=kept)
        self._logger.info("reload-finished")

    # The end.

    async def _end(self) -> None:
        """Finish as gently as the signals ask for. The status listeners answer until it is over."""
        self._health.enter(State.DEGRADED)
        config = self._config
        if self._supervisor.is_serving:
            await self._shutdown.wait(config.drain_wait)
        limit_s = self._shutdown.limit_s(config.drain_timeout)
        in_time = await self._take_down(limit_s, tunnels=config.drain_websockets and self._shutdown.gentle)
        if not in_time and self._shutdown.gentle:
            self._logger.error("router.drain.timed-out", drain_timeout_seconds=config.drain_timeout)
            self._logger.error("gorouter-draining-error", error="requests in flight were cut")

    async def _take_down(self, drain_timeout_s: float, *, tunnels: bool = False) -> bool:
        """Take every part down; return whether the workers could finish in time, tunnels included or not."""
        for task in self._background:
            task.cancel()
        self._listeners.close()
        in_time = await self._supervisor.drain(drain_timeout_s, tunnels=tunnels)
        # Neither a dead NATS server nor a client that reads slowly may hold up the exit.
        parts: list[Closable] = [self._subscriber, self._admin, self._instruments]
        if self._internal is not None:
            parts.append(self._internal)
        if self._routing_api is not None:
            parts.append(self._routing_api)
        closing = [asyncio.create_task(_close(part)) for part in parts]
        await asyncio.wait(closing, timeout=CLOSE_S)
        return in_time

    def _run_in_background(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        task.add_done_callback(self._report_crash)
        self._background.append(task)

    def _report_crash(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            stack = "".join(traceback.format_exception(error))
            self._logger.error("control-internal-error", error=str(error), stack=stack)


class Closable(Protocol):
    """A part that is taken down at the end."""

    async def close(self) -> None: ...


async def _close(part: Closable) -> None:
    await part.close()


def make_internal_services(
    config: Config, logger: Logger, on_changes: Callable[[], None]
) -> InternalServices | None:
    """Return the parts of internal routing, None if the configuration names no internal domain."""
    if not config.internal.enabled:
        return None
    return InternalServices(config.internal, logger, f"{config.index}-{uuid4()}", on_changes)


def check_writable(access_log: str) -> None:
    """Raise `OSError` if the access log cannot be opened, before any worker tries."""
    if access_log:
        os.close(os.open(access_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))


def describe_error(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)


async def _cancel(task: "asyncio.Future[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
