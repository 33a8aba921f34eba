"""The data plane of one worker, assembled: listeners, client connections, the proxy, the sweep.

Owns which parts there are and their common timer; does not own the process or the stream to control
(`router.worker`). One law: time-outs are deadlines on the objects, looked at a few times a second by one sweep;
nothing on the hot path arms a timer.
"""

import asyncio
import ipaddress
import socket
import ssl
import sys
from collections.abc import Callable
from random import random
from time import monotonic
from typing import Any

from router.backend.connections import BackendOptions, Connections
from router.config.schema import Config
from router.frontend.http1 import ClientConnection, FrontendOptions
from router.frontend.proxy_protocol import HeaderConnection, Peer
from router.log import Logger
from router.metrics import Counters
from router.proxy.access_log import AccessLog
from router.proxy.forward import Proxy, ProxyOptions
from router.proxy.internal import Domain, InternalProxy
from router.proxy.log_writer import LogWriter
from router.proxy.rewrite import RewriteOptions
from router.routing.balancing import Balancer
from router.routing.hashing import DEFAULT_TABLE_SIZE, TABLE_SIZES
from router.routing.mirror import Mirror
from router.sync import Listener
from router.tls import backend_context, frontend_context, internal_context
from router.tls_stream import TlsStream

ProtocolFactory = Callable[[], asyncio.BufferedProtocol]
"""Makes what serves an accepted connection."""

SWEEP_S = 0.1
"""How often deadlines are looked at: the precision of every time-out."""
_BACKLOG = 4096
_HANDSHAKE_S = 10.0
"""A client has this long for its TLS handshake."""
_DEFAULT_RESPONSE_HEAD_BYTES = 10 * 1024 * 1024
"""``max_response_header_bytes: 0``, as in Go's HTTP client."""
_MARK_SHARE = 4
"""Failure marks hold for this part of ``droplet_stale_threshold`` (GOROUTER.md §6.1)."""


