"""What the policy API needs of the place where policies are kept.

Owns the contract alone; `policies` has the stores. One law: a change takes effect whole or not at all.
"""

from collections.abc import Mapping
from typing import Protocol

from router.routing.internal_records import Policy


class PolicyStoreError(Exception):
    """The store cannot be read or changed at present; the text says why."""


class PolicyStore(Protocol):
    """Where policies are kept."""

    @property
    def writable(self) -> bool:
        """Whether policies can be changed here; otherwise they come from elsewhere and are only read."""
        ...

    @property
    def policies(self) -> list[Policy]:
        """All policies there are."""
        ...

    @property
    def last_updated_ns(self) -> int:
        """When policies were last changed, be it to the same; nanoseconds since the epoch."""
        ...

    @property
    def tags(self) -> Mapping[str, int]:
        """The numbers that stand for apps in packet marks, 1 to 65535, by app GUID."""
        ...

    async def add(self, policies: list[Policy]) -> None:
        """Add policies; those that are there already do no harm. Raises `PolicyStoreError`."""
        ...

    async def remove(self, policies: list[Policy]) -> None:
        """Remove policies; those that are not there do no harm. Raises `PolicyStoreError`."""
        ...
