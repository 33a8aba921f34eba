"""Every key of the configuration file as typed data: Gorouter's names and the Gorouter binary's defaults.

Owns names, types, defaults and derived values; does not own YAML (`load`) nor the rules between settings
(`validate`). One law: a `Config` is always resolved. Settings whose 0 or "" stands for another value hold that
value as soon as the `Config` exists, however it came to be, so its readers never look at two settings for one.

Durations are seconds. PEM values are inline text. Which keys already have an effect is in `effects`.
"""

from msgspec import Struct, field
from msgspec.structs import force_setattr

from router.config.internal import Internal
from router.config.kinds import Ciphers, Count, Duration, Integer, Port, SignedDuration
from router.config.sections import (
    AccessLog,
    Backends,
    ClientCertificateRule,
    Domain,
    HashBasedRouting,
    HttpRewrite,
    KeyPair,
    Logging,
    Nats,
    OAuth,
    Prometheus,
    RouteServices,
    RoutingApi,
    Status,
    Tracing,
)

MIB = 1024 * 1024
MAX_REQUEST_HEADER_BYTES = MIB
DEFAULT_MAX_RESPONSE_HEADER_BYTES = 10 * MIB
DEFAULT_READ_HEADER_TIMEOUT = 60.0
DEFAULT_DRAIN_TIMEOUT = 60.0


def _session_cookie() -> list[str]:
    return ["JSESSIONID"]


