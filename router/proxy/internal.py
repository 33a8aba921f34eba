"""Requests from containers to internal names: who may reach what is decided here, again for every request.

Owns the look-up of internal names, the endpoints they lead to, and the end of exchanges whose permission is taken
back. Everything else is the public proxy's. One law: the decision and the choice of an endpoint happen in one
synchronous step, on the table as it is at that moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, NamedTuple

from router.backend.connections import Carrier
from router.proxy import reply
from router.proxy.caller import Certificate, UnknownCaller, forget_claims, identify
from router.proxy.exchange import Exchange
from router.proxy.forward import Proxy
from router.routing.access import TCP, InternalTable
from router.routing.internal_records import Identity
from router.routing.pool import Endpoint, Pool
from router.routing.records import EndpointRecord, PoolOptions

_OPTIONS = PoolOptions()
_REMEMBERED = 20_000
"""Decisions, and pools."""
_AUDIT_LINES_PER_SECOND = 20


@dataclass(frozen=True, slots=True)
class Domain:
    """An internal domain, as far as requests are concerned."""

    suffix: str
    """With a leading dot, lower-case."""
    identity: str
    """How callers are identified: a mode of `proxy.caller`."""


_Container = tuple[str, int, str, str]
"""Address, generation, app and instance, since not every agent counts generations."""


class _Allowed(NamedTuple):
    """A decision to let a request through, made without a certificate, which alone could expire."""

    pool: Pool
    caller: Identity
    name: str


class InternalProxy(Proxy):
    """The proxy behind the internal listeners.

    Endpoints and pools are made from the table when they are first asked for, and forgotten with its next change:
    a pool holds the instances of one name that one app may reach when it dials one port. Until then the same
    question gets the same answer.
    """

    def __init__(self, public: Proxy, domains: Sequence[Domain], **parts: Any) -> None:
        super().__init__(**parts)
        # One set for both, because the sweep, the drain and the end do not ask where an exchange came from.
        self.active = public.active
        # The most specific one first: it is the one whose demands count.
        self._inside = tuple(sorted(domains, key=lambda domain: -len(domain.suffix)))
        self._version = -1
        self._pools: dict[tuple[str, str, int], Pool | None] = {}
        self._allowed: dict[tuple[bytes, bytes, int], _Allowed] = {}
        """By host as sent, peer's address and dialled port."""
        self._caller_lines: dict[str, bytes] = {}
        """What endpoints are told of callers, by address."""
        self._endpoints: dict[tuple[_Container, int], Endpoint] = {}
        self._audit = self._logger.child("audit")
        self._audit_second = 0
        self._audit_lines = 0

    # Finding the endpoints.

    def _find_pool(self, exchange: Exchange) -> reply.Reply | None:
        table = self.mirror.internal
        client = exchange.client
        certificate = client.presented().certificate
        if certificate is None and table.version == self._version:
            known = self._allowed.get((exchange.head.host, client.peer_ip, client.listener_port))
            if known is not None:
                exchange.pool, exchange.caller, exchange.internal_name = known
                return None
        return self._decide(exchange, table, certificate)

    def _decide(
        self, exchange: Exchange, table: InternalTable, certificate: Certificate | None
    ) -> reply.Reply | None:
        host = exchange.head.host
        name = host.partition(b":")[0].decode("latin-1").lower().removesuffix(".")
        if not table.policies_ready or not table.names_warm:
            return self._deny(exchange, name, None, "not-ready")
        domain = self._domain(name)
        if domain is None:
            return self._deny(exchange, name, None, "not-internal")
        client = exchange.client
        try:
            caller = identify(table, domain.identity, client.peer_ip.decode(), certificate, time())
        except UnknownCaller as unknown:
            return self._deny(exchange, name, None, str(unknown))
        pool = self._pool(table, name, caller, client.listener_port)
        if pool is None:
            return self._deny(exchange, name, caller, "no-policy")
        exchange.pool = pool
        exchange.caller = caller
        exchange.internal_name = name
        if certificate is None:
            if len(self._allowed) >= _REMEMBERED:
                self._allowed.clear()
            self._allowed[host, client.peer_ip, client.listener_port] = _Allowed(pool, caller, name)
        return None

    def _admit(self, exchange: Exchange, pool: Pool) -> reply.Reply | None:
        """Nothing more is asked: what may be demanded of callers on public routes is decided otherwise here."""
        return None

    def _domain(self, name: str) -> Domain | None:
        for domain in self._inside:
            if name.endswith(domain.suffix):
                return domain
        return None

    def _pool(self, table: InternalTable, name: str, caller: Identity, port: int) -> Pool | None:
        if table.version != self._version:
            self._forget(table)
        key = (name, caller.app, port)
        if key in self._pools:
            return self._pools[key]
        pool: Pool | None = None
        targets = table.reachable(name, caller, port)
        if targets:
            pool = Pool(name, "/", _OPTIONS)
            pool.endpoints = [self._endpoint(identity, chosen) for identity, chosen in targets]
        if len(self._pools) >= _REMEMBERED:
            self._pools.clear()
        self._pools[key] = pool
        return pool

    def _endpoint(self, identity: Identity, port: int) -> Endpoint:
        key = (_container(identity), port)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            record = EndpointRecord(
                host=identity.ip,
                port=port,
                app=identity.app,
                instance_id=identity.instance,
                instance_index=identity.index,
            )
            endpoint = self._endpoints[key] = Endpoint(0, record)
        return endpoint

    def _forget(self, table: InternalTable) -> None:
        """The table has changed: pools are made anew, and endpoints of workloads that are gone end here."""
        self._version = table.version
        self._pools.clear()
        self._allowed.clear()
        self._caller_lines.clear()
        for key in list(self._endpoints):
            container, _ = key
            identity = table.identities.get(container[0])
            if identity is None or _container(identity) != container:
                endpoint = self._endpoints.pop(key)
                endpoint.gone = True
                self.connections.endpoint_gone(endpoint)

    # What the endpoint gets to see.

    def _prepare(self, exchange: Exchange) -> None:
        forget_claims(exchange.head, exchange.client.presented().base64)
        super()._prepare(exchange)
        caller = exchange.caller
        assert caller is not None
        lines = self._caller_lines.get(caller.ip)
        if lines is None:
            lines = self._caller_lines[caller.ip] = _caller_lines(caller)
        exchange.prefix += lines

    def _send(self, exchange: Exchange, connection: Carrier) -> None:
        # The first attempt over an idle connection follows the decision at once; dialling and retrying take time.
        if (exchange.attempts > 1 or not connection.reused) and not self._is_still_allowed(exchange):
            connection.close()
            self._revoke(exchange)
        else:
            super()._send(exchange, connection)

    # Taking permission back.

    def revise(self) -> None:
        """The table has changed: end every exchange, tunnels included, that would not be allowed now."""
        self._forget(self.mirror.internal)
        for exchange in list(self.active):
            if exchange.caller is not None and not exchange.finished and not self._is_still_allowed(exchange):
                self._revoke(exchange)

    def _is_still_allowed(self, exchange: Exchange) -> bool:
        table = self.mirror.internal
        if table.version != self._version:
            self._forget(table)
        return _still_allowed(table, exchange)

    def _revoke(self, exchange: Exchange) -> None:
        self.counters.internal_revocations += 1
        self._log("internal-request-revoked", exchange, exchange.internal_name, exchange.caller, "revoked")
        exchange.break_off(reply.policy_denied(exchange.head.host, close=True))

    # Saying no.

    def _deny(self, exchange: Exchange, name: str, caller: Identity | None, reason: str) -> reply.Reply:
        """An unknown name gets the same answer as a forbidden one: whether it exists is nobody's business."""
        counters = self.counters
        counters.internal_denials += 1
        counters.internal_denied[reason] = counters.internal_denied.get(reason, 0) + 1
        self._log("internal-request-denied", exchange, name, caller, reason)
        if reason == "not-ready":
            return reply.policies_not_ready()
        return reply.policy_denied(exchange.head.host, close=caller is None)

    def _log(self, event: str, exchange: Exchange, name: str, caller: Identity | None, reason: str) -> None:
        second = int(monotonic())
        if second != self._audit_second:
            self._audit_second, self._audit_lines = second, 0
        self._audit_lines += 1
        if self._audit_lines > _AUDIT_LINES_PER_SECOND:
            return
        self._audit.warn(
            event,
            reason=reason,
            name=name,
            source=exchange.client.peer.decode(),
            port=exchange.client.listener_port,
            caller_app=caller.app if caller else "",
            caller_instance=caller.instance if caller else "",
            vcap_request_id=exchange.request_id.decode(),
            more_may_be_left_out=self._audit_lines == _AUDIT_LINES_PER_SECOND,
        )


def _caller_lines(caller: Identity) -> bytes:
    return (
        f"X-Cf-Caller-App: {caller.app}\r\n"
        f"X-Cf-Caller-Space: {caller.space}\r\n"
        f"X-Cf-Caller-Org: {caller.organization}\r\n"
        f"X-Cf-Caller-Instance: {caller.instance}\r\n"
    ).encode()


def _container(identity: Identity) -> _Container:
    return identity.ip, identity.generation, identity.app, identity.instance


def _still_allowed(table: InternalTable, exchange: Exchange) -> bool:
    caller, endpoint = exchange.caller, exchange.endpoint
    assert caller is not None
    if table.identities.get(caller.ip) != caller:
        return False
    if endpoint is None:
        return True
    if endpoint.gone:
        return False
    record = endpoint.record
    return any(
        identity.ip == record.host and table.allows(caller.app, identity.app, TCP, record.port)
        for _, identity in table.instances(exchange.internal_name)
    )
