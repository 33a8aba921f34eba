"""The parts of a data plane, made from the configuration.

Owns the translation of configuration keys into options of the proxy, the frontends and the backend connections;
does not own the parts. One law: what is not configured is not made, and so costs nothing.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from random import random
from time import monotonic

from router.backend.connections import Connections
from router.backend.dial import BackendOptions
from router.backend.service import egress_filter
from router.config.schema import Config
from router.frontend.connection import FrontendOptions
from router.frontend.http2 import Http2Options
from router.log import Logger
from router.metrics import Agent
from router.proxy.access_log import AccessLog
from router.proxy.app_counts import AppCounts
from router.proxy.attempts import ProxyOptions
from router.proxy.envelopes import EnvelopeOptions, Envelopes
from router.proxy.error_page import ErrorPage
from router.proxy.features import Features
from router.proxy.hairpin import HairpinConnections
from router.proxy.internal import Domain as InternalDomain
from router.proxy.log_extras import W3C_HEADERS, ZIPKIN_HEADERS, LogExtras
from router.proxy.log_writer import LineWriter, LogWriter
from router.proxy.mtls import Domain, Domains
from router.proxy.observer import Observer
from router.proxy.request_metrics import MetricOptions, RequestMetrics
from router.proxy.response_rules import ResponseRules
from router.proxy.rewrite import RewriteOptions
from router.proxy.route_service import RouteServiceOptions, RouteServices
from router.proxy.sticky import Sticky, StickyOptions
from router.proxy.syslog import SyslogWriter
from router.proxy.tracing import Tracing
from router.routing.balancing import Balancer
from router.routing.board import Board
from router.routing.hashing import DEFAULT_TABLE_SIZE, TABLE_SIZES
from router.tls import backend_contexts, service_contexts
from router.tls_client_rules import subject_text
from router.tls_front import FrontTls
from router.tls_stream import TlsStream
from router.wire.dropsonde import Encoder
from router.wire.http2_limits import Limits

_DEFAULT_RESPONSE_HEAD_BYTES = 10 * 1024 * 1024
"""``max_response_header_bytes: 0``, as in Go's HTTP client."""
_MARK_SHARE = 4
"""Failure marks hold for this part of ``droplet_stale_threshold`` (GOROUTER.md §6.1)."""


def frontend_options(config: Config, front: FrontTls | None) -> FrontendOptions:
    def identify(stream: TlsStream) -> tuple[str, str]:
        assert front is not None
        return front.domain_of(stream.ssl_object), stream.server_name

    return FrontendOptions(
        idle_s=config.frontend_idle_timeout,
        header_s=config.read_header_timeout,
        max_head_bytes=config.max_request_header_bytes,
        identify=identify if config.domains and front is not None else None,
        full_duplex=config.enable_http1_concurrent_read_write,
    )


def http2_options(config: Config) -> Http2Options:
    return Http2Options(
        limits=Limits(
            streams=config.http2_max_concurrent_streams,
            list_bytes=config.max_request_header_bytes,
            control_frames=config.http2_max_control_frames,
            resets=config.http2_max_resets,
            small_frames=config.http2_max_small_frames,
        ),
        stall_s=config.http2_stall_timeout,
        endpoint_timeout_s=config.http_2_endpoint_timeout,
    )


def backend_options(config: Config) -> BackendOptions:
    return BackendOptions(
        dial_timeout_s=config.endpoint_dial_timeout,
        handshake_timeout_s=config.tls_handshake_timeout,
        keep_alive=not config.disable_keep_alives,
        # As for Go's transport, 0 idle connections in all is no limit, and 0 for a host is its default of 2.
        max_idle=min(config.max_idle_conns_per_host or 2, config.max_idle_conns or sys.maxsize),
        probe_interval_s=config.endpoint_keep_alive_probe_interval,
        max_head_bytes=config.max_response_header_bytes or _DEFAULT_RESPONSE_HEAD_BYTES,
        max_headers=config.max_response_headers,
        contexts=tuple(backend_contexts(config)),
        http2_contexts=tuple(backend_contexts(config, http2=True)) if config.enable_http2 else (),
        http2_cleartext=config.enable_http2 and config.enable_http2_cleartext_backends,
        http2_max_age_s=config.http2_backend_max_age,
    )