class Config(Struct, frozen=True, kw_only=True):
    """One router's configuration, whole; immutable, and the same in control and every worker."""

    # Processes and listeners.

    workers: Count = 0
    """Worker processes; 0 means ``go_max_procs`` if that is above 0, else one per CPU. Not a Gorouter key."""
    listen_address: str = ""
    """IP address of the traffic listeners; empty for all interfaces, IPv4 and IPv6. Not a Gorouter key."""
    orphan_grace: Duration = 30.0
    """How long workers serve on with what they have after the control process died. Not a Gorouter key."""
    worker_timeout: Duration = 30.0
    """A worker that gives no sign of life for so long is killed and replaced; 0 for never. Not a Gorouter key."""
    go_max_procs: Integer = -1
    """CPUs to use when ``workers`` is 0; 0 and below mean all."""
    port: Port = 8081
    """TCP port of the plain HTTP listener."""
    disable_http: bool = False
    """Open no plain HTTP listener."""
    enable_ssl: bool = False
    """Open the TLS listener."""
    ssl_port: Port = 443
    """TCP port of the TLS listener."""
    enable_proxy: bool = False
    """Accept PROXY protocol headers, v1 and v2, on both listeners; connections without one are direct."""
    enable_proxy_from: list[str] = []
    """Networks (CIDR) whose peers may send them; empty for everybody. Not a Gorouter key."""
    enable_http2: bool = True
    """Offer HTTP/2 to clients, and speak it to endpoints registered with it."""
    enable_http2_cleartext: bool = False
    """Speak HTTP/2 on the plain port with clients that begin with it, without asking. Not a Gorouter key."""
    enable_http2_cleartext_backends: bool = False
    """Speak HTTP/2 to endpoints registered with it that have no TLS, too. Not a Gorouter key."""
    http2_backend_max_age: Duration = 0.0
    """An HTTP/2 connection to an endpoint takes no new requests after so long; 0: never. Not a Gorouter key."""
    enable_grpc_status: bool = True
    """Add grpc-status and grpc-message to the router's own answers to gRPC calls. Not a Gorouter key."""
    http2_max_concurrent_streams: Count = 250
    """Most requests at once on one HTTP/2 connection of a client; 0 means 250. Not a Gorouter key."""
    http2_max_control_frames: Count = 1000
    """Frames a second that an HTTP/2 client may send without moving anything; 0 means 1000. Not a Gorouter key."""
    http2_max_resets: Count = 100
    """Requests a second that an HTTP/2 client may cancel beyond those answered; 0: 100. Not a Gorouter key."""
    http2_max_small_frames: Count = 20_000
    """DATA frames below 32 bytes read a second from an HTTP/2 client; 0 means 20000. Not a Gorouter key."""
    http2_stall_timeout: Duration = 60.0
    """An HTTP/2 response of which the client takes nothing for so long ends; 0 for never. Not a Gorouter key."""
    enable_http1_concurrent_read_write: bool = False
    """Read an HTTP/1 request body while the response is being written; here that is always so."""

    # TLS.

    tls_pem: list[KeyPair] = []
    """Certificates of the TLS listener, chosen by server name; the first is the fallback."""
    client_cert_validation: str = ""
    """``none``, ``request`` or ``require`` a certificate of clients; must be given with ``enable_ssl``."""
    min_tls_version: str = ""
    """TLSv1.0 to TLSv1.3; empty means TLSv1.2."""
    max_tls_version: str = ""
    """TLSv1.2 or TLSv1.3; empty means TLSv1.2."""
    cipher_suites: Ciphers = []
    """Suites up to TLS 1.2, for clients and endpoints, in OpenSSL or IANA names; their order does not matter, the
    best that both sides have is taken. Mandatory with ``enable_ssl``."""
    ca_certs: list[str] = []
    """PEM texts, trusted for endpoints and route services in addition to the system's CAs."""
    client_ca_certs: str = ""
    """PEM: CAs of client certificates."""
    only_trust_client_ca_certs: bool = False
    """Trust ``client_ca_certs`` alone for client certificates, not the system's CAs."""
    enable_verify_client_certificate_metadata: bool = False
    """Apply ``verify_client_certificate_metadata``."""
    verify_client_certificate_metadata: list[ClientCertificateRule] = []
    """Which subjects a client certificate may have, by CA."""
    skip_ssl_validation: bool = False
    """Do not verify certificates of route services; endpoints are always verified."""
    domains: list[Domain] = []
    """Domains with mutual TLS of their own."""

    # Forwarded headers.

    forwarded_client_cert: str = "always_forward"
    """X-Forwarded-Client-Cert: ``always_forward``, ``forward`` (only over mutual TLS) or ``sanitize_set``."""
    force_forwarded_proto_https: bool = False
    """Always send ``X-Forwarded-Proto: https``; wins over the next key."""
    sanitize_forwarded_proto: bool = False
    """Replace a client's X-Forwarded-Proto by what the connection really is."""
    hop_by_hop_headers_to_filter: list[str] = []
    """Headers that a client cannot have removed by naming them in ``Connection``."""
    http_rewrite: HttpRewrite = field(default_factory=HttpRewrite)
    """Response headers to add and to remove."""
    trace_key: str = ""
    """A request whose X-Vcap-Trace equals this gets the addresses of router and endpoint; empty for never."""

    # Time-outs.

    tls_handshake_timeout: Duration = 10.0
    """For the TLS handshake with an endpoint."""
    endpoint_timeout: Duration = 60.0
    """For the whole exchange with an endpoint, bodies included; 0 for none. Upgraded connections have none."""
    http_1_endpoint_timeout: Duration = 0.0
    """The same for HTTP/1 clients; 0 means ``endpoint_timeout``."""
    http_2_endpoint_timeout: Duration = 0.0
    """The same for HTTP/2 clients; 0 means ``endpoint_timeout``."""
    endpoint_dial_timeout: Duration = 5.0
    """For the TCP connect to an endpoint."""
    websocket_idle_timeout: Duration = 0.0
    """A WebSocket on which neither side says anything for so long is cut; 0 for never. Not a Gorouter key."""
    websocket_dial_timeout: Duration = 0.0
    """Has no effect; 0 means ``endpoint_dial_timeout``."""
    endpoint_keep_alive_probe_interval: Duration = 1.0
    """Between TCP keep-alive probes on endpoint connections."""
    frontend_idle_timeout: Duration = 900.0
    """How long a client connection may be idle, before its first request and between requests."""
    read_header_timeout: Duration = 0.0
    """From a request's first byte until its head is whole; 0 means 60 s, where Gorouter's 0 means for ever."""

    # Connections and limits.

    disable_keep_alives: bool = True
    """Use each endpoint connection for one exchange only and say ``Connection: close``."""
    max_idle_conns: Count = 100
    """Idle connections kept per endpoint, at most."""
    max_idle_conns_per_host: Count = 2
    """Idle connections kept per endpoint; the smaller of both counts."""
    keep_alive_100_continue_requests: bool = False
    """Reuse endpoint connections after requests with ``Expect: 100-continue``."""
    max_request_header_bytes: Count = 0
    """Largest request head; 0 and everything above mean 1 MiB."""
    max_request_headers: Count = 0
    """Most header lines of a request; 0 for no limit."""
    max_response_header_bytes: Count = 0
    """Largest response head of an endpoint; 0 means 10 MiB."""
    max_response_headers: Count = 0
    """Most header lines of an endpoint's response; 0 for no limit."""
    backends: Backends = field(default_factory=Backends)
    """Connections to endpoints."""

    # Choosing an endpoint.

    balancing_algorithm: str = "round-robin"
    """``round-robin`` or ``least-connection``."""
    balancing_algorithm_az_preference: str = "none"
    """``locally-optimistic`` tries endpoints of our own ``zone`` first."""
    zone: str = ""
    """Our availability zone."""
    hash_based_routing: HashBasedRouting = field(default_factory=HashBasedRouting)
    """For routes that ask for it."""
    secure_cookies: bool = False
    """Mark the sticky-session cookie Secure in any case."""
    sticky_session_cookie_names: list[str] = field(default_factory=_session_cookie)
    """Response cookies that make a session sticky; case matters."""
    sticky_sessions_for_auth_negotiate: bool = False
    """Make connections with ``Authorization: Negotiate`` sticky."""

    # Route table.

    index: Count = 0
    """Number of this router, part of its id."""
    isolation_segments: list[str] = []
    """Segments served when sharding."""
    routing_table_sharding_mode: str = "all"
    """``all``, ``segments`` or ``shared-and-segments``."""
    prune_stale_droplets_interval: Duration = 30.0
    """Between prune passes; 0 for never."""
    droplet_stale_threshold: Duration = 120.0
    """An endpoint not announced for this long is pruned; at least ``start_response_delay_interval``."""
    suspend_pruning_if_nats_unavailable: bool = False
    """Keep the table while NATS is away."""
    start_response_delay_interval: Duration = 5.0
    """Routes load this long before traffic is accepted; also the interval asked of announcers."""
    publish_start_message_interval: Duration = 30.0
    """Has no effect."""
    publish_active_apps_interval: Duration = 0.0
    """Between ``router.active_apps`` messages; 0 for none."""
    route_latency_metric_muzzle_duration: Duration = 20.0
    """No registration-latency metric for this long after the start."""
    empty_pool_response_code_503: bool = False
    """Answer 503 instead of 404 when a route has just lost its last endpoint."""
    empty_pool_timeout: Duration = 0.0
    """How long an emptied route answers so."""
    nats: Nats = field(default_factory=Nats)
    """The NATS cluster."""
    nats_client_ping_interval: Duration = 20.0
    """Between pings to the NATS server."""
    routing_api: RoutingApi = field(default_factory=RoutingApi)
    """A second source of routes."""
    oauth: OAuth = field(default_factory=OAuth)
    """UAA for the routing API."""
    token_fetcher_max_retries: Count = 3
    """Attempts for a UAA token."""
    token_fetcher_retry_interval: Duration = 5.0
    """Between them."""
    token_fetcher_expiration_buffer_time: Count = 30
    """Seconds before its expiry at which a token is renewed."""

    # Route services.

    route_services: RouteServices = field(default_factory=RouteServices)
    """Connections to route services."""
    route_services_secret: str = ""
    """Key of signatures; not empty switches route services on."""
    route_services_secret_decrypt_only: str = ""
    """The previous key, still accepted."""
    route_services_timeout: Duration = 60.0
    """Age at which a signature is too old."""
    route_services_recommend_https: bool = False
    """Tell services to call back over https."""
    route_services_hairpinning: bool = False
    """Take services that are routes of our own through ourselves."""
    route_services_hairpinning_allowlist: list[str] = []
    """Hosts for which that is allowed (``*.`` for one more label); empty for all."""
    route_services_internal_server_port: Port = 7070
    """TCP port of Gorouter's internal listener for that; here such requests stay within the worker."""

    # Health, start and drain.

    status: Status = field(default_factory=Status)
    """Health and route table listeners."""
    healthcheck_user_agent: str = "HTTP-Monitor/1.1"
    """A request with exactly this User-Agent gets the health answer on a traffic port."""
    load_balancer_healthy_threshold: SignedDuration = 0.0
    """Read by the deployment's scripts, has no effect here."""
    healthcheck_poll_interval: Duration = 10.0
    """Has no effect."""
    healthcheck_timeout: Duration = 5.0
    """Has no effect."""
    drain_websockets: bool = True
    """Let WebSockets finish within ``drain_timeout``, too; otherwise a drain cuts them. Not a Gorouter key."""
    drain_wait: Duration = 0.0
    """At a drain: time with health 503 during which traffic is still accepted."""
    drain_timeout: Duration = 0.0
    """At a drain: longest wait for what is in flight; 0 means ``endpoint_timeout``, or 60 s if that is 0."""
    debug_addr: str = ""
    """``host:port`` of the debug server; empty for none."""
    pid_file: str = ""
    """Has no effect: the supervisor writes it."""

    # Logs and metrics.

    logging: Logging = field(default_factory=Logging)
    """Component log, and what the access log shows."""
    access_log: AccessLog = field(default_factory=AccessLog)
    """Where access log lines go."""
    extra_headers_to_log: list[str] = []
    """Request headers added to access log lines."""
    html_error_template_file: str = ""
    """Path of an HTML template for error pages."""
    tracing: Tracing = field(default_factory=Tracing)
    """Trace headers."""
    prometheus: Prometheus = field(default_factory=Prometheus)
    """The metrics listener."""
    per_request_metrics_reporting: bool = True
    """Latency metrics for each request."""
    per_app_prometheus_http_metrics_reporting: bool = False
    """Latency metrics by app."""
    enable_envelope_v1_metrics: bool = True
    """Metrics over dropsonde."""
    send_http_start_stop_server_event: bool = True
    """Dropsonde event for each request as server."""
    send_http_start_stop_client_event: bool = True
    """Dropsonde event for each request as client."""

    # Internal routing.

    internal: Internal = field(default_factory=Internal)
    """Names that resolve and route only container to container."""

    def __post_init__(self) -> None:
        for name, value in self._resolved().items():
            force_setattr(self, name, value)

    def _resolved(self) -> dict[str, object]:
        header_bytes = self.max_request_header_bytes or MAX_REQUEST_HEADER_BYTES
        return {
            "workers": self.workers or max(self.go_max_procs, 0),
            "min_tls_version": self.min_tls_version or "TLSv1.2",
            "max_tls_version": self.max_tls_version or "TLSv1.2",
            "websocket_dial_timeout": self.websocket_dial_timeout or self.endpoint_dial_timeout,
            "http_1_endpoint_timeout": self.http_1_endpoint_timeout or self.endpoint_timeout,
            "http_2_endpoint_timeout": self.http_2_endpoint_timeout or self.endpoint_timeout,
            "http2_max_concurrent_streams": self.http2_max_concurrent_streams or 250,
            "http2_max_control_frames": self.http2_max_control_frames or 1000,
            "http2_max_resets": self.http2_max_resets or 100,
            "http2_max_small_frames": self.http2_max_small_frames or 20_000,
            "read_header_timeout": self.read_header_timeout or DEFAULT_READ_HEADER_TIMEOUT,
            "drain_timeout": self.drain_timeout or self.endpoint_timeout or DEFAULT_DRAIN_TIMEOUT,
            "max_request_header_bytes": min(header_bytes, MAX_REQUEST_HEADER_BYTES),
            "max_response_header_bytes": self.max_response_header_bytes or DEFAULT_MAX_RESPONSE_HEADER_BYTES,
            "droplet_stale_threshold": max(self.droplet_stale_threshold, self.start_response_delay_interval),
        }
