"""The nested sections of the configuration: ``status``, ``nats``, ``logging``, ``backends`` and the rest.

Owns names, types and defaults, all Gorouter's; does not own the rules between settings (`validate`). PEM values
are inline text unless the key says path. A 0 that means another value is replaced by that
value as the section is made, so nobody else needs to know about it.
"""

from msgspec import Struct, field
from msgspec.structs import force_setattr

from router.config.kinds import Count, Integer, OAuthPort, Port


class KeyPair(Struct, frozen=True, kw_only=True):
    """An entry of ``tls_pem``: a certificate to show to clients, and its key."""

    cert_chain: str = ""
    """PEM: the certificate, then its intermediates."""
    private_key: str = ""
    """PEM, not encrypted."""


class DistinguishedName(Struct, frozen=True, kw_only=True):
    """An X.509 name, for comparing subjects; every part given must be equal, none may be missing."""

    country: list[str] = []
    """C."""
    organization: list[str] = []
    """O."""
    organizational_unit: list[str] = []
    """OU."""
    locality: list[str] = []
    """L."""
    province: list[str] = []
    """ST."""
    street_address: list[str] = []
    """STREET."""
    postal_code: list[str] = []
    """Postal code."""
    common_name: str = ""
    """CN."""
    serial_number: str = ""
    """serialNumber of the name, not of the certificate."""


class ClientCertificateRule(Struct, frozen=True, kw_only=True):
    """An entry of ``verify_client_certificate_metadata``."""

    issuer_in_chain: DistinguishedName = field(default_factory=DistinguishedName)
    """The rule applies to chains that hold a CA with this subject; the CA must be in ``client_ca_certs``."""
    valid_cert_subjects: list[DistinguishedName] = []
    """Then the client certificate's subject must be one of these."""


class Domain(Struct, frozen=True, kw_only=True):
    """An entry of ``domains``: hosts that demand a client certificate of their own CA (RFC-0055)."""

    name: str = ""
    """Host name, or ``*.`` and a name for exactly one more label."""
    ca_certs: str = ""
    """PEM: CAs whose client certificates are accepted."""
    forwarded_client_cert: str = "sanitize_set"
    """As the top-level key of this name, for these hosts."""
    xfcc_format: str = "raw"
    """``raw`` (base64 DER) or ``envoy`` (hash and subject)."""


class HashBasedRouting(Struct, frozen=True, kw_only=True):
    """Hash-based routing, chosen per route."""

    lookup_table_size: str = ""
    """Size class of the Maglev table: XS, S, M, L or XL; empty leaves the choice to the router."""


class AddedHeader(Struct, frozen=True, kw_only=True):
    """A response header to add."""

    name: str = ""
    """Header name, any case."""
    value: str = ""
    """Its value."""


class RemovedHeader(Struct, frozen=True, kw_only=True):
    """A response header to remove."""

    name: str = ""
    """Header name, any case."""


class RewriteResponses(Struct, frozen=True, kw_only=True):
    """Rules applied to response heads, removal first."""

    add_headers_if_not_present: list[AddedHeader] = []
    """Added when the response has no header of that name."""
    remove_headers: list[RemovedHeader] = []
    """Always removed."""


class HttpRewrite(Struct, frozen=True, kw_only=True):
    """Header rewriting, e.g. to add Strict-Transport-Security."""

    responses: RewriteResponses = field(default_factory=RewriteResponses)
    """Rules for responses."""


class StatusTls(Struct, frozen=True, kw_only=True):
    """The TLS health listener; any value other than the default switches it on."""

    port: Port = 8443
    """TCP port."""
    certificate: str = ""
    """PEM."""
    key: str = ""
    """PEM."""


class StatusRoutes(Struct, frozen=True, kw_only=True):
    """The listener that shows the route table."""

    port: Port = 8082
    """TCP port on 127.0.0.1."""


