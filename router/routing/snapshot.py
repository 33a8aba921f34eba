"""A picture of the whole table at one moment, told as changes to an empty one.

Owns the picture; does not own the table, which may change while the picture is being told. One law: taking it is
quick enough to be done between two messages, and telling it can be interrupted at any chunk.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from router.routing.records import Change, DefineEndpoint, PoolOptions, PutEmptyPool, PutEndpoint
from router.routing.registrations import RegisteredEndpoint, RegisteredPool


class TableSnapshot:
    """References to what the table consists of now.

    Four flat lists instead of one entry a pool: a hundred thousand small containers would set off the garbage
    collector again and again, which took 380 ms instead of 40.
    """

    def __init__(self, pools: Iterable[RegisteredPool]) -> None:
        self._pools = list(pools)
        self._options: list[PoolOptions] = [pool.options for pool in self._pools]
        self._sizes: list[int] = [len(pool.members) for pool in self._pools]
        self._endpoints: list[RegisteredEndpoint] = [
            membership.endpoint for pool in self._pools for membership in pool.members.values()
        ]

    def chunks(self, changes_per_chunk: int) -> Iterator[list[Change]]:
        """Yield the changes in order, a chunk at a time, each of about this length."""
        defined: set[int] = set()
        chunk: list[Change] = []
        endpoints = iter(self._endpoints)
        for pool, options, size in zip(self._pools, self._options, self._sizes, strict=True):
            if size == 0:
                chunk.append(PutEmptyPool(pool.key, pool.context_path, options))
            for endpoint in islice(endpoints, size):
                if endpoint.id not in defined:
                    defined.add(endpoint.id)
                    chunk.append(DefineEndpoint(endpoint.id, endpoint.record))
                chunk.append(PutEndpoint(pool.key, pool.context_path, endpoint.id, 0, options))
            if len(chunk) >= changes_per_chunk:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
