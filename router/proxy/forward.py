"""The way of a request through the router: the ordered steps, the attempts, the retries.

Owns the order of decisions (GOROUTER.md §5.2) and the attempt loop (§6.5); the steps themselves live beside it.
One law: with an idle connection at hand all of it happens in one synchronous call, without a task or a timer.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from time import monotonic

from router.backend.connection import BackendConnection
from router.backend.connections import Connections, connect_timed_out
from router.backend.failure import ALWAYS, IF_IDEMPOTENT, MARK, NO_ENDPOINT, REMOVE, BackendFailure
from router.log import Logger
from router.metrics import Counters
from router.proxy import reply
from router.proxy.access_log import AccessLog
from router.proxy.exchange import Exchange
from router.proxy.request_id import RequestIds
from router.proxy.rewrite import (
    ALWAYS_FORWARD,
    RewriteOptions,
    forward_client_cert,
    forwarded_for,
    forwarded_proto,
    header_count,
    header_size,
    request_prefix,
    strip_listed,
    websocket_token,
)
from router.routing.balancing import Balancer
from router.routing.mirror import Mirror
from router.routing.pool import Endpoint, Pool
from router.wire.http1 import NO_BODY

_SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """Configuration of the pipeline; times in seconds, 0 is no limit."""

    rewrite: RewriteOptions
    health_user_agent: bytes
    max_attempts: int
    endpoint_timeout_s: float
    empty_pool_503: bool
    max_header_bytes: int
    max_headers: int


class Proxy:
    """What all exchanges of a worker share.

    Args:
        report_failed: tells control that a TLS endpoint was removed from the pool of a key.

    Attributes:
        healthy: what health checks by user agent are told.
        date_line: the Date header line of this second; the worker's timer renews it.
        active: exchanges that have begun and not finished.
    """

    def __init__(
        self,
        options: ProxyOptions,
        mirror: Mirror,
        balancer: Balancer,
        connections: Connections,
        access_log: AccessLog,
        counters: Counters,
        logger: Logger,
        report_failed: Callable[[str, int], None],
    ) -> None:
        self.options = options
        self.mirror = mirror
        self.balancer = balancer
        self.connections = connections
        self.access_log = access_log
        self.counters = counters
        self.healthy = False
        self.active: set[Exchange] = set()
        self.date_line = b""
        self._ids = RequestIds()
        self._logger = logger
        self._report_failed = report_failed
        self.renew_date()

    def new_request_id(self) -> bytes:
        return self._ids.next()

    def renew_date(self) -> None:
        self.date_line = b"Date: " + formatdate(usegmt=True).encode()

    # The steps before an endpoint is chosen.

    def begin(self, exchange: Exchange) -> None:
        """Take an exchange from its parsed head to a sent request, or to the router's own answer."""
        self.active.add(exchange)
        exchange.request_id = self._ids.next()
        refused = self._route(exchange)
        if refused is not None:
            exchange.answer(refused)
            return
        self._prepare(exchange)
        self._attempt(exchange)

    def _route(self, exchange: Exchange) -> reply.Reply | None:
        expect = exchange.head.special.get(b"expect")
        if expect is not None and expect.lower() != b"100-continue":
            return reply.refusal(417, b"417 Expectation Failed")
        refused = self._find_pool(exchange)
        if refused is not None:
            return refused
        pool = exchange.pool
        assert pool is not None
        if self.balancer.all_overloaded(pool):
            self.counters.backend_exhausted_conns += 1
            return reply.connection_limit(exchange.head.host)
        return self._check_size(exchange, pool)

    def _find_pool(self, exchange: Exchange) -> reply.Reply | None:
        head = exchange.head
        special = head.special
        if special.get(b"user-agent") == self.options.health_user_agent:
            return reply.health(self.healthy)
        host = head.host
        if not host or host.partition(b":")[0] in (b"", exchange.client.peer_ip):
            self.counters.rejected_requests += 1
            return reply.empty_host()
        pool = self.mirror.table.lookup(host, head.path)
        if pool is None:
            self.counters.rejected_requests += 1
            return reply.unknown_route(host)
        if not pool.endpoints:
            return self._empty_pool(host)
        options = pool.options
        if options.route_service_url:
            # The app is meant to be reached through a service that looks at requests first: never around it.
            return reply.route_services_disabled()
        if options.route_policy_scope:
            # The app wants only callers it has named, and no caller of a public listener has an identity yet.
            return reply.no_caller_identity()
        exchange.pool = pool
        return None

    def _check_size(self, exchange: Exchange, pool: Pool) -> reply.Reply | None:
        head = exchange.head
        options = self.options
        if (options.max_header_bytes and header_size(head) >= options.max_header_bytes) or (
            options.max_headers and header_count(head) > options.max_headers
        ):
            # Gorouter picks an endpoint only to have one for the log line.
            exchange.endpoint = self.balancer.choose(pool, None, exchange.started)
            return reply.request_too_large()
        return None

    def _empty_pool(self, host: bytes) -> reply.Reply:
        if self.options.empty_pool_503:
            return reply.no_endpoints(host)
        self.counters.rejected_requests += 1
        return reply.unknown_route(host)

    def _prepare(self, exchange: Exchange) -> None:
        head = exchange.head
        special = head.special
        options = self.options.rewrite
        if b"upgrade" in special:
            exchange.upgrade = websocket_token(head).lower()
        if b"connection" in special and special[b"connection"] != b"keep-alive":
            strip_listed(head, options)
        if options.client_cert != ALWAYS_FORWARD:
            forward_client_cert(head, options.client_cert, exchange.client.certificate_base64())
        exchange.forwarded_for = forwarded_for(head, exchange.client.peer_ip)
        exchange.forwarded_proto = forwarded_proto(head, exchange.client.secure, options)
        exchange.prefix = request_prefix(
            head,
            options,
            (exchange.forwarded_for, exchange.forwarded_proto),
            exchange.request_id,
            exchange.received_ns // 1_000_000,
            special[b"upgrade"] if exchange.upgrade else b"",
        )
        if head.framing == NO_BODY:
            exchange.repeatable = (
                head.method in _SAFE_METHODS
                or bool(special.get(b"idempotency-key"))
                or bool(special.get(b"x-idempotency-key"))
            )

    # Attempts.

    def _attempt(self, exchange: Exchange) -> None:
        pool = exchange.pool
        assert pool is not None
        now = monotonic()
        endpoint = self.balancer.choose(pool, exchange.tried, now)
        tried = exchange.tried
        if endpoint is None or (
            tried is not None and endpoint in tried and exchange.attempts >= len(pool.endpoints)
        ):
            self._give_up(exchange, exchange.last_failure or BackendFailure(NO_ENDPOINT, "No endpoints available"))
            return
        if exchange.attempts:
            exchange.redialled = False
            exchange.last_connection = None
        else:
            exchange.proxied_at = now
        exchange.attempts += 1
        exchange.endpoint = endpoint
        self.counters.total_requests += 1
        endpoint.in_flight += 1
        exchange.counted = True
        timeout_s = self.options.endpoint_timeout_s
        if timeout_s:
            # Gorouter: a WebSocket request may wait for its 101 for ever. Here only the tunnel has no end.
            exchange.deadline = now + timeout_s
        connection = self.connections.checkout(endpoint, exchange.repeatable)
        if connection is not None:
            self._send(exchange, connection)
        else:
            self._dial(exchange, endpoint)

    def _dial(self, exchange: Exchange, endpoint: Endpoint) -> None:
        def connected(connection: BackendConnection) -> None:
            exchange.dialling = None
            if exchange.finished or exchange.endpoint is not endpoint:
                connection.close()
            else:
                self._send(exchange, connection)

        def failed(failure: BackendFailure) -> None:
            exchange.dialling = None
            if not exchange.finished:
                self.attempt_failed(exchange, failure)

        exchange.dialling = self.connections.dial(endpoint, connected, failed)

    def _send(self, exchange: Exchange, connection: BackendConnection) -> None:
        endpoint = exchange.endpoint
        assert endpoint is not None
        exchange.connection = exchange.last_connection = connection
        connection.send_request(exchange, exchange.prefix + endpoint.identity + b"\r\n")
        if not exchange.request_complete:
            exchange.client.accept_body()

    # What follows from failures.

    def attempt_failed(self, exchange: Exchange, failure: BackendFailure) -> None:
        """An attempt ended without a response head: redial, retry, or answer with the failure."""
        endpoint = exchange.endpoint
        assert endpoint is not None
        if _was_reused(exchange) and exchange.repeatable and not exchange.redialled:
            # The backend closed an idle connection just as it was used: no fault of the endpoint, and no attempt.
            exchange.redialled = True
            self._dial(exchange, endpoint)
            return
        exchange.uncount()
        self.log_failure(exchange, failure)
        self._punish(exchange, endpoint, failure)
        exchange.last_failure = failure
        if exchange.tried is None:
            exchange.tried = []
        exchange.tried.append(endpoint)
        retry = failure.kind.retry
        allowed = retry == ALWAYS or (retry == IF_IDEMPOTENT and exchange.repeatable)
        if allowed and not exchange.body_sent and exchange.attempts < self.options.max_attempts:
            self.counters.retries += 1
            if not exchange.request_complete:
                exchange.client.hold_body()
            self._attempt(exchange)
        else:
            self._give_up(exchange, failure)

    def attempt_timed_out(self, exchange: Exchange, failure: BackendFailure) -> None:
        """``endpoint_timeout`` ran out before a response head came."""
        task, exchange.dialling = exchange.dialling, None
        if task is not None:
            task.cancel()
            assert exchange.endpoint is not None
            failure = connect_timed_out(exchange.endpoint.address)
        connection, exchange.connection = exchange.connection, None
        if connection is not None:
            connection.discard()
        exchange.redialled = True
        self.attempt_failed(exchange, failure)

    def _punish(self, exchange: Exchange, endpoint: Endpoint, failure: BackendFailure) -> None:
        effect = failure.kind.tls if endpoint.record.tls else failure.kind.plain
        pool = exchange.pool
        if effect == MARK:
            endpoint.failed_at = monotonic()
            self._logger.debug("endpoint-marked-as-ineligible", backend=endpoint.address)
        elif effect == REMOVE and pool is not None:
            self._remove(pool, endpoint)

    def _remove(self, pool: Pool, endpoint: Endpoint) -> None:
        self.mirror.remove_failed(pool, endpoint)
        self._report_failed(pool.key, endpoint.endpoint_id)
        self._logger.info("prune-failed-endpoint", uri=pool.key, backend=endpoint.address)

    def _give_up(self, exchange: Exchange, failure: BackendFailure) -> None:
        self.counters.add(failure.kind.counter)
        if exchange.upgrade:
            self.counters.websocket_failures += 1
        exchange.answer(reply.backend_failure(failure))

    def log_failure(self, exchange: Exchange, failure: BackendFailure) -> None:
        """Say why an attempt failed; operators look for this line."""
        endpoint = exchange.endpoint
        connection = exchange.last_connection
        self._logger.error(
            "backend-endpoint-failed",
            error=failure.text,
            failure=failure.kind.name,
            retriable=failure.kind.retry != 0,
            attempt=exchange.attempts,
            vcap_request_id=exchange.request_id.decode(),
            host=exchange.head.host.decode("latin-1"),
            backend=endpoint.address if endpoint else "",
            application_id=endpoint.record.app if endpoint else "",
            instance_id=endpoint.record.instance_id if endpoint else "",
            **{
                "num-endpoints": len(exchange.pool.endpoints) if exchange.pool else 0,
                "got-connection": connection is not None,
                "conn-reused": connection is not None and connection.reused,
            },
        )

    # The end.

    def panicked(self, exchange: Exchange, error: Exception) -> None:
        """The router itself failed: this request gets a 502, the process lives on (GOROUTER.md §1.7)."""
        stack = "".join(traceback.format_exception(error))
        self._logger.error("panic-check", host=exchange.head.host.decode("latin-1"), error=str(error), stack=stack)
        if not exchange.finished:
            exchange.break_off(reply.unknown_failure())

    def finished(self, exchange: Exchange) -> None:
        """Count and log an exchange; called by `Exchange.finish` alone."""
        self.active.discard(exchange)
        counters = self.counters
        counters.requests += 1
        if exchange.endpoint is not None:
            digit = exchange.status // 100
            counters.responses[digit if 2 <= digit <= 5 else 0] += 1
        if b";" in exchange.head.path:
            self._note_semicolon(exchange)
        self.access_log.log(exchange)

    def _note_semicolon(self, exchange: Exchange) -> None:
        """Go stopped taking ``;`` for a separator of parameters; Gorouter marks such requests in its logs."""
        exchange.router_error = exchange.router_error or b"deprecated-semicolon-params"
        self._logger.warn("deprecated-semicolon-params", vcap_request_id=exchange.request_id.decode())


def _was_reused(exchange: Exchange) -> bool:
    connection = exchange.last_connection
    return connection is not None and connection.reused and not connection.got_bytes
