"""The way of a request through the router: the ordered steps from its head to its first attempt, and its end.

Owns the order of decisions (GOROUTER.md §5.2); the steps themselves live beside it, and what follows from an
endpoint's answer or failure is `proxy.attempts`'. What is not configured is None here and costs one comparison.
"""

import traceback
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache
from time import monotonic, time

from router.backend.connections import Connections
from router.log import Logger
from router.metrics import Counters
from router.proxy import grpc, reply
from router.proxy.access_log import AccessLog
from router.proxy.attempts import Attempts, Neighbours, ProxyOptions
from router.proxy.error_page import ErrorPage, TemplateError
from router.proxy.exchange import Exchange
from router.proxy.features import Features
from router.proxy.instances import instance_pool
from router.proxy.mtls import Domains, misdirected
from router.proxy.request_id import RequestIds
from router.proxy.response_rules import ResponseRules
from router.proxy.rewrite import (
    ALWAYS_FORWARD,
    FORWARD,
    forward_client_cert,
    forwarded_for,
    forwarded_proto,
    header_count,
    header_size,
    request_prefix,
    strip_listed,
    websocket_token,
)
from router.proxy.sticky import COOKIE as VCAP_ID
from router.proxy.sticky import Sticky
from router.proxy.tracing import Tracing
from router.routing.balancing import Balancer
from router.routing.mirror import Mirror
from router.routing.pool import Pool
from router.routing.records import PLAIN
from router.wire.header_lines import line_name
from router.wire.http1 import NO_BODY, RequestHead, ResponseHead, first_value

_SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
_SIGNATURE = b"x-cf-proxy-signature"


