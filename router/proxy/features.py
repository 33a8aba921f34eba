"""What the pipeline of a worker does beyond finding an endpoint and forwarding; plain values."""

from dataclasses import dataclass

from router.proxy.error_page import ErrorPage
from router.proxy.mtls import Domains
from router.proxy.observer import Observer
from router.proxy.response_rules import ResponseRules
from router.proxy.route_service import RouteServices
from router.proxy.sticky import Sticky
from router.proxy.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Features:
    """None and empty are off.

    Attributes:
        services: must be there, because a route that wants a service must never be reached around it.
        negotiates: sessions are sticky by ``Negotiate``, too.
        grpc_status: the router's own answers to gRPC calls say so in gRPC's terms, too.
        trace_key: value of X-Vcap-Trace that asks for the addresses of router and endpoint.
    """

    services: RouteServices
    tracing: Tracing | None = None
    sticky: Sticky | None = None
    negotiates: bool = False
    domains: Domains | None = None
    response_rules: ResponseRules | None = None
    error_page: ErrorPage | None = None
    grpc_status: bool = False
    trace_key: bytes = b""
    router_ip: bytes = b""
    observers: tuple[Observer, ...] = ()
