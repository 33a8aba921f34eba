"""Which endpoint of a pool an attempt goes to (GOROUTER.md §6.1, 6.2, 4.8).

Pure decisions: time and randomness are arguments. An attempt never goes to an endpoint that this exchange has
tried already while another is left; Gorouter's least-connection forgets what it tried.
"""

from collections.abc import Callable

from router.routing.pool import Endpoint, Pool

ROUND_ROBIN = "round-robin"
LEAST_CONNECTION = "least-connection"


class Balancer:
    """Chooses endpoints for one worker.

    Args:
        algorithm: used for pools that do not name their own.
        max_in_flight: an endpoint with this many exchanges in flight is not chosen; 0 is no limit.
        mark_s: how long a failure mark holds, in seconds.
        random: returns a number in [0, 1).
    """

    def __init__(self, algorithm: str, max_in_flight: int, mark_s: float, random: Callable[[], float]) -> None:
        self._least = algorithm == LEAST_CONNECTION
        self._max_in_flight = max_in_flight
        self._mark_s = mark_s
        self._random = random

    def all_overloaded(self, pool: Pool) -> bool:
        """Whether no endpoint of a pool that has some may take another exchange."""
        limit = self._max_in_flight
        if not limit:
            return False
        for endpoint in pool.endpoints:
            if endpoint.in_flight < limit:
                return False
        return bool(pool.endpoints)

    def choose(self, pool: Pool, tried: list[Endpoint] | None, now: float) -> Endpoint | None:
        """Return the endpoint for the next attempt, or None if there is none to be had.

        Args:
            tried: endpoints that earlier attempts of this exchange went to.
            now: monotonic seconds.
        """
        endpoints = pool.endpoints
        if len(endpoints) == 1:
            only = endpoints[0]
            return None if self._overloaded(only) else only
        if not endpoints:
            return None
        if tried and all(endpoint in tried for endpoint in endpoints):
            tried = None
        algorithm = pool.options.algorithm
        least = self._least if not algorithm else algorithm == LEAST_CONNECTION
        if least:
            return self._least_connection(endpoints, tried, now)
        return self._round_robin(pool, tried, now)

    def _overloaded(self, endpoint: Endpoint) -> bool:
        return self._max_in_flight > 0 and endpoint.in_flight >= self._max_in_flight

    def _round_robin(self, pool: Pool, tried: list[Endpoint] | None, now: float) -> Endpoint | None:
        endpoints = pool.endpoints
        count = len(endpoints)
        cursor = pool.cursor
        if cursor < 0:
            cursor = int(self._random() * count)
        fallback = -1
        for step in range(count):
            index = (cursor + step) % count
            endpoint = endpoints[index]
            if self._overloaded(endpoint) or (tried and endpoint in tried):
                continue
            if endpoint.failed_at:
                if now - endpoint.failed_at < self._mark_s:
                    if fallback < 0:
                        fallback = index
                    continue
                endpoint.failed_at = 0.0
            pool.cursor = index + 1
            return endpoint
        if fallback < 0:
            return None
        # Nothing unmarked is left: all marks are dropped and the pool is used as if it were healthy.
        for endpoint in endpoints:
            endpoint.failed_at = 0.0
        pool.cursor = fallback + 1
        return endpoints[fallback]

    def _least_connection(
        self, endpoints: list[Endpoint], tried: list[Endpoint] | None, now: float
    ) -> Endpoint | None:
        # Gorouter: marks are not looked at, so an endpoint that refuses connections, having nothing in flight,
        # is tried first by every request.
        count = len(endpoints)
        start = int(self._random() * count)
        best: Endpoint | None = None
        best_rank = (False, 0)
        for step in range(count):
            endpoint = endpoints[(start + step) % count]
            if self._overloaded(endpoint) or (tried and endpoint in tried):
                continue
            marked = endpoint.failed_at and now - endpoint.failed_at < self._mark_s
            rank = (bool(marked), endpoint.in_flight)
            if best is None or rank < best_rank:
                best, best_rank = endpoint, rank
        return best