def proxy_options(config: Config) -> ProxyOptions:
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
        tunnel_idle_s=config.websocket_idle_timeout,
    )


def route_services(config: Config, logger: Logger) -> RouteServices:
    """Make what decides about route services; without a secret it refuses what would need one.

    Raises `TlsError`.
    """
    settings = config.route_services
    secret = config.route_services_secret
    options = RouteServiceOptions(
        secret=secret,
        old_secret=config.route_services_secret_decrypt_only,
        recommend_https=config.route_services_recommend_https,
        timeout_s=config.route_services_timeout,
        max_attempts=settings.max_attempts,
        strict=settings.strict_signature_validation,
        websockets=settings.enable_websockets,
        hairpinning=config.route_services_hairpinning,
        hairpinning_allowlist=tuple(config.route_services_hairpinning_allowlist),
    )
    connections = replace(
        backend_options(config),
        contexts=tuple(service_contexts(config)) if secret else (),
        http2_contexts=(),
        allowed=egress_filter(settings.egress_blocklist),
        # A service takes the requests of all its routes, so it needs what many endpoints do.
        max_idle=max(config.max_idle_conns_per_host or 2, config.max_idle_conns or sys.maxsize),
    )
    return RouteServices(
        options,
        Connections(connections, monotonic),
        HairpinConnections(connections, monotonic, config.ssl_port if config.enable_ssl else config.port),
        logger.child("proxy"),
    )


def features(config: Config, services: RouteServices, router_ip: str, observers: tuple[Observer, ...]) -> Features:
    """Return what the pipeline does beyond forwarding.

    Raises:
        TemplateError: the HTML error page cannot be understood.
        OSError: it cannot be read.
    """
    responses = config.http_rewrite.responses
    rules = bool(responses.add_headers_if_not_present or responses.remove_headers)
    return Features(
        services=services,
        tracing=_tracing(config),
        sticky=_sticky(config),
        negotiates=config.sticky_sessions_for_auth_negotiate,
        domains=_domains(config) if config.domains else None,
        response_rules=(
            ResponseRules(
                [(header.name, header.value) for header in responses.add_headers_if_not_present],
                [header.name for header in responses.remove_headers],
            )
            if rules
            else None
        ),
        error_page=ErrorPage.read(page) if (page := config.html_error_template_file) else None,
        grpc_status=config.enable_grpc_status,
        trace_key=config.trace_key.encode(),
        router_ip=router_ip.encode(),
        observers=observers,
    )


def _tracing(config: Config) -> Tracing | None:
    tracing = config.tracing
    if not (tracing.enable_zipkin or tracing.enable_w3c):
        return None
    return Tracing(tracing.enable_zipkin, tracing.enable_w3c, tracing.w3c_tenant_id, os.urandom)


def _domains(config: Config) -> Domains:
    entries = [Domain(domain.name, domain.forwarded_client_cert, domain.xfcc_format) for domain in config.domains]
    return Domains(entries, subject_text)


def _sticky(config: Config) -> Sticky | None:
    names = frozenset(name.encode() for name in config.sticky_session_cookie_names)
    if not names and not config.sticky_sessions_for_auth_negotiate:
        return None
    return Sticky(StickyOptions(names, config.secure_cookies, config.sticky_sessions_for_auth_negotiate))


def internal_domains(config: Config) -> list[InternalDomain]:
    return [
        InternalDomain("." + domain.name.lower().strip("."), domain.identity) for domain in config.internal.domains
    ]


def balancer(config: Config, board: Board | None) -> Balancer:
    return Balancer(
        config.balancing_algorithm,
        max(config.backends.max_conns, 0),
        config.droplet_stale_threshold / _MARK_SHARE,
        random,
        zone=config.zone,
        az_local=config.balancing_algorithm_az_preference == "locally-optimistic",
        board=board,
        table_size=TABLE_SIZES.get(config.hash_based_routing.lookup_table_size, DEFAULT_TABLE_SIZE),
    )


