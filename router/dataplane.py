"""The data plane of one worker, assembled: who accepts, client connections, the proxy, the sweep.

Owns which parts there are and their common timer; does not own the process or the stream to control
(`router.worker`). One law: time-outs are deadlines on the objects, looked at a few times a second by one sweep;
nothing on the hot path arms a timer.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

from router import assembly
from router.acceptor import Acceptor, Serve
from router.backend.connections import Connections
from router.config.schema import Config
from router.frontend.connection import Accepted, Served
from router.frontend.http1 import ClientConnection
from router.frontend.http2 import Http2Connection
from router.frontend.preface import Chosen
from router.frontend.proxy_protocol import Peer
from router.frontend.resets import reset_clients
from router.log import Logger
from router.metrics import Counters
from router.proxy.attempts import ALONE, Neighbours
from router.proxy.forward import Proxy
from router.proxy.internal import InternalProxy
from router.proxy.log_writer import LogWriter
from router.proxy.observer import Observer
from router.routing.mirror import Mirror
from router.sync import Listener
from router.tls_front import FrontTls

SWEEP_S = 0.1
"""How often deadlines are looked at: the precision of every time-out."""


class DataPlane:
    """Serves requests.

    Args:
        report_failed: tells control of a TLS endpoint removed from the pool of a key.

    Raises:
        TlsError: a certificate cannot be used.
        TemplateError: the HTML error page cannot be understood.
        OSError: the access log or the error page cannot be opened.
    """

    _must_revise = False
    """Permissions may have changed since the last sweep."""
    _dropped_lines = 0
    """Lines of the access log that were lost and have been told of."""

    def __init__(
        self,
        config: Config,
        logger: Logger,
        report_failed: Callable[[str, int], None],
        router_ip: str = "",
        neighbours: Neighbours = ALONE,
    ) -> None:
        self._logger = logger
        self._leaving = False
        self._clients: set[Served] = set()
        front = FrontTls(config) if config.enable_ssl else None
        self._frontend = assembly.frontend_options(config, front)
        self.acceptor = Acceptor(config, logger, front, self._frontend, self._serving, self._clients)
        self._http2 = assembly.http2_options(config)
        self.counters = Counters()
        self.connections = Connections(assembly.backend_options(config), monotonic)
        self.mirror = Mirror(self.connections.endpoint_gone, self._internal_changed)
        self._app_counts, self._metrics = assembly.app_counts(config), assembly.request_metrics(config)
        measuring = self._metrics if assembly.measures_requests(config) else None
        self._always = _present(self._app_counts, measuring)
        services = assembly.route_services(config, logger)
        self._connections = (self.connections, services.connections)
        features = assembly.features(config, services, router_ip, self._always)
        self._log_writers = assembly.log_writers(config, self._log_lost)
        # From here on nothing fails, so nothing has to be closed.
        self._envelopes = assembly.envelopes(config, router_ip, self._stop_telling)
        self._told = _present(self._app_counts, self._metrics, self._envelopes)
        parts: dict[str, Any] = {
            "options": assembly.proxy_options(config),
            "mirror": self.mirror,
            "balancer": assembly.balancer(config, neighbours.board),
            "connections": self.connections,
            "access_log": assembly.access_log(config, self._log_writers, self._envelopes),
            "counters": self.counters,
            "logger": logger.child("proxy"),
            "report_failed": report_failed,
            "neighbours": neighbours,
            "features": features,
        }
        self.proxy = Proxy(**parts)
        self._internal = _internal_proxy(config, self.proxy, parts)
        self._set_observers(monotonic())

    # Accepting.

    async def listen(self, listeners: list[Listener]) -> None:
        """Accept on inherited sockets."""
        await self.acceptor.listen(listeners)

    def _serving(self, inside: bool, port: int) -> Serve:
        """Return what makes the protocol of each client of a listener; ``inside`` are workloads."""
        proxy: Proxy = self.proxy
        if inside:
            assert self._internal is not None
            proxy = self._internal

        def serve(secure: bool, peer: Peer | None, http2: bool = False) -> Chosen:
            accepted = Accepted(secure, port, peer)
            client: Chosen
            if http2:
                client = Http2Connection(proxy, self._frontend, self._http2, self._clients, accepted)
            else:
                client = ClientConnection(proxy, self._frontend, self._clients, accepted)
            if self._leaving:
                # Accepted before the drain, or in its first moment; it has not heard of it.
                client.drain()
            return client

        return serve

    # The timer.

    def sweep(self) -> None:
        """Look at the clock, all deadlines and, if any may have changed, permissions; called every `SWEEP_S`."""
        if self._must_revise and self._internal is not None:
            self._must_revise = False
            self._internal.revise()
        self.proxy.renew_date()
        if self._internal is not None:
            self._internal.renew_date()
        now = monotonic()
        for exchange in list(self.proxy.active):
            if exchange.invite_at and now >= exchange.invite_at:
                exchange.invite()
            if exchange.deadline and now >= exchange.deadline and not exchange.finished:
                exchange.timed_out()
        for client in list(self._clients):
            if client.deadline and now >= client.deadline:
                client.expire()
        self.acceptor.sweep(now)
        self._set_observers(now)
        for writer in self._log_writers:
            writer.flush()

    def _set_observers(self, now: float) -> None:
        """Let the platform's agent know of exchanges, unless it has just been found not to listen: then requests
        need not even be measured for it."""
        envelopes = self._envelopes
        if envelopes is None:
            return
        if now >= envelopes.agent.silent_until:
            self._observe(self._told)

    def _stop_telling(self) -> None:
        self._observe(self._always)

    def _observe(self, observers: tuple[Observer, ...]) -> None:
        if observers is not self.proxy.observers:
            self.proxy.observers = observers
            if self._internal is not None:
                self._internal.observers = observers

    def _internal_changed(self) -> None:
        # Not at once: a burst of changes should cost one look at all exchanges, not one each.
        self._must_revise = True

    def every_second(self) -> None:
        """What is looked after once a second."""
        self._report_dropped_lines()
        for client in reset_clients(self._clients):
            client.abort()
        for connections in self._connections:
            connections.sweep(monotonic())

    # The end.

    def drain(self) -> None:
        """Take no more requests: idle connections close, others after the response at hand."""
        self._leaving = True
        self.acceptor.stop()
        for client in list(self._clients):
            client.drain()
        for connections in self._connections:
            connections.close_idle()

    def is_drained(self, with_tunnels: bool = False) -> bool:
        """Whether nothing that is waited for is left.

        Args:
            with_tunnels: WebSockets are waited for, too.
        """
        if self.acceptor.is_busy():
            return False
        return not self._clients if with_tunnels else all(client.is_tunnel() for client in self._clients)

    def unfinished(self) -> int:
        """Return the number of exchanges in progress."""
        return len(self.proxy.active)

    def close(self) -> None:
        """Cut what is left and write out the access log."""
        self.acceptor.stop()
        for exchange in list(self.proxy.active):
            exchange.stop()
        for client in list(self._clients):
            client.abort()
        self.acceptor.abort()
        for connections in self._connections:
            connections.abort_all()
        for writer in self._log_writers:
            writer.close()
        if self._envelopes is not None:
            self._envelopes.close()

    def connection_counts(self) -> dict[str, int]:
        """Return what holds descriptors, without those that are still shaking hands."""
        return {
            "client_connections": len(self._clients),
            "backend_connections": sum(map(len, self._connections)),
        }

    def gauges(self) -> dict[str, int]:
        """Return what is now, for control."""
        return {
            **self.connection_counts(),
            "active_exchanges": len(self.proxy.active),
            "routes": len(self.mirror.table),
        }

    def counts(self) -> dict[str, int | float]:
        """Return all counters by name."""
        self.counters.access_log_dropped = sum(writer.dropped for writer in self._log_writers)
        counts: dict[str, int | float] = {**self.counters.as_dict()}
        if self._metrics is not None:
            counts.update(self._metrics.figures())
        if self._envelopes is not None:
            counts.update(self._envelopes.figures())
        return counts

    def take_apps(self) -> dict[str, int]:
        """Return how often each app was asked for since the last call, if anybody wants to know."""
        return self._app_counts.take() if self._app_counts is not None else {}

    def reopen_logs(self) -> None:
        """Open log files anew, for log rotation."""
        for writer in self._log_writers:
            if isinstance(writer, LogWriter):
                writer.reopen()

    def _report_dropped_lines(self) -> None:
        dropped = sum(writer.dropped for writer in self._log_writers)
        if dropped != self._dropped_lines:
            self._logger.error("access-log-lines-dropped", lines=dropped - self._dropped_lines)
            self._dropped_lines = dropped

    def _log_lost(self, problem: str) -> None:
        self._logger.error("access-log-error", error=problem)


def _internal_proxy(config: Config, proxy: Proxy, parts: dict[str, Any]) -> InternalProxy | None:
    if not config.internal.enabled:
        return None
    return InternalProxy(proxy, assembly.internal_domains(config), **parts)


def _present(*observers: Observer | None) -> tuple[Observer, ...]:
    return tuple(observer for observer in observers if observer is not None)
