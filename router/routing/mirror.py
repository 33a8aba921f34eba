"""A worker's copy of the route table, kept up to date by the changes control sends.

Owns the translation of `routing.records` changes into pools; does not own the stream they come by. One law:
changes are applied in the order of their sequence numbers or not at all.
"""

from collections.abc import Callable, Sequence

from router.routing.access import InternalTable
from router.routing.internal_records import INTERNAL_CHANGES, AnyChange
from router.routing.pool import Endpoint, Pool
from router.routing.records import (
    PLAIN,
    Change,
    DefineEndpoint,
    DropPool,
    EndpointRecord,
    ForgetEndpoints,
    PoolOptions,
    PutEmptyPool,
    PutEndpoint,
    RemoveEndpoint,
    SetPoolOptions,
)
from router.routing.sharing import Shared
from router.routing.table import RouteTable


class SequenceGap(Exception):
    """A change is missing: the table cannot be trusted until a new snapshot has come."""


class Mirror:
    """Applies changes to a `RouteTable`.

    Args:
        on_endpoint_gone: called with every endpoint that no pool can choose any more, so that its idle
            connections get closed.
        on_internal_change: called after a frame that changed what internal routing decides by.

    Attributes:
        internal: identities, policies and internal names.
        table: what requests are looked up in. A new snapshot replaces it only once it is whole, so a resync
            never shows requests a half-filled table.
    """

    def __init__(
        self, on_endpoint_gone: Callable[[Endpoint], None], on_internal_change: Callable[[], None] = lambda: None
    ) -> None:
        self.table = RouteTable()
        self._endpoints: dict[int, Endpoint] = {}
        self._gone = on_endpoint_gone
        self._internal_changed = on_internal_change
        self._sequence = 0
        self._filling: RouteTable | None = None
        self._replaced: dict[int, Endpoint] = {}
        self._texts = Shared()
        self._options: dict[PoolOptions, PoolOptions] = {}
        self.internal = InternalTable()
        self._filling_internal: InternalTable | None = None

    def apply(self, sequence: int, snapshot: int, changes: Sequence[AnyChange]) -> None:
        """Apply one frame. Raises `SequenceGap`, after which only a snapshot helps."""
        if snapshot == 1:
            self._filling = RouteTable()
            self._filling_internal = InternalTable()
            # A snapshot may begin while another is unfinished, whose endpoints are not all that live.
            self._replaced.update(self._endpoints)
            self._endpoints = {}
        elif sequence != self._sequence + 1:
            raise SequenceGap(f"frame {sequence} after {self._sequence}")
        self._sequence = sequence
        table = self._filling if self._filling is not None else self.table
        internal = self._filling_internal if self._filling_internal is not None else self.internal
        before = internal.version
        for change in changes:
            if isinstance(change, INTERNAL_CHANGES):
                internal.apply(change)
            else:
                self._apply(table, change)
        if internal is self.internal and internal.version != before:
            self._internal_changed()

    def finish_snapshot(self) -> None:
        """Put the snapshot in place. Endpoints it has in common with the old table keep their state."""
        if self._filling is None:
            return
        self.table, self._filling = self._filling, None
        if self._filling_internal is not None:
            self._filling_internal.version += self.internal.version
            self.internal, self._filling_internal = self._filling_internal, None
            self._internal_changed()
        for endpoint_id, endpoint in self._replaced.items():
            if endpoint_id not in self._endpoints:
                self._forget(endpoint)
        self._replaced = {}

    def remove_failed(self, pool: Pool, endpoint: Endpoint) -> None:
        """Take out an endpoint this worker could not connect to, ahead of control's word.

        A pool that becomes empty stays until control drops it, at its next prune pass (GOROUTER.md §4.6).
        """
        pool.remove(endpoint.endpoint_id)

    def mark(self, endpoint_id: int, now: float) -> None:
        """Another worker could not connect to an endpoint, at this monotonic second."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is not None:
            endpoint.failed_at = now

    def _apply(self, table: RouteTable, change: Change) -> None:
        if isinstance(change, PutEndpoint):
            self._put(table, change)
        elif isinstance(change, DefineEndpoint):
            self._define(change.endpoint_id, change.record)
        elif isinstance(change, RemoveEndpoint):
            pool = table.pool(change.key)
            if pool is not None:
                pool.remove(change.endpoint_id)
        elif isinstance(change, SetPoolOptions):
            pool = table.pool(change.key)
            if pool is not None:
                pool.options = self._shared(change.options)
        elif isinstance(change, PutEmptyPool):
            table.add(Pool(change.key, change.context_path, self._shared(change.options)))
        elif isinstance(change, DropPool):
            table.remove(change.key)
        elif isinstance(change, ForgetEndpoints):
            for endpoint_id in change.endpoint_ids:
                endpoint = self._endpoints.pop(endpoint_id, None)
                self._replaced.pop(endpoint_id, None)
                if endpoint is not None:
                    self._forget(endpoint)

    def _define(self, endpoint_id: int, record: EndpointRecord) -> None:
        known = self._replaced.get(endpoint_id)
        if known is None:
            known = Endpoint(endpoint_id, self._compact(record), self._texts.packed(record.tags))
        self._endpoints[endpoint_id] = known

    def _compact(self, record: EndpointRecord) -> EndpointRecord:
        """Return the record as it is kept: a large table is mostly texts, and most of them are equal."""
        text = self._texts.text
        return EndpointRecord(
            text(record.host),
            record.port,
            record.tls,
            text(record.app),
            text(record.instance_id),
            text(record.instance_index),
            text(record.san),
            text(record.protocol),
            text(record.availability_zone),
            text(record.isolation_segment),
            updated_at_ns=record.updated_at_ns,
            weight=record.weight,
        )

    def _put(self, table: RouteTable, change: PutEndpoint) -> None:
        endpoint = self._endpoints.get(change.endpoint_id)
        if endpoint is None:
            raise SequenceGap(f"endpoint {change.endpoint_id} was never defined")
        pool = table.pool(change.key)
        if pool is None:
            pool = Pool(change.key, change.context_path, self._shared(change.options))
            table.add(pool)
        else:
            pool.options = self._shared(change.options)
        pool.put(endpoint, self._endpoints.get(change.replaces))

    def _forget(self, endpoint: Endpoint) -> None:
        endpoint.gone = True
        self._gone(endpoint)

    def _shared(self, options: PoolOptions) -> PoolOptions:
        """Return one object for equal options: a large table has few different ones."""
        if options == PLAIN:
            return PLAIN
        if len(self._options) > 1024:
            self._options.clear()
        return self._options.setdefault(options, options)