def log_writers(config: Config, failed: Callable[[str], None]) -> list[LineWriter]:
    """Open where the access log goes. Raises `OSError`."""
    writers: list[LineWriter] = []
    if config.access_log.file:
        writers.append(LogWriter(config.access_log.file, failed))
    if config.access_log.enable_streaming:
        logging = config.logging
        host, _, port = logging.syslog_addr.rpartition(":")
        writers.append(
            SyslogWriter(
                logging.syslog_network,
                host.strip("[]"),
                int(port),
                logging.syslog,
                logging.syslog_truncate,
                failed,
            )
        )
    return writers


def access_log(config: Config, writers: list[LineWriter], copies: Envelopes | None) -> AccessLog:
    """Make the access log, which writes to all of these."""
    logging = config.logging
    headers = list(config.extra_headers_to_log)
    if config.tracing.enable_zipkin:
        headers += ZIPKIN_HEADERS
    if config.tracing.enable_w3c:
        headers += W3C_HEADERS
    extras = None
    if headers or logging.extra_access_log_fields or config.domains:
        extras = LogExtras(logging.extra_access_log_fields, headers, bool(config.domains))
    return AccessLog(
        _to_all(writers),
        hide_client=logging.disable_log_source_ip,
        hide_forwarded_for=logging.disable_log_forwarded_for,
        redaction=logging.redact_query_params,
        extras=extras,
        app_log=copies.log_line if copies is not None and logging.loggregator_enabled else None,
    )


def _to_all(writers: list[LineWriter]) -> Callable[[bytes], None] | None:
    if not writers:
        return None
    if len(writers) == 1:
        return writers[0].write

    def write(line: bytes) -> None:
        for writer in writers:
            writer.write(line)

    return write


def measures_requests(config: Config) -> bool:
    """Whether requests are measured whoever listens; for the platform's agent they are only while it does."""
    return config.prometheus.enabled or config.status.enable_deprecated_varz_healthz_endpoints


def request_metrics(config: Config) -> RequestMetrics | None:
    """Make what counts and measures requests for control's metrics; None if nobody asks for them."""
    measured = measures_requests(config)
    if not measured and not config.enable_envelope_v1_metrics:
        return None
    meters = config.prometheus.meters
    return RequestMetrics(
        MetricOptions(
            per_request=measured and config.per_request_metrics_reporting,
            per_app=config.prometheus.enabled and config.per_app_prometheus_http_metrics_reporting,
            lookup_ns=tuple(meters.route_lookup_time_histogram_buckets),
            latency=tuple(meters.routing_response_latency_histogram_buckets),
            http_latency_s=tuple(meters.http_latency_histogram_buckets),
        )
    )


def envelopes(config: Config, router_ip: str, on_silence: Callable[[], None]) -> Envelopes | None:
    """Make what tells the platform's agent of requests; None if it is to be told nothing.

    Args:
        on_silence: called whenever no agent is found to listen.
    """
    values = config.enable_envelope_v1_metrics and config.per_request_metrics_reporting
    server = config.enable_envelope_v1_metrics and config.send_http_start_stop_server_event
    client = config.enable_envelope_v1_metrics and config.send_http_start_stop_client_event
    if not (values or server or client or config.logging.loggregator_enabled):
        return None
    options = EnvelopeOptions(server, client, values, str(config.index))
    encoder = Encoder("gorouter", index=str(config.index), ip=router_ip)
    agent = Agent(config.logging.metron_address)
    agent.on_silence = on_silence
    return Envelopes(options, encoder, agent)


def app_counts(config: Config) -> AppCounts | None:
    """Make what counts requests by app; None if control does not want to know."""
    wanted = config.publish_active_apps_interval > 0 or config.status.enable_deprecated_varz_healthz_endpoints
    return AppCounts() if wanted else None
