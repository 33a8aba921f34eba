"""The attempts of an exchange: choosing an endpoint, dialling, sending, and what follows from failures.

Owns the attempt loop (GOROUTER.md §6.5) and what failures do to endpoints (§6.4); the steps before it are
`proxy.forward`'s. One law: with an idle connection at hand an attempt is one synchronous call, without a task or a
timer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from router.backend.connections import Carrier, Connections
from router.backend.dial import connect_timed_out
from router.backend.failure import (
    ALWAYS,
    IF_IDEMPOTENT,
    MARK,
    NO_ENDPOINT,
    REFUSED,
    REMOVE,
    BackendFailure,
)
from router.log import Logger
from router.metrics import Counters
from router.proxy import reply
from router.proxy.attempt_log import AttemptLog
from router.proxy.exchange import Exchange
from router.proxy.observer import Observer
from router.proxy.rewrite import RewriteOptions
from router.routing.balancing import Balancer
from router.routing.board import Board
from router.routing.mirror import Mirror
from router.routing.pool import Endpoint, Pool
from router.routing.route_policy import refusal
from router.wire.http1 import CHUNKED

_MOST_REFUSALS = 5
"""A backend that closes connections often may refuse a request several times in a row, a full one always will."""


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
    tunnel_idle_s: float = 0.0


def _tell_nobody(endpoint_id: int) -> None:
    """There is no other worker."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What a worker shares with the others of its router.

    Attributes:
        report_marked: tells the other workers of an endpoint that could not be connected to.
        board: turns and counts that all workers share; None if there are no others.
    """

    report_marked: Callable[[int], None] = _tell_nobody
    board: Board | None = None


ALONE = Neighbours()


CONTINUE_S = 1.0
"""How long a backend may take to answer an expectation (GOROUTER.md §5.9); then the client is told to go on."""


class Attempts:
    """The part of the proxy that deals with endpoints.

    Args:
        report_failed: tells control that a TLS endpoint was removed from the pool of a key.
    """

    def __init__(
        self,
        options: ProxyOptions,
        mirror: Mirror,
        balancer: Balancer,
        connections: Connections,
        counters: Counters,
        logger: Logger,
        report_failed: Callable[[str, int], None],
        neighbours: Neighbours,
        observers: tuple[Observer, ...],
    ) -> None:
        self.options = options
        self.mirror = mirror
        self.balancer = balancer
        self.connections = connections
        self.counters = counters
        self.observers = observers
        self._logger = logger
        self.log = AttemptLog(logger)
        self.board = neighbours.board
        self._report_failed = report_failed
        self._report_marked = neighbours.report_marked

    def attempt(self, exchange: Exchange) -> None:
        """Choose an endpoint and send the request to it, now or as soon as there is a connection."""
        now = monotonic()
        pool, plain = exchange.pool, exchange.plain
        assert pool is not None
        service = None if plain else exchange.service
        if plain and exchange.tried is None:
            endpoint = self.balancer.choose(pool, None, now)
        else:
            endpoint = self._choose(exchange, pool, now)
        if endpoint is None:
            self._without_endpoint(exchange, pool)
            return
        if exchange.attempts:
            exchange.redialled = False
            exchange.refusals = 0
            exchange.last_connection = None
        else:
            exchange.proxied_at = now
        exchange.attempts += 1
        exchange.attempt_at = now
        exchange.endpoint = endpoint
        if not plain and service is None and not self._admits(exchange, endpoint):
            exchange.answer(reply.caller_refused())
            return
        self.counters.total_requests += 1
        endpoint.in_flight += 1
        if self.board is not None:
            self.board.enter(endpoint.endpoint_id)
        exchange.counted = True
        timeout_s = exchange.timeout_s
        if timeout_s < 0:
            timeout_s = self.options.endpoint_timeout_s
        if timeout_s:
            # Gorouter: a WebSocket request may wait for its 101 for ever. Here only the tunnel has no end.
            exchange.deadline = now + timeout_s
        connections = self.connections if service is None else service.connections
        connection = connections.checkout(endpoint, exchange.repeatable, exchange.upgrade)
        if connection is not None:
            self._send(exchange, connection)
        else:
            self._dial(exchange, endpoint)

    def _choose(self, exchange: Exchange, pool: Pool, now: float) -> Endpoint | None:
        if exchange.service is not None:
            return exchange.service.endpoint
        if exchange.wanted and (exchange.must_stick or not exchange.attempts):
            endpoint = self.balancer.by_instance(pool, exchange.wanted)
            if endpoint is not None or exchange.must_stick:
                return endpoint
        tried = exchange.tried
        endpoint = self.balancer.choose(pool, tried, now, exchange.hash_key)
        if tried is not None and endpoint in tried and exchange.attempts >= len(pool.endpoints):
            return None
        return endpoint

    def _without_endpoint(self, exchange: Exchange, pool: Pool) -> None:
        failure = exchange.last_failure
        if failure is None and not exchange.must_stick and self.balancer.all_overloaded(pool.candidates()):
            # What is free has the weight 0, and is kept for requests that name it.
            self.counters.backend_exhausted_conns += 1
            self.log.connection_limit(exchange)
            exchange.answer(reply.connection_limit(exchange.head.host))
            return
        unavailable = BackendFailure(NO_ENDPOINT, "No endpoints available")
        if failure is None or not pool.endpoints:
            self.log.no_endpoint(exchange, unavailable)
        self._give_up(exchange, failure or unavailable)

    def _admits(self, exchange: Exchange, endpoint: Endpoint) -> bool:
        """Whether the route's policy lets this caller reach this instance (GOROUTER.md §9.5)."""
        pool, caller = exchange.pool, exchange.app_caller
        if caller is None:
            return True
        assert pool is not None
        refused = refusal(pool.options, caller, endpoint.tags)
        if refused is None:
            return True
        self._logger.info("route-policy-denied", uri=pool.key, caller_app=caller.app, reason=refused)
        return False

    def _dial(self, exchange: Exchange, endpoint: Endpoint) -> None:
        def connected(connection: Carrier) -> None:
            exchange.dialling = None
            if exchange.finished or exchange.endpoint is not endpoint:
                connection.close()
            else:
                self._send(exchange, connection)

        def failed(failure: BackendFailure) -> None:
            exchange.dialling = None
            if not exchange.finished:
                self.attempt_failed(exchange, failure)

        service = exchange.service
        connections = self.connections if service is None else service.connections
        exchange.dialling = connections.dial(endpoint, connected, failed, exchange.upgrade)

    def _send(self, exchange: Exchange, connection: Carrier) -> None:
        endpoint = exchange.endpoint
        assert endpoint is not None
        before = exchange.last_connection
        exchange.connection = exchange.last_connection = connection
        connection.send_request(exchange, exchange.prefix + endpoint.identity + b"\r\n")
        if exchange.body_sent and before is not None:
            _send_again(exchange, before, connection)
        if not exchange.request_complete:
            if exchange.head.rare and b"expect" in exchange.head.special and exchange.head.minor:
                exchange.invite_at = monotonic() + CONTINUE_S
            exchange.client.accept_body()

    # What follows from failures.

    def attempt_failed(self, exchange: Exchange, failure: BackendFailure) -> None:
        """An attempt ended without a response head: redial, retry, or answer with the failure."""
        endpoint = exchange.endpoint
        assert endpoint is not None
        if _is_unseen(exchange, failure):
            if not exchange.request_complete:
                exchange.client.hold_body()
            self._dial(exchange, endpoint)
            return
        exchange.uncount()
        retriable = _is_retriable(exchange, failure)
        self.log.failed(exchange, failure, retriable)
        if exchange.service is None:
            self._punish(exchange, endpoint, failure)
        self._note_failure(exchange, endpoint, failure)
        if retriable and exchange.attempts < self._max_attempts(exchange):
            self.counters.retries += 1
            if not exchange.request_complete:
                exchange.client.hold_body()
            self.attempt(exchange)
        else:
            self._give_up(exchange, failure)

    def _max_attempts(self, exchange: Exchange) -> int:
        service = exchange.service
        return self.options.max_attempts if service is None else service.max_attempts

    def _note_failure(self, exchange: Exchange, endpoint: Endpoint, failure: BackendFailure) -> None:
        now = monotonic()
        exchange.last_failure = failure
        exchange.failed_attempts += 1
        exchange.failed_s += now - exchange.attempt_at
        if exchange.tried is None:
            exchange.tried = []
        exchange.tried.append(endpoint)
        for observer in self.observers:
            observer.attempted(exchange, True, now)

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
        if effect == MARK and pool is not None and pool.part_of is None:
            endpoint.failed_at = monotonic()
            self._report_marked(endpoint.endpoint_id)
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


def _is_retriable(exchange: Exchange, failure: BackendFailure) -> bool:
    retry = failure.kind.retry
    return not exchange.body_sent and (retry == ALWAYS or (retry == IF_IDEMPOTENT and exchange.repeatable))


def _is_unseen(exchange: Exchange, failure: BackendFailure) -> bool:
    """Whether the backend has closed an idle connection just as it was used, or says itself that it has not looked
    at the request, which may be sent once more: no fault of the endpoint, and no attempt."""
    connection = exchange.last_connection
    if connection is None:
        return False
    if failure.kind is REFUSED:
        exchange.refusals += 1
        return exchange.refusals <= _MOST_REFUSALS and (not exchange.body_sent or connection.record is not None)
    if exchange.redialled:
        return False
    exchange.redialled = exchange.repeatable and connection.reused and not connection.got_bytes
    return exchange.redialled


def _send_again(exchange: Exchange, before: Carrier, now: Carrier) -> None:
    """Send what was sent of the body on a connection whose backend has not looked at it."""
    chunked = exchange.head.framing == CHUNKED
    for piece in before.record or ():
        now.send_body(piece, chunked)
    if exchange.request_complete:
        now.send_end(before.trailers_sent, chunked)
