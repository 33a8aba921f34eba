"""Makes the registry control works with: its rules from the configuration, its events into log lines and figures.

Owns message and field names of the log lines, which are Gorouter's because operators' dashboards look for them,
and what the events come to in numbers; does not own what the events mean.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from router.config.schema import Config
from router.log import DEBUG, Logger
from router.log_limit import LogLimit
from router.metrics import Histogram
from router.routing.names import normal_name
from router.routing.observer import RegistryObserver
from router.routing.registrations import Membership, RegistryRules
from router.routing.registry import Registry
from router.routing.route_policy import malformed_sources
from router.wire.registration import Registration

LOGGED_SOURCES, LOGGED_CHARS = 10, 100
"""How much of a list of sources that makes no sense the log shows."""


def make_registry(config: Config, logger: Logger, tally: "RegistryTally | None" = None) -> Registry:
    """Return an empty registry under the rules of the configuration, logging as component ``registry``.

    Args:
        tally: counts the events too, if somebody wants to know.
    """
    return Registry(registry_rules(config), RegistryLog(logger.child("registry"), tally=tally))


def registry_rules(config: Config) -> RegistryRules:
    """Return what the configuration says about the table."""
    return RegistryRules(
        stale_threshold_s=config.droplet_stale_threshold,
        sharding_mode=config.routing_table_sharding_mode,
        isolation_segments=frozenset(config.isolation_segments),
        empty_pool_503=config.empty_pool_response_code_503,
        empty_pool_timeout_s=config.empty_pool_timeout,
        suspend_pruning=config.suspend_pruning_if_nats_unavailable,
        http2=config.enable_http2,
        internal_domains=frozenset(normal_name(domain.name) for domain in config.internal.domains),
    )


class RegistryLog(RegistryObserver):
    """Writes a line for each event; for what agents can provoke without end, not every one.

    Args:
        logger: of the component.
        clock: monotonic seconds.
        tally: told of what it counts.
    """

    def __init__(
        self,
        logger: Logger,
        clock: Callable[[], float] = time.monotonic,
        tally: "RegistryTally | None" = None,
    ) -> None:
        self._logger = logger
        self._clock = clock
        self._tally = tally
        self._refusals = LogLimit()
        self._malformed = LogLimit()

    def route_registered(self, key: str) -> None:
        if self._tally is not None:
            self._tally.routes_registered += 1
        self._logger.info("route-registered", uri=key)

    def endpoint_registered(self, key: str, membership: Membership) -> None:
        if self._tally is not None:
            self._tally.endpoint_registered(membership.endpoint.record.updated_at_ns)
        self._logger.info("endpoint-registered", **_endpoint_fields(key, membership))
        self._warn_of_sources(key, membership)

    def endpoint_updated(self, key: str, membership: Membership) -> None:
        if self._logger.level <= DEBUG:
            self._logger.debug("endpoint-registered", **_endpoint_fields(key, membership))
        self._warn_of_sources(key, membership)

    def registration_ignored(self, key: str, address: str, reason: str) -> None:
        self._logger.debug("endpoint-not-registered", uri=key, backend=address, reason=reason)

    def internal_refused(self, uri: str, registration: Registration) -> None:
        if self._refusals.admit(self._clock()):
            self._logger.warn(
                "internal-name-not-public",
                uri=uri,
                backend=registration.address,
                application_id=registration.app,
                component=registration.tags.get("component", ""),
                suppressed=self._refusals.take_suppressed(),
            )

    def algorithm_unknown(self, key: str, algorithm: str) -> None:
        self._logger.error(
            "invalid-pool-load-balancing-algorithm", uri=key, poolLBAlgorithm=algorithm, reason="unknown algorithm"
        )

    def endpoint_unregistered(self, key: str, membership: Membership) -> None:
        self._logger.info("endpoint-unregistered", **_endpoint_fields(key, membership))

    def endpoint_not_unregistered(self, key: str, registration: Registration, reason: str) -> None:
        self._logger.info(
            "endpoint-not-unregistered",
            uri=key,
            backend=registration.address,
            application_id=registration.app,
            instance_id=registration.instance_id,
            reason=reason,
        )

    def route_unregistered(self, key: str) -> None:
        if self._tally is not None:
            self._tally.routes_unregistered += 1
        self._logger.info("route-unregistered", uri=key)

    def route_pruned(self, key: str, addresses: list[str], segment: str) -> None:
        self._logger.info("pruned-route", uri=key, endpoints=addresses, isolation_segment=segment or "-")

    def failed_endpoint_pruned(self, key: str, membership: Membership) -> None:
        self._logger.info("prune-failed-endpoint", **_endpoint_fields(key, membership))

    def prune_suspended(self) -> None:
        self._logger.info("prune-suspended")

    def _warn_of_sources(self, key: str, membership: Membership) -> None:
        """Name the sources of a route's policy that are none: they allow nobody, and somebody will wonder why."""
        malformed = malformed_sources(membership.options)
        if malformed and self._malformed.admit(self._clock()):
            self._logger.warn(
                "route-policy-sources-malformed",
                uri=key,
                backend=membership.endpoint.record.address,
                application_id=membership.endpoint.record.app,
                sources=[source[:LOGGED_CHARS] for source in malformed[:LOGGED_SOURCES]],
                suppressed=self._malformed.take_suppressed(),
            )


class RegistryTally:
    """What the registry's events come to, beside its own counters.

    Args:
        bounds_ms: of the buckets of ``route_registration_latency``.
        muzzle_s: ``route_latency_metric_muzzle_duration``: for this long nothing is measured, because what is
            heard after the start was registered long ago.
        clock: monotonic seconds.
        wall_ns: nanoseconds since the epoch.

    Attributes:
        routes_registered: route keys that have come.
        routes_unregistered: route keys that went because their last endpoint said so.
        latency: ``route_registration_latency``, in milliseconds.
        on_latency: told of each one measured, in milliseconds.
    """

    def __init__(
        self,
        bounds_ms: Sequence[float],
        muzzle_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.routes_registered = 0
        self.routes_unregistered = 0
        self.latency = Histogram("route_registration_latency", "", bounds_ms)
        self.on_latency: Callable[[float], None] = lambda latency_ms: None
        self._clock = clock
        self._wall_ns = wall_ns
        self._silent_until = clock() + muzzle_s

    def endpoint_registered(self, updated_at_ns: int) -> None:
        """An endpoint is new. ``updated_at_ns`` is when the platform decided so, 0 if it did not say."""
        if not updated_at_ns or self._clock() < self._silent_until:
            return
        # The platform's clock may be ahead of ours; less than nothing would let the sum fall.
        latency_ms = max(self._wall_ns() - updated_at_ns, 0) / 1e6
        self.latency.observe(latency_ms)
        self.on_latency(latency_ms)


def _endpoint_fields(key: str, membership: Membership) -> dict[str, Any]:
    record = membership.endpoint.record
    return {
        "uri": key,
        "route_service_url": membership.options.route_service_url,
        "backend": record.address,
        "application_id": record.app,
        "instance_id": record.instance_id,
        "server_cert_domain_san": record.san,
        "protocol": record.protocol,
        "modification_tag": {"guid": membership.tag.guid, "index": membership.tag.index},
        "isolation_segment": record.isolation_segment or "-",
        "isTLS": record.tls,
    }
