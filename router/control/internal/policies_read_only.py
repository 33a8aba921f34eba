"""What stores have in common whose policies are changed elsewhere, and only read here.

Owns the contract of a source but for reading it. One law: whoever wants to change something here is told where
that is done.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from router.control.internal.hub import InternalHub
from router.control.internal.policies import BookKeeper, Freshness
from router.control.internal.policy_store import PolicyStoreError
from router.control.nats_link import LinkUser
from router.log import Logger
from router.routing.internal_records import Policy


class ReadOnlyPolicies(ABC):
    """A `PolicySource` without its way of being read; lives as long as control.

    Args:
        source: what the source is called in the log and the status.
        place: where policies are kept, told to whoever wants to change them here.
        keep_s: seconds for which the last set holds when the source is lost.
        logger: parent of this component's logger.
    """

    def __init__(self, source: str, place: str, hub: InternalHub, keep_s: float, logger: Logger) -> None:
        self.writable = False
        self.last_updated_ns = 0
        self._place = place
        self._logger = logger.child("policies")
        self._keeper = BookKeeper(hub)
        self._freshness = Freshness(source, hub, keep_s, self._logger)
        self._reading: asyncio.Task[None] | None = None

    @property
    def policies(self) -> list[Policy]:
        return self._keeper.policies

    @property
    def tags(self) -> Mapping[str, int]:
        return self._keeper.tags

    @property
    def link_users(self) -> Sequence[LinkUser]:
        return ()

    async def add(self, policies: list[Policy]) -> None:
        """Refuse."""
        raise PolicyStoreError(f"policies are kept {self._place}, and changed there")

    async def remove(self, policies: list[Policy]) -> None:
        """Refuse."""
        await self.add(policies)

    def status(self) -> dict[str, Any]:
        book = self._keeper.book
        return {
            **self._freshness.status(),
            "last_updated_ns": self.last_updated_ns,
            "policies": book.size,
            "apps": len(book.tags),
        }

    async def start(self) -> None:
        """Begin to read; the first set need not be there when this returns."""
        self._reading = asyncio.get_running_loop().create_task(self._read_for_ever(), name="policies")

    async def close(self) -> None:
        """Stop reading; the policies stay as they are."""
        self._freshness.close()
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])

    @abstractmethod
    async def _read_for_ever(self) -> None:
        """Read whatever is new; ends by being cancelled alone."""
