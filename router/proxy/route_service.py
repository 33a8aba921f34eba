"""Route services: which requests go to a service first, and which come back from one (GOROUTER.md §7).

Owns the decision, the signatures on the way out and their judgement on the way back; does not own the attempts,
which are `proxy.forward`'s, nor the formats, which are `wire.signature`'s. One law: an app that has a service is
never reached around it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from os import urandom
from time import time_ns
from typing import Any
from urllib.parse import quote as percent_encode

from router.backend.connections import Connections
from router.log import Logger
from router.proxy import reply
from router.proxy.exchange import Exchange
from router.proxy.hairpin import HairpinConnections
from router.proxy.rewrite import websocket_token
from router.routing.pool import Endpoint, Pool
from router.routing.records import EndpointRecord
from router.wire.header_lines import line_name
from router.wire.http1 import RequestHead
from router.wire.signature import NONCE_BYTES, SignatureError, Signer

_SIGNATURE = b"x-cf-proxy-signature"
_METADATA = b"x-cf-proxy-metadata"
_FORWARDED_URL = b"x-cf-forwarded-url"
_NAMES = frozenset({_SIGNATURE, _METADATA, _FORWARDED_URL})

_URL = re.compile(
    r"(?i:https)://(?:[^/?#@]*@)?(?P<authority>(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::(?P<port>[0-9]{0,5}))?)"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?"
)
_SIGNED_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?P<authority>[^/?#]*)(?P<path>[^?#]*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))
_HTTPS_PORT = 443
_REMEMBERED_SERVICES = 1024
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RouteServiceOptions:
    """Configuration of route services."""

    secret: str
    """``route_services_secret``; empty switches route services off."""
    old_secret: str
    recommend_https: bool
    """Services are told to call back over https."""
    timeout_s: float
    """Age at which a signature expires."""
    max_attempts: int
    strict: bool
    """A bad signature is refused on routes without a service, too."""
    websockets: bool
    hairpinning: bool
    hairpinning_allowlist: tuple[str, ...] = ()
    """Hosts, ``*.`` for one label in front; empty allows every host."""


class BadServiceUrl(ValueError):
    """A route was registered with a service URL that nothing can be sent to; the text says why."""


class ServiceEndpoint(Endpoint):
    """A service as an endpoint: it is no app's instance and is not told of one."""

    __slots__ = ()

    @property
    def identity(self) -> bytes:
        return b""

    def log_fields(self, quote: Any) -> bytes:
        return b'app_id:"-" app_index:"-" instance_id:"-"'


class _Service:
    """What a service URL says."""

    __slots__ = ("authority", "endpoint", "host", "target")

    def __init__(self, authority: bytes, host: bytes, target: bytes, endpoint: ServiceEndpoint) -> None:
        self.authority = authority
        self.host = host
        self.target = target
        self.endpoint = endpoint


class ServiceCall:
    """Where an exchange goes instead of to an endpoint of its pool.

    Attributes:
        endpoint: the service; its failures are neither marked nor reported.
        connections: where a connection to it is had from.
        target: of the request line, from the service URL alone.
        host: value of Host, likewise.
        lines: the three header lines that let the service send the request back.
        max_attempts: how often it is tried.
    """

    __slots__ = ("connections", "endpoint", "host", "lines", "max_attempts", "target")

    def __init__(self, service: _Service, connections: Connections, lines: list[bytes], max_attempts: int) -> None:
        self.endpoint = service.endpoint
        self.connections = connections
        self.target = service.target
        self.host = service.authority
        self.lines = lines
        self.max_attempts = max_attempts

    def head(self, received: RequestHead) -> RequestHead:
        """Return the head that goes to the service, of the one that came from the client."""
        head = received.copy()
        head.target = self.target
        head.host = self.host
        head.lines = [*received.lines, *self.lines]
        return head


