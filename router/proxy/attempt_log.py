"""What the component log says of attempts that failed and of requests for which there was no endpoint.

Owns messages and fields, which are Gorouter's (GOROUTER.md §1.2) with a few more; does not own what follows from a
failure (`attempts`).
"""

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from router.backend.failure import CONNECT_TIMEOUT, TIMEOUT, BackendFailure
from router.log import Logger
from router.log_limit import LogLimit
from router.routing.pool import Endpoint, Pool

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange


class AttemptLog:
    """One for each proxy.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, logger: Logger, clock: Callable[[], float] = monotonic) -> None:
        self._logger = logger
        self._clock = clock
        # Whoever sends more than a route can take provokes these.
        self._limit = LogLimit()

    def failed(self, exchange: "Exchange", failure: BackendFailure, retriable: bool) -> None:
        """An attempt came to nothing, or its response cannot be completed.

        Args:
            retriable: the request might be sent once more, for all that has become of it.
        """
        fields = _failure_fields(exchange, failure)
        self._logger.error("backend-endpoint-failed", **fields, retriable=retriable)
        if failure.kind is TIMEOUT or failure.kind is CONNECT_TIMEOUT:
            self._logger.error("backend-request-timeout", error=failure.text, **_request_fields(exchange))

    def no_endpoint(self, exchange: "Exchange", failure: BackendFailure) -> None:
        """There is none to try, or none left to try again."""
        self._logger.error("select-endpoint-failed", error=failure.text, **_request_fields(exchange))

    def connection_limit(self, exchange: "Exchange") -> None:
        """All endpoints of the route have as many requests as they may have; told at a limited rate."""
        if self._limit.admit(self._clock()):
            suppressed = self._limit.take_suppressed()
            self._logger.info("connection-limit-reached", **_request_fields(exchange), suppressed=suppressed)


def _request_fields(exchange: "Exchange") -> dict[str, Any]:
    fields = {
        "vcap_request_id": exchange.request_id.decode(),
        "host": exchange.head.host.decode("latin-1"),
        "attempt": exchange.attempts,
    }
    if exchange.trace_id:
        fields["trace-id"] = exchange.trace_id.decode()
        fields["span-id"] = exchange.span_id.decode()
    return fields


def _failure_fields(exchange: "Exchange", failure: BackendFailure) -> dict[str, Any]:
    endpoint, pool = exchange.endpoint, exchange.pool
    fields = _request_fields(exchange)
    fields["error"] = failure.text
    fields["failure"] = failure.kind.name
    fields["backend"] = endpoint.address if endpoint else ""
    fields["application_id"] = endpoint.record.app if endpoint else ""
    fields["instance_id"] = endpoint.record.instance_id if endpoint else ""
    fields["num-endpoints"] = len(pool.endpoints) if pool else 0
    fields.update(_connection_fields(exchange))
    if endpoint is not None:
        fields["route-endpoint"] = _endpoint_fields(endpoint, pool)
    return fields


def _connection_fields(exchange: "Exchange") -> dict[str, Any]:
    connection = exchange.last_connection
    is_new = connection is not None and not connection.reused
    # As in Gorouter, 0 stands for what did not happen.
    dns, dial, handshake = (max(time, 0.0) for time in connection.timings) if connection and is_new else (0.0,) * 3
    return {
        "got-connection": connection is not None,
        "wrote-headers": connection is not None,
        "conn-reused": connection is not None and connection.reused,
        "dns-lookup-time": dns,
        "dial-time": dial,
        "tls-handshake-time": handshake,
        "local-address": connection.local_address if connection is not None else "",
    }


def _endpoint_fields(endpoint: Endpoint, pool: Pool | None) -> dict[str, Any]:
    return {
        "ApplicationId": endpoint.record.app,
        "Addr": endpoint.address,
        "Tags": endpoint.tags.as_dict(),
        "RouteServiceUrl": pool.options.route_service_url if pool is not None else "",
        "AZ": endpoint.record.availability_zone,
    }