class Proxy(Attempts):
    """What all exchanges of a worker share.

    Attributes:
        healthy: what health checks by user agent are told.
        date_line: the Date header line of this second; the worker's timer renews it.
        active: exchanges that have begun and not finished.
        dresses: responses get more than the fields that every response gets.
        dresses_replies: the router's own answers do.
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
        neighbours: Neighbours,
        features: Features,
    ) -> None:
        super().__init__(
            options, mirror, balancer, connections, counters, logger, report_failed, neighbours, features.observers
        )
        self.access_log = access_log
        self.healthy = False
        self.active: set[Exchange] = set()
        self.date_line = b""
        self._ids = RequestIds()
        self._services = features.services
        self._tracing = features.tracing
        self._sticky = features.sticky
        self._domains = features.domains
        self._rules = features.response_rules
        self._error_page = features.error_page
        self._trace_key = features.trace_key
        self._router_ip = features.router_ip
        self.dresses = self._rules is not None or bool(self._trace_key) or features.negotiates
        self._grpc_status = features.grpc_status
        self.dresses_replies = self._grpc_status or self._rules is not None or self._error_page is not None
        self.renew_date()

    def new_request_id(self) -> bytes:
        return self._ids.next()

    def renew_date(self) -> None:
        self.date_line = b"Date: " + formatdate(usegmt=True).encode()

    # The steps before an endpoint is chosen.

    def begin(self, exchange: Exchange) -> None:
        """Take an exchange from its parsed head to a sent request, or to the router's own answer."""
        self.active.add(exchange)
        if self._tracing is None:
            exchange.request_id = self._ids.next()
        else:
            self._trace(self._tracing, exchange)
        refused = self._route(exchange)
        if refused is not None:
            exchange.answer(refused)
            return
        self._prepare(exchange)
        self.attempt(exchange)

    def _trace(self, tracing: Tracing, exchange: Exchange) -> None:
        head = exchange.head = exchange.head.copy()
        traced = tracing.begin(head.lines)
        head.lines = traced.lines
        exchange.request_id = traced.request_id
        exchange.trace_id = traced.trace_id
        exchange.span_id = traced.span_id

    def _route(self, exchange: Exchange) -> reply.Reply | None:
        head = exchange.head
        refused = self._find_pool(exchange)
        if refused is not None:
            return refused
        pool = exchange.pool
        assert pool is not None
        if self.balancer.all_overloaded(pool.endpoints):
            self.counters.backend_exhausted_conns += 1
            self.log.connection_limit(exchange)
            return reply.connection_limit(head.host)
        refused = self._check_size(exchange, pool)
        if refused is not None:
            return refused
        if pool.options is not PLAIN or self._domains is not None or (head.rare and _SIGNATURE in head.special):
            return self._admit(exchange, pool)
        exchange.plain = not head.rare
        return None

    def _find_pool(self, exchange: Exchange) -> reply.Reply | None:
        head = exchange.head
        special = head.special
        if special.get(b"user-agent") == self.options.health_user_agent:
            return reply.health(self.healthy)
        host = head.host
        if not host or host == exchange.client.peer_ip or (b":" in host and _names_nobody(host, exchange)):
            self.counters.rejected_requests += 1
            return reply.empty_host()
        pool: Pool | None
        if self.observers:
            started = monotonic()
            pool = self.mirror.table.lookup(host, head.path)
            exchange.lookup_s = monotonic() - started
        else:
            pool = self.mirror.table.lookup(host, head.path)
        if head.rare and (b"x-cf-app-instance" in special or b"x-cf-process-instance" in special):
            chosen = instance_pool(pool, head)
            if isinstance(chosen, reply.Reply):
                self.counters.rejected_requests += 1
                return chosen
            pool = chosen
        if pool is None:
            self.counters.rejected_requests += 1
            return reply.unknown_route(host)
        if not pool.endpoints:
            return self._empty_pool(host)
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

    def _admit(self, exchange: Exchange, pool: Pool) -> reply.Reply | None:
        """See to what the route demands: a certificate and an identity of whoever calls, a route service."""
        options = pool.options
        if self._domains is not None:
            refused = self._check_domain(self._domains, exchange)
            if refused is not None:
                return refused
        if options.route_policy_scope and exchange.app_caller is None:
            return reply.no_caller_identity()
        if options.route_service_url or _SIGNATURE in exchange.head.special:
            refused = self._services.decide(exchange, pool)
            if refused is not None:
                return refused
        if options.hash_header:
            exchange.hash_key = first_value(exchange.head, _field_name(options.hash_header))
        return None

    def _check_domain(self, domains: Domains, exchange: Exchange) -> reply.Reply | None:
        presented = exchange.client.presented()
        domain = domains.match(exchange.head.host)
        if misdirected(domain, presented.domain):
            return reply.misdirected()
        if domain is not None:
            exchange.domain = domain
            exchange.app_caller = presented.caller
        return None

    def _prepare(self, exchange: Exchange) -> None:
        head = exchange.head
        special = head.special
        options = self.options.rewrite
        if head.rare:
            self._prepare_rare(exchange, head)
            special = head.special
        plain = exchange.plain
        if options.client_cert != ALWAYS_FORWARD or (not plain and exchange.domain is not None):
            self._forward_client_cert(exchange, head)
        exchange.forwarded_for = forwarded_for(head, exchange.client.peer_ip)
        if not plain and exchange.from_service:
            exchange.forwarded_proto = special.get(b"x-forwarded-proto", b"")
        else:
            exchange.forwarded_proto = forwarded_proto(head, exchange.client.secure, options)
        service = None if plain else exchange.service
        exchange.prefix = request_prefix(
            head if service is None else service.head(head),
            options,
            (exchange.forwarded_for, exchange.forwarded_proto),
            exchange.request_id,
            exchange.received_ns // 1_000_000,
            b"" if plain or not exchange.upgrade else special[b"upgrade"],
        )
        if head.framing == NO_BODY:
            exchange.repeatable = (
                head.method in _SAFE_METHODS
                or bool(special.get(b"idempotency-key"))
                or bool(special.get(b"x-idempotency-key"))
            )

    def _prepare_rare(self, exchange: Exchange, head: RequestHead) -> None:
        """See to what few requests have: an upgrade, fields for this hop alone, the cookie of a sticky session."""
        special = head.special
        if b"upgrade" in special:
            exchange.upgrade = websocket_token(head).lower()
        if special.get(b"connection", b"keep-alive") != b"keep-alive":
            strip_listed(head, self.options.rewrite)
            special = head.special
        if VCAP_ID in special.get(b"cookie", b"") and self._sticky is not None and exchange.service is None:
            exchange.wanted, exchange.must_stick = self._sticky.wanted(
                special[b"cookie"], special.get(b"authorization", b"")
            )

    def _forward_client_cert(self, exchange: Exchange, head: RequestHead) -> None:
        """Believe X-Forwarded-Client-Cert as far as the mode says; what a route service relays has passed here
        before (GOROUTER.md §7.6)."""
        client, domain, domains = exchange.client, exchange.domain, self._domains
        if domain is not None and domains is not None:
            der = client.presented().der
            forward_client_cert(head, domain.client_cert, domains.forwarded_value(domain, der) if der else b"")
            return
        mode, pool = self.options.rewrite.client_cert, exchange.pool
        if not exchange.from_service or not client.secure:
            forward_client_cert(head, mode, client.presented().base64)
        elif mode == FORWARD and pool is not None and pool.options.route_service_url:
            forward_client_cert(head, mode, b"")

    # Responses.

    def dress(self, exchange: Exchange, head: ResponseHead, lines: list[bytes]) -> list[bytes]:
        """Return the lines of a proxied response with cookies, trace fields and rewriting applied."""
        if exchange.service is not None:
            self._services.note_response(exchange)
        self.adorn(exchange, head, lines)
        return lines if self._rules is None else self._rewritten(self._rules, lines)

    def adorn(self, exchange: Exchange, head: ResponseHead, lines: list[bytes]) -> None:
        """Add cookies and trace fields to the lines of a proxied response; a 101 is not rewritten beyond this."""
        endpoint = exchange.endpoint
        if exchange.service is None and self._sticky is not None and endpoint is not None:
            self._stick(self._sticky, exchange, head, lines)
        if self._trace_key and exchange.head.special.get(b"x-vcap-trace") == self._trace_key:
            address = endpoint.address.encode() if endpoint is not None else b""
            lines.append(b"X-Vcap-Router: " + self._router_ip)
            lines.append(b"X-Vcap-Backend: " + address)
            lines.append(b"X-Cf-Routeendpoint: " + address)

    def _rewritten(self, rules: ResponseRules, lines: list[bytes]) -> list[bytes]:
        lines = rules.apply(lines)
        if all(line_name(line) != b"date" for line in lines):
            # A server with a clock sends it (RFC 9110 §6.6.1), whatever becomes of the one an app sent.
            lines.append(self.date_line)
        return lines

    def _stick(self, sticky: Sticky, exchange: Exchange, head: ResponseHead, lines: list[bytes]) -> None:
        pool, endpoint = exchange.pool, exchange.endpoint
        assert pool is not None
        assert endpoint is not None
        lines += sticky.set_cookies(
            head.lines,
            exchange.head.special.get(b"cookie", b""),
            head.special.get(b"www-authenticate", b""),
            exchange.wanted,
            endpoint.record.instance_id.encode(),
            pool.context_path,
            time(),
        )

    def dress_reply(self, exchange: Exchange, answer: reply.Reply) -> reply.Reply:
        """Return the router's own answer as it is sent: in gRPC's terms or as a page, and rewritten, as wanted."""
        if self._grpc_status and answer.status >= 400 and grpc.is_call(exchange.head):
            answer = grpc.as_trailers_only(answer)
        if self._error_page is not None and answer.message:
            answer = self._as_page(self._error_page, answer)
        if self._rules is not None:
            answer = replace(answer, lines=self._rules.apply(answer.lines))
        return answer

    def _as_page(self, page: ErrorPage, answer: reply.Reply) -> reply.Reply:
        try:
            body = page.render(answer.status, reply.reason(answer.status), answer.message, answer.lines)
        except TemplateError as error:
            self._logger.error("error-page-failed", error=str(error), status=answer.status)
            return replace(answer, body=answer.body.removesuffix(b"\n"))
        return reply.as_page(answer, body)

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
        if self.observers:
            now = monotonic()
            for observer in self.observers:
                observer.finished(exchange, now)

    def _note_semicolon(self, exchange: Exchange) -> None:
        """Go stopped taking ``;`` for a separator of parameters; Gorouter marks such requests in its logs."""
        exchange.router_error = exchange.router_error or b"deprecated-semicolon-params"
        self._logger.warn("deprecated-semicolon-params", vcap_request_id=exchange.request_id.decode())


@lru_cache(maxsize=1024)
def _field_name(text: str) -> bytes:
    """Return the name of a field as heads have it."""
    return text.lower().encode()


def _names_nobody(host: bytes, exchange: Exchange) -> bool:
    """Whether a Host with a port has no name, or the client's own address for one."""
    return host.partition(b":")[0] in (b"", exchange.client.peer_ip)
