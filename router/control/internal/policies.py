"""Policies in control: one of three sources, and how long what it said may be relied on.

Owns the choice of the source and the state all sources have in common; does not own any source's way of being
read. One law: a set is relied on while its source can be read, and for `internal.policies.keep` seconds after
that; before the first and after the last moment of it everything is denied.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

from router.config.internal import Internal
from router.control.internal.hub import InternalHub
from router.control.internal.policy_store import PolicyStore
from router.control.nats_link import LinkUser
from router.log import Logger
from router.routing.internal_records import Policy, PutPolicies
from router.routing.policy_book import Changes, PolicyBook


class SourceState(Enum):
    """What can be said of the policies at present."""

    WAITING = "waiting"
    """Nothing was read yet: all is denied."""
    CURRENT = "current"
    LOST = "lost"
    """The source cannot be read; the last set holds for some time."""
    EXPIRED = "expired"
    """It could not be read for too long: all is denied."""


class PolicySource(PolicyStore, Protocol):
    """A store that runs; lives as long as control."""

    @property
    def link_users(self) -> Sequence[LinkUser]:
        """What must hear of every new connection to NATS."""
        ...

    async def start(self) -> None:
        """Begin to read. Never fails for a source that cannot be read: that is logged, and tried again."""
        ...

    async def close(self) -> None:
        """Stop reading. The policies stay as they are; again is harmless."""
        ...

    def status(self) -> dict[str, Any]:
        """Return what operators want to know, fit for JSON."""
        ...


class Freshness:
    """Says to the hub whether policies can be relied on, and tells of every turn in the log.

    Args:
        source: what the source is called in the log and the status.
        keep_s: seconds for which the last set holds when the source is lost.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        source: str,
        hub: InternalHub,
        keep_s: float,
        logger: Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = SourceState.WAITING
        self.error = ""
        """Why the source cannot be read; empty while it can."""
        self._lost_at = 0.0
        self._clock = clock
        self._source = source
        self._hub = hub
        self._keep_s = keep_s
        self._logger = logger
        self._expiry: asyncio.TimerHandle | None = None

    def read(self) -> None:
        """The hub holds what the source says at present: everything of it."""
        before, self.state = self.state, SourceState.CURRENT
        self.error = ""
        self._cancel_expiry()
        if before is not SourceState.CURRENT:
            self._logger.info("policies-read", source=self._source, sources=len(self._hub.table.sources()))
        self._hub.set_ready(policies=True)

    def lost(self, error: str) -> None:
        """The source cannot be read. Said again and again it makes no difference but for the reason."""
        if error != self.error:
            self._logger.warn(
                "policies-cannot-be-read", source=self._source, error=error, keep_seconds=self._keep_s
            )
        self.error = error
        if self.state is SourceState.CURRENT:
            self.state = SourceState.LOST
            self._lost_at = self._clock()
            self._expiry = asyncio.get_running_loop().call_later(self._keep_s, self._expire)

    def close(self) -> None:
        """Let things be as they are."""
        self._cancel_expiry()

    @property
    def age_s(self) -> float | None:
        """For how long the set could not be read again: 0 while it can be, None before the first."""
        if self.state is SourceState.WAITING:
            return None
        return 0.0 if self.state is SourceState.CURRENT else self._clock() - self._lost_at

    def status(self) -> dict[str, Any]:
        return {"source": self._source, "state": self.state.value, "age_s": self.age_s, "error": self.error}

    def _expire(self) -> None:
        self._expiry = None
        self.state = SourceState.EXPIRED
        self._logger.error("policies-expired", source=self._source, error=self.error, effect="all is denied")
        self._hub.set_ready(policies=False)

    def _cancel_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None


class BookKeeper:
    """Holds a source's policies, in a book and in the hub alike."""

    def __init__(self, hub: InternalHub) -> None:
        self.book = PolicyBook()
        self._hub = hub

    def apply(self, changes: Changes) -> int:
        """Take over records that differ; return how many apps' policies do."""
        differing = self.book.apply(changes)
        for app in differing:
            self._hub.put(PutPolicies(app, self.book.policies_of(app)))
        return len(differing)

    def replace(self, policies: Collection[Policy], now_ns: int) -> None:
        """Let exactly these policies be. Raises `TagsExhausted`; then nothing has changed."""
        before, after = set(self.policies), set(policies)
        self.apply(self.book.change(add=after - before, remove=before - after, now_ns=now_ns))

    @property
    def policies(self) -> list[Policy]:
        records = self.book.records
        return [policy for app in sorted(records) for policy in self.book.policies_of(app)]

    @property
    def tags(self) -> Mapping[str, int]:
        return self.book.tags


def make_policies(internal: Internal, hub: InternalHub, logger: Logger) -> PolicySource:
    """Return the source the configuration names, not started.

    Raises:
        TlsError: a certificate of the policy server's client cannot be used.
    """
    config = internal.policies
    if config.source == "file":
        from router.control.internal.policies_file import PolicyFile

        return PolicyFile(config, hub, logger)
    if config.source == "policy_server":
        from router.control.internal.policies_server import PolicyServer

        return PolicyServer(config, hub, logger)
    from router.control.internal.policies_jetstream import PolicyBucket

    return PolicyBucket(config, hub, logger)
