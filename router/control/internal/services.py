"""Internal routing in control: all its parts, made from the configuration, started and ended together.

Owns which parts there are and their order; each part's work is its own module's. Made only if the configuration
names an internal domain.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from msgspec.structs import asdict

from router.config.internal import Internal
from router.control.internal.discovery import Discovery
from router.control.internal.discovery_api import DiscoveryApi
from router.control.internal.dns_server import DnsServer
from router.control.internal.figures import internal_counters, internal_gauges
from router.control.internal.hub import InternalHub
from router.control.internal.identity_feed import IdentityFeed
from router.control.internal.policies import make_policies
from router.control.internal.policy_api import PolicyApi
from router.control.internal.state import internal_state, state_document
from router.control.nats_link import LinkUser
from router.log import Logger


class _Part(Protocol):
    async def start(self) -> None: ...
    async def close(self) -> None: ...


class InternalServices:
    """Lives as long as control.

    Args:
        router_id: what this router calls itself over NATS.
        on_changes: called when there is something new for the workers.

    Attributes:
        hub: a source for the publisher.
    """

    def __init__(self, config: Internal, logger: Logger, router_id: str, on_changes: Callable[[], None]) -> None:
        self.hub = InternalHub(on_changes)
        self._config = config
        self._policies = make_policies(config, self.hub, logger)
        self._identities = IdentityFeed(config, self.hub.put, logger, router_id=router_id)
        self._discovery = Discovery(config, self.hub, logger, router_id=router_id)
        self._dns = DnsServer(config, lambda: self.hub.table, logger)
        self._policy_api = PolicyApi(config.policy_api, self._policies, self.hub, logger)
        self._discovery_api = DiscoveryApi(config.discovery_api, self.hub, logger)
        # Facts come first, so that what answers questions has them early.
        self._parts: list[_Part] = [
            self._identities,
            self._policies,
            self._discovery,
            self._policy_api,
            self._discovery_api,
            self._dns,
        ]

    @property
    def link_users(self) -> list[LinkUser]:
        """What uses the router's connection to NATS."""
        return [self._identities, self._discovery, *self._policies.link_users]

    async def start(self) -> None:
        """Start every part. Raises what a part raises: an address that cannot be had, a bad certificate."""
        for part in self._parts:
            await part.start()

    def configure(self, config: Internal) -> None:
        """Go by another configuration from now on, as far as a reload can change it (`control.reload`)."""
        self._config = config
        self._identities.configure(config)
        self._dns.configure(config)

    async def close(self) -> None:
        """End every part, the last one first; those that never started do not mind."""
        for part in reversed(self._parts):
            await part.close()

    def document(self) -> Iterator[bytes]:
        """Return all facts and the status as JSON, in pieces: what ``/internal`` shows."""
        return state_document(internal_state(self._config, self.hub, self.status()))

    def status(self) -> dict[str, Any]:
        """Return what operators want to know, fit for JSON."""
        table = self.hub.table
        return {
            "policies_ready": table.policies_ready,
            "names_warm": table.names_warm,
            "names": len(table.names),
            "identities": asdict(self._identities.status),
            "policy_sources": len(table.sources()),
            "policies": self._policies.status(),
            "discovery": asdict(self._discovery.status),
            "dns": asdict(self._dns.counters),
            "policy_api": self._policy_api.counters.external,
            "policy_internal_api": self._policy_api.counters.internal,
            "discovery_api": self._discovery_api.counters.as_dict(),
        }

    def counters(self) -> dict[str, int]:
        """Return what was counted since the start, each name with the prefix ``internal_``, for metrics."""
        return internal_counters(self.status())

    def gauges(self) -> dict[str, float]:
        """Return how things are, each name with the prefix ``internal_``, for metrics.

        Ages are in seconds, and missing as long as there is nothing to have one.
        """
        return internal_gauges(self.status())