class RouteServices:
    """Decides for each request of a worker. Making one takes some 30 ms a secret.

    Args:
        connections: to services; not those to endpoints, because TLS and the addresses allowed differ.
        hairpin: bridges to services that are routes of our own.
        now_ns: nanoseconds since the epoch.
        random_bytes: so many bytes that nobody can guess.

    Attributes:
        connections: as given; whoever sweeps and closes those to endpoints does so with these.
    """

    def __init__(
        self,
        options: RouteServiceOptions,
        connections: Connections,
        hairpin: HairpinConnections,
        logger: Logger,
        now_ns: Callable[[], int] = time_ns,
        random_bytes: Callable[[int], bytes] = urandom,
    ) -> None:
        self._options = options
        self._signer = Signer(options.secret, options.old_secret) if options.secret else None
        self._timeout_ns = int(options.timeout_s * _SECOND_NS)
        self._scheme = b"https://" if options.recommend_https else b"http://"
        self._allowlist = frozenset(host.lower() for host in options.hairpinning_allowlist)
        self.connections = connections
        self._hairpin = hairpin
        self._logger = logger
        self._now_ns = now_ns
        self._random_bytes = random_bytes
        self._services: dict[str, _Service] = {}
        self._endpoints: dict[tuple[str, int], ServiceEndpoint] = {}

    def decide(self, exchange: Exchange, pool: Pool) -> reply.Reply | None:
        """Return a refusal, or None to go on: with ``exchange.service`` set to the service, without it to the app.

        ``exchange.from_service`` tells that the request carries a valid signature and a forwarded URL (GOROUTER.md
        §7.6).
        """
        url = pool.options.route_service_url
        signed = _SIGNATURE in exchange.head.special and exchange.head.special[_SIGNATURE] != b""
        signer = self._signer
        if not url:
            return self._check_plain(signer, exchange) if signed and signer is not None else None
        if signer is None:
            return reply.route_services_disabled()
        if signed:
            refused = self._judge_return(signer, exchange, pool)
            if refused is not None:
                return refused
        if b"upgrade" in exchange.head.special and not self._options.websockets and websocket_token(exchange.head):
            return _websocket_refused()
        if signed:
            exchange.from_service = bool(exchange.head.special.get(_FORWARDED_URL))
            exchange.head = _without_signature(exchange.head)
            return None
        return self._send_out(signer, exchange, url)

    def note_response(self, exchange: Exchange) -> None:
        """A service has answered; operators look here for those that refuse. Not for the router's own answers."""
        if exchange.service is not None and not 200 <= exchange.status < 300:
            self._logger.info(
                "route-service-response",
                vcap_request_id=exchange.request_id.decode(),
                endpoint=exchange.service.endpoint.address,
                status_code=exchange.status,
            )

    # The way back.

    def _judge_return(self, signer: Signer, exchange: Exchange, pool: Pool) -> reply.Reply | None:
        try:
            url = self._verify(signer, exchange.head)
            _check_route(exchange, pool, url)
        except _Expired:
            return self._refuse(exchange, 504, b"", "route service request expired")
        except SignatureError as error:
            return self._refuse(exchange, 502, b"", error.reason)
        return None

    def _check_plain(self, signer: Signer, exchange: Exchange) -> reply.Reply | None:
        """Look at a signature on a route without a service: the app may itself be the service, and gets it."""
        strict = self._options.strict
        try:
            self._verify(signer, exchange.head)
        except _Expired:
            if strict:
                name = b"expired_route_service_signature"
                return self._refuse(exchange, 504, name, "route service request expired")
        except SignatureError as error:
            if strict:
                self._log_refusal(exchange, error.reason)
                text = b"invalid route service signature detected"
                return reply.error(400, b"invalid_route_service_signature", text)
        else:
            exchange.from_service = bool(exchange.head.special.get(_FORWARDED_URL))
        return None

    def _verify(self, signer: Signer, head: RequestHead) -> str:
        """Return the URL that was signed. Raises `SignatureError`, or `_Expired`, which is one."""
        special = head.special
        signed = signer.open(special[_SIGNATURE], special.get(_METADATA, b""))
        if self._now_ns() - signed.requested_ns > self._timeout_ns:
            raise _Expired
        return signed.url

    def _refuse(self, exchange: Exchange, status: int, router_error: bytes, reason: str) -> reply.Reply:
        self._log_refusal(exchange, reason)
        text = b"Failed to validate Route Service Signature: " + reason.encode("utf-8", "replace")
        return reply.error(status, router_error, text)

    def _log_refusal(self, exchange: Exchange, reason: str) -> None:
        self._logger.error(
            "signature-validation-failed",
            error=reason,
            host=exchange.head.host.decode("latin-1"),
            vcap_request_id=exchange.request_id.decode(),
        )

    # The way out.

    def _send_out(self, signer: Signer, exchange: Exchange, url: str) -> reply.Reply | None:
        try:
            service = self._services.get(url) or self._learn(url)
        except BadServiceUrl as error:
            self._logger.error("route-service-failed", error=str(error), route_service_url=url)
            return reply.error(500, b"", b"Route service request failed.")
        head = exchange.head
        if not _NAMES.isdisjoint(head.special):
            exchange.head = head = _without_signature(head)
        forwarded = self._scheme + _host_of(head.host) + head.path
        signature, metadata = signer.sign(
            forwarded.decode("latin-1"), self._now_ns(), self._random_bytes(NONCE_BYTES)
        )
        lines = [
            b"X-Cf-Forwarded-Url: " + forwarded,
            b"X-Cf-Proxy-Metadata: " + metadata,
            b"X-Cf-Proxy-Signature: " + signature,
        ]
        connections = self._hairpin if self._is_ours(exchange, service) else self.connections
        exchange.service = ServiceCall(service, connections, lines, self._options.max_attempts)
        return None

    def _is_ours(self, exchange: Exchange, service: _Service) -> bool:
        """Whether the service is a route of our own that may be reached without leaving the worker."""
        if not self._options.hairpinning:
            return False
        pool = exchange.proxy.mirror.table.lookup(service.host, service.target)
        if pool is None or not self._allowlist:
            return pool is not None
        host = pool.key.partition("/")[0]
        return host in self._allowlist or "*." + host.partition(".")[2] in self._allowlist

    def _learn(self, url: str) -> _Service:
        match = _URL.fullmatch(url)
        if match is None or _CONTROL.search(url) or _BAD_ESCAPE.search(match["path"] or ""):
            raise BadServiceUrl("the URL of the route service cannot be used")
        port = int(match["port"] or _HTTPS_PORT)
        if not 0 < port < 65536:
            raise BadServiceUrl(f"port {port} of the route service's URL is none")
        target = percent_encode((match["path"] or "/") + (match["query"] or ""), safe=_PRINTABLE)
        host = match["host"]
        service = _Service(
            match["authority"].removesuffix(":").encode(),
            host.lower().encode(),
            target.encode(),
            self._endpoint(host.strip("[]").lower(), port),
        )
        if len(self._services) >= _REMEMBERED_SERVICES:
            del self._services[next(iter(self._services))]
        self._services[url] = service
        return service

    def _endpoint(self, host: str, port: int) -> ServiceEndpoint:
        """Return the endpoint whose idle connections all URLs of one service share."""
        endpoint = self._endpoints.get((host, port))
        if endpoint is None:
            if len(self._endpoints) >= _REMEMBERED_SERVICES:
                self._forget(next(iter(self._endpoints)))
            endpoint = ServiceEndpoint(0, EndpointRecord(host=host, port=port, tls=True, san=host))
            self._endpoints[host, port] = endpoint
        return endpoint

    def _forget(self, key: tuple[str, int]) -> None:
        endpoint = self._endpoints.pop(key)
        endpoint.gone = True
        self.connections.endpoint_gone(endpoint)
        self._services = {url: each for url, each in self._services.items() if each.endpoint is not endpoint}