class DataPlane:
    """Serves requests.

    Args:
        report_failed: tells control of a TLS endpoint removed from the pool of a key.

    Raises:
        TlsError: a certificate cannot be used.
        OSError: the access log cannot be opened.
    """

    def __init__(self, config: Config, logger: Logger, report_failed: Callable[[str, int], None]) -> None:
        self._config = config
        self._logger = logger
        self._listening: list[tuple[asyncio.Server, socket.socket, ProtocolFactory]] = []
        self._leaving = False
        self._accepting: set[asyncio.Task[None]] = set()
        self._clients: set[ClientConnection] = set()
        self._handshakes: dict[TlsStream, float] = {}
        self._headers: set[HeaderConnection] = set()
        self._announcers = tuple(ipaddress.ip_network(each, strict=False) for each in config.enable_proxy_from)
        self._frontend = _frontend_options(config)
        self._context: ssl.SSLContext | None = frontend_context(config) if config.enable_ssl else None
        self.counters = Counters()
        self.connections = Connections(_backend_options(config), monotonic)
        self.mirror = Mirror(self.connections.endpoint_gone, self._internal_changed)
        self.log_writer: LogWriter | None = None
        if config.access_log.file:
            self.log_writer = LogWriter(config.access_log.file, self._log_lost)
        parts: dict[str, Any] = {
            "options": _proxy_options(config),
            "mirror": self.mirror,
            "balancer": _balancer(config),
            "connections": self.connections,
            "access_log": AccessLog(
                self.log_writer.write if self.log_writer else None,
                hide_client=config.logging.disable_log_source_ip,
                hide_forwarded_for=config.logging.disable_log_forwarded_for,
            ),
            "counters": self.counters,
            "logger": logger.child("proxy"),
            "report_failed": report_failed,
        }
        self.proxy = Proxy(**parts)
        self._internal: InternalProxy | None = None
        self._internal_context: ssl.SSLContext | None = None
        self._must_revise = False
        self._dropped_lines = 0
        if config.internal.enabled:
            self._internal = InternalProxy(self.proxy, _internal_domains(config), **parts)
            if config.internal.proxy.https_ports:
                self._internal_context = internal_context(config)

    # Accepting.

    async def listen(self, listeners: list[Listener]) -> None:
        """Accept on inherited sockets."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            sock = socket.socket(fileno=listener.fd)
            sock.setblocking(False)
            factory = self._factory(listener.kind, sock.getsockname()[1])
            server = await loop.create_server(factory, sock=sock, backlog=_BACKLOG)
            self._listening.append((server, sock, factory))

    def _factory(self, kind: str, port: int) -> ProtocolFactory:
        """Return what makes the protocol of each connection accepted on a listener."""
        proxy: Proxy = self.proxy
        context = self._context
        if kind.startswith("internal-"):
            assert self._internal is not None
            proxy, context = self._internal, self._internal_context

        def serve(secure: bool, peer: Peer | None) -> ClientConnection:
            client = ClientConnection(proxy, self._frontend, self._clients, secure, port, peer)
            if self._leaving:
                # Accepted before the drain, or in its first moment; it has not heard of it.
                client.drain()
            return client

        def accept_plain(peer: Peer | None = None) -> ClientConnection:
            return serve(False, peer)

        def accept_tls(peer: Peer | None = None) -> TlsStream:
            assert context is not None

            def handshake_done(stream: TlsStream) -> asyncio.BufferedProtocol:
                self._handshakes.pop(stream, None)
                return serve(True, peer)

            stream = TlsStream(context, handshake_done, self._handshake_failed)
            self._handshakes[stream] = monotonic() + _HANDSHAKE_S
            return stream

        accept = accept_tls if kind.endswith("https") else accept_plain
        if not self._config.enable_proxy or kind.startswith("internal-"):
            return accept
        return lambda: HeaderConnection(accept, self._header_refused, self._announcers, self._headers)

    def _header_refused(self, peer_ip: str, reason: str) -> None:
        self._logger.debug("proxy-protocol-refused", peer=peer_ip, error=reason)

    def _handshake_failed(self, stream: TlsStream, error: BaseException) -> None:
        self._handshakes.pop(stream, None)
        self._logger.debug("tls-handshake-failed", error=str(error))

    def stop_accepting(self) -> None:
        """Stop accepting, once everybody has been let in who waits at this moment.

        While control lives it holds the sockets open, and who comes later waits for another worker. But this may
        be the last process that has them, and closing them then resets whoever still waits.
        """
        for server, sock, factory in self._listening:
            self._let_in(sock, factory)
            server.close()
        self._listening.clear()

    def _let_in(self, sock: socket.socket, factory: ProtocolFactory) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = sock.accept()
            except OSError:  # Nobody is left, or no descriptor to let anybody in with.
                return
            task = loop.create_task(_attend(factory, connection))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    # The timer.

    def sweep(self) -> None:
        """Look at all deadlines, and at permissions if any may have changed; called every `SWEEP_S`."""
        if self._must_revise and self._internal is not None:
            self._must_revise = False
            self._internal.revise()
        now = monotonic()
        for exchange in list(self.proxy.active):
            if exchange.deadline and now >= exchange.deadline and not exchange.finished:
                exchange.timed_out()
        for client in list(self._clients):
            if client.deadline and now >= client.deadline:
                client.expire()
        for header in list(self._headers):
            if now >= header.deadline:
                header.expire()
        for stream, deadline in list(self._handshakes.items()):
            if now >= deadline:
                del self._handshakes[stream]
                stream.abort()
        if self.log_writer is not None:
            self.log_writer.flush()

    def _internal_changed(self) -> None:
        # Not at once: a burst of changes should cost one look at all exchanges, not one each.
        self._must_revise = True

    def every_second(self) -> None:
        """What is renewed once a second."""
        self.proxy.renew_date()
        if self._internal is not None:
            self._internal.renew_date()
        self._report_dropped_lines()
        self.connections.sweep(monotonic())

    # The end.

    def drain(self) -> None:
        """Take no more requests: idle connections close, others after the response at hand."""
        self._leaving = True
        self.stop_accepting()
        for client in list(self._clients):
            client.drain()
        self.connections.close_idle()

    def is_drained(self, with_tunnels: bool = False) -> bool:
        """Whether nothing that is waited for is left.

        Args:
            with_tunnels: WebSockets are waited for too, as at a reload; a drain before the end does not.
        """
        if self._headers or self._handshakes or self._accepting:
            return False
        return not self._clients if with_tunnels else all(client.is_tunnel() for client in self._clients)

    def unfinished(self) -> int:
        """Return the number of exchanges in progress."""
        return len(self.proxy.active)

    def close(self) -> None:
        """Cut what is left and write out the access log."""
        self.stop_accepting()
        for exchange in list(self.proxy.active):
            exchange.stop()
        for client in list(self._clients):
            client.abort()
        for header in list(self._headers):
            header.abort()
        for stream in list(self._handshakes):
            stream.abort()
        self.connections.abort_all()
        if self.log_writer is not None:
            self.log_writer.close()

    def gauges(self) -> dict[str, int]:
        """Return what is now, for control."""
        return {
            "client_connections": len(self._clients),
            "backend_connections": len(self.connections),
            "active_exchanges": len(self.proxy.active),
            "routes": len(self.mirror.table),
        }

    def counts(self) -> dict[str, int]:
        """Return all counters by name."""
        if self.log_writer is not None:
            self.counters.access_log_dropped = self.log_writer.dropped
        return self.counters.as_dict()

    def _report_dropped_lines(self) -> None:
        dropped = self.log_writer.dropped if self.log_writer is not None else 0
        if dropped != self._dropped_lines:
            self._logger.error("access-log-lines-dropped", lines=dropped - self._dropped_lines)
            self._dropped_lines = dropped

    def _log_lost(self, problem: str) -> None:
        self._logger.error("access-log-error", error=problem)


async def _attend(factory: ProtocolFactory, connection: socket.socket) -> None:
    connection.setblocking(False)
    await asyncio.get_running_loop().connect_accepted_socket(factory, connection)


def _frontend_options(config: Config) -> FrontendOptions:
    return FrontendOptions(
        idle_s=config.frontend_idle_timeout,
        header_s=config.read_header_timeout,
        max_head_bytes=config.max_request_header_bytes,
    )


def _backend_options(config: Config) -> BackendOptions:
    return BackendOptions(
        dial_timeout_s=config.endpoint_dial_timeout,
        handshake_timeout_s=config.tls_handshake_timeout,
        keep_alive=not config.disable_keep_alives,
        # As for Go's transport, 0 idle connections in all is no limit, and 0 for a host is its default of 2.
        max_idle=min(config.max_idle_conns_per_host or 2, config.max_idle_conns or sys.maxsize),
        probe_interval_s=config.endpoint_keep_alive_probe_interval,
        max_head_bytes=config.max_response_header_bytes or _DEFAULT_RESPONSE_HEAD_BYTES,
        max_headers=config.max_response_headers,
        context=backend_context(config),
    )


def _proxy_options(config: Config) -> ProxyOptions:
    filtered = frozenset(name.strip().lower().encode() for name in config.hop_by_hop_headers_to_filter)
    return ProxyOptions(
        rewrite=RewriteOptions(
            force_https=config.force_forwarded_proto_https,
            sanitize_proto=config.sanitize_forwarded_proto,
            kept_from_connection=filtered,
            close=config.disable_keep_alives,
            client_cert=config.forwarded_client_cert,
        ),
        health_user_agent=config.healthcheck_user_agent.encode(),
        max_attempts=config.backends.max_attempts,
        endpoint_timeout_s=config.http_1_endpoint_timeout,
        empty_pool_503=config.empty_pool_response_code_503,
        max_header_bytes=config.max_request_header_bytes,
        max_headers=config.max_request_headers,
    )


def _internal_domains(config: Config) -> list[Domain]:
    return [Domain("." + domain.name.lower().strip("."), domain.identity) for domain in config.internal.domains]


def _balancer(config: Config) -> Balancer:
    return Balancer(
        config.balancing_algorithm,
        max(config.backends.max_conns, 0),
        config.droplet_stale_threshold / _MARK_SHARE,
        random,
        config.zone,
        config.balancing_algorithm_az_preference == "locally-optimistic",
        TABLE_SIZES.get(config.hash_based_routing.lookup_table_size, DEFAULT_TABLE_SIZE),
    )