class Status(Struct, frozen=True, kw_only=True):
    """Health and route table listeners."""

    host: str = "0.0.0.0"
    """Address of the deprecated listener only; the health listener is on all interfaces."""
    port: Port = 8080
    """TCP port of the plain health listener."""
    enable_nontls_health_checks: bool = True
    """Open the plain health listener."""
    enable_deprecated_varz_healthz_endpoints: bool = False
    """Serve ``/varz`` and ``/healthz`` too, behind basic auth."""
    user: str = ""
    """Basic auth user of ``/routes``."""
    pass_: str = field(default="", name="pass")
    """Basic auth password of ``/routes``."""
    tls: StatusTls = field(default_factory=StatusTls)
    """Health over TLS."""
    routes: StatusRoutes = field(default_factory=StatusRoutes)
    """Where ``/routes`` is served."""


class NatsHost(Struct, frozen=True, kw_only=True):
    """One NATS server."""

    hostname: str = ""
    """Name or address; with TLS also the name its certificate must carry."""
    port: Port = 4222
    """TCP port."""


def _local_nats() -> list[NatsHost]:
    return [NatsHost(hostname="localhost")]


class Nats(Struct, frozen=True, kw_only=True):
    """The NATS cluster that routes are announced on."""

    hosts: list[NatsHost] = field(default_factory=_local_nats)
    """Servers of one cluster; any one that answers will do."""
    user: str = ""
    """User name, empty for none."""
    pass_: str = field(default="", name="pass")
    """Password."""
    tls_enabled: bool = False
    """Mutual TLS; makes the three PEM keys mandatory."""
    ca_certs: str = ""
    """PEM: CAs of the NATS servers."""
    cert_chain: str = ""
    """PEM: our client certificate."""
    private_key: str = ""
    """PEM: its key."""


class LogFormat(Struct, frozen=True, kw_only=True):
    """How log lines look."""

    timestamp: str = "unix-epoch"
    """``rfc3339`` for text; anything else means float seconds since the epoch."""


ATTEMPT_FIELDS = [
    "failed_attempts",
    "failed_attempts_time",
    "dns_time",
    "dial_time",
    "tls_time",
    "backend_time",
]
"""The access-log fields that the older switch ``enable_attempts_details`` stood for."""


class Logging(Struct, frozen=True, kw_only=True):
    """Component log, and what the access log shows."""

    syslog: str = ""
    """First part of ``source`` in component log lines; empty means ``gorouter.stdout``."""
    syslog_addr: str = "127.0.0.1:514"
    """``host:port`` that streamed access log lines go to."""
    syslog_network: str = "udp"
    """``udp`` or ``tcp``."""
    syslog_truncate: Count = 0
    """Cut streamed lines to this many bytes; 0 for never."""
    level: str = "debug"
    """Least severe level that is logged: debug, info, warn, error, dpanic, panic or fatal, any case."""
    loggregator_enabled: bool = False
    """Send access log lines to the app's log stream."""
    metron_address: str = "localhost:3457"
    """``host:port`` (UDP) of the agent that takes metrics and app logs."""
    disable_log_forwarded_for: bool = False
    """Write ``-`` for X-Forwarded-For in the access log."""
    disable_log_source_ip: bool = False
    """Write ``-`` for the client address in the access log."""
    redact_query_params: str = "none"
    """Query strings of GET requests in the access log: ``none`` as they are, ``all`` removed, ``hash`` hashed."""
    format: LogFormat = field(default_factory=LogFormat)
    """How log lines look."""
    extra_access_log_fields: list[str] = []
    """More access log fields, in this order; unknown names are ignored."""
    enable_attempts_details: bool = False
    """Older switch: puts the six attempt and time fields before ``extra_access_log_fields``."""

    def __post_init__(self) -> None:
        if self.enable_attempts_details:
            fields = dict.fromkeys([*ATTEMPT_FIELDS, *self.extra_access_log_fields])
            force_setattr(self, "extra_access_log_fields", list(fields))


class AccessLog(Struct, frozen=True, kw_only=True):
    """Where access log lines go."""

    file: str = ""
    """Path to append to (mode 0644); empty for no file. Reopened on SIGUSR2."""
    enable_streaming: bool = False
    """Send lines to ``logging.syslog_addr`` as well."""