class _Expired(SignatureError):
    def __init__(self) -> None:
        super().__init__("route service request expired")


def _check_route(exchange: Exchange, pool: Pool, url: str) -> None:
    """The request must have come back to the route it was sent out from. Raises `SignatureError`."""
    match = _SIGNED_URL.match(url)
    authority = match["authority"].rpartition("@")[2] if match is not None else ""
    host = _host_of(authority.encode("utf-8", "replace"))
    path = match["path"].encode("utf-8", "replace") if match is not None else b""
    found = exchange.proxy.mirror.table.lookup(host, path) if host else None
    if found is None:
        raise SignatureError(f"original request URL {url} does not exist in the routing table")
    if found.key != pool.key:
        current = (_host_of(exchange.head.host) + exchange.head.path).decode("latin-1")
        raise SignatureError(
            f"route service forwarded URL {url} does not match the original request URL {current}"
        )


def _host_of(authority: bytes) -> bytes:
    """Return an authority without its port."""
    if authority[:1] == b"[":
        return authority[: authority.find(b"]") + 1]
    return authority.partition(b":")[0]


def _without_signature(head: RequestHead) -> RequestHead:
    """Return a copy without the three fields.

    A copy, because the next request on the connection is compared with this head and, if it is sent with the same
    lines, takes over what was found in them: it would lose its signature.
    """
    copy = head.copy()
    copy.lines = [line for line in head.lines if line_name(line) not in _NAMES]
    copy.special = {name: value for name, value in head.special.items() if name not in _NAMES}
    return copy


def _websocket_refused() -> reply.Reply:
    text = b"Websocket requests are not supported for routes bound to Route Services."
    return reply.error(503, b"route_service_unsupported", text)
