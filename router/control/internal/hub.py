"""Where everything that internal routing decides by comes together in control.

Owns control's `InternalTable` and the changes that are still to be sent to the workers; does not own
where facts come from. One law: control decides by exactly what it has sent, or is about to send, to the workers.
"""

from collections.abc import Callable, Iterator

from router.routing.access import InternalTable
from router.routing.internal_records import InternalChange, Policy, PutPolicies, SetInternalState


class InternalHub:
    """Takes changes from the feeds (names, identities, policies); a source for the publisher.

    Args:
        on_changes: called whenever there is something new for the workers.

    Attributes:
        table: control's own copy, for DNS and the HTTP APIs.
    """

    def __init__(self, on_changes: Callable[[], None]) -> None:
        self.table = InternalTable()
        self._on_changes = on_changes
        self._changes: list[InternalChange] = []

    def put(self, change: InternalChange) -> None:
        """Apply a change here, and send it to the workers."""
        self.table.apply(change)
        self._changes.append(change)
        self._on_changes()

    def set_policies(self, policies: list[Policy]) -> None:
        """Replace the whole policy set; only sources whose policies differ become changes."""
        by_source: dict[str, list[Policy]] = {source: [] for source in self.table.sources()}
        for policy in policies:
            by_source.setdefault(policy.source, []).append(policy)
        for source, wanted in by_source.items():
            wanted.sort()
            if wanted != sorted(self.table.policies_of(source)):
                self.put(PutPolicies(source, wanted))

    def set_ready(self, *, policies: bool | None = None, names: bool | None = None) -> None:
        """Say whether policies and names can be relied on; None leaves a part as it is."""
        table = self.table
        policies_ready = table.policies_ready if policies is None else policies
        names_warm = table.names_warm if names is None else names
        if (policies_ready, names_warm) != (table.policies_ready, table.names_warm):
            self.put(SetInternalState(policies_ready, names_warm))

    def take_changes(self) -> list[InternalChange]:
        """Return what is new since the last call, in order (`publisher.Source`)."""
        changes, self._changes = self._changes, []
        return changes

    def snapshot(self, chunk: int) -> Iterator[list[InternalChange]]:
        """Return everything as it is at the call (`publisher.Source`)."""
        return self.table.snapshot(chunk)