class Tracing(Struct, frozen=True, kw_only=True):
    """Trace headers."""

    enable_zipkin: bool = False
    """X-B3-* and b3 headers."""
    enable_w3c: bool = False
    """traceparent and tracestate headers."""
    w3c_tenant_id: str = ""
    """Our tenant in tracestate."""


def _lookup_time_buckets() -> list[float]:
    return [10_000.0 * step for step in range(1, 11)]


def _registration_latency_buckets() -> list[float]:
    return [0.1, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]


def _response_latency_buckets() -> list[float]:
    return [1, 2, 4, 6, 8, 10, 20, 40, 50, 100, 500, 1000]


def _http_latency_buckets() -> list[float]:
    return [0.1 * 2**step for step in range(9)]


class Meters(Struct, frozen=True, kw_only=True):
    """Upper bounds of histogram buckets."""

    route_lookup_time_histogram_buckets: list[float] = field(default_factory=_lookup_time_buckets)
    """Nanoseconds."""
    route_registration_latency_histogram_buckets: list[float] = field(
        default_factory=_registration_latency_buckets
    )
    """Milliseconds."""
    routing_response_latency_histogram_buckets: list[float] = field(default_factory=_response_latency_buckets)
    """Milliseconds."""
    http_latency_histogram_buckets: list[float] = field(default_factory=_http_latency_buckets)
    """Seconds."""


class Prometheus(Struct, frozen=True, kw_only=True):
    """The metrics listener."""

    enabled: bool = False
    """Serve ``/metrics`` on 127.0.0.1."""
    port: Port = 0
    """TCP port; 0 for a random one."""
    cert_path: str = ""
    """Path of a PEM certificate; switches mutual TLS on."""
    key_path: str = ""
    """Path of its key."""
    ca_path: str = ""
    """Path of the PEM CAs of those who may read."""
    meters: Meters = field(default_factory=Meters)
    """Histogram buckets."""


class Backends(Struct, frozen=True, kw_only=True):
    """Connections to endpoints."""

    max_conns: Integer = 0
    """Most exchanges in flight at one endpoint; 0 or less for no limit."""
    max_attempts: Integer = 0
    """Endpoints tried for one request; 0 and below mean 1."""
    cert_chain: str = ""
    """PEM: client certificate shown to TLS endpoints; used when the key is set too."""
    private_key: str = ""
    """PEM: its key."""

    def __post_init__(self) -> None:
        force_setattr(self, "max_attempts", max(self.max_attempts, 1))


class RouteServices(Struct, frozen=True, kw_only=True):
    """Connections to route services."""

    max_attempts: Count = 0
    """Attempts for one request; 0 means 1, where Gorouter's 0 fails every request."""
    strict_signature_validation: bool = False
    """Refuse requests with a bad route-service signature on routes without a service, too."""
    cert_chain: str = ""
    """PEM: client certificate shown to route services."""
    private_key: str = ""
    """PEM: its key."""
    enable_websockets: bool = False
    """Let upgrades through route services; otherwise they are answered 503."""
    egress_blocklist: list[str] = []
    """CIDR ranges that route services may not be in."""

    def __post_init__(self) -> None:
        force_setattr(self, "max_attempts", self.max_attempts or 1)


class RoutingApi(Struct, frozen=True, kw_only=True):
    """The routing API as a second source of routes; on when ``uri`` and ``port`` are set."""

    uri: str = ""
    """``https://`` and host."""
    port: Port = 0
    """TCP port."""
    auth_disabled: bool = False
    """Ask without a UAA token."""
    ca_certs: str = ""
    """PEM: CAs of the API."""
    cert_chain: str = ""
    """PEM: our client certificate."""
    private_key: str = ""
    """PEM: its key."""


class OAuth(Struct, frozen=True, kw_only=True):
    """UAA, for tokens to the routing API."""

    token_endpoint: str = ""
    """Host name."""
    port: OAuthPort = 0
    """TCP port, with TLS; 0 and -1 mean that there is none, which works only with ``auth_disabled``."""
    skip_ssl_validation: bool = False
    """Do not verify UAA's certificate."""
    client_name: str = ""
    """OAuth client."""
    client_secret: str = ""
    """Its secret."""
    ca_certs: str = ""
    """Path of a PEM file of UAA's CAs."""
