"""Which endpoint of a pool an attempt goes to (GOROUTER.md §6.1-6.3, 6.7, 6.9, 4.8).

Pure decisions: time and randomness are arguments. An attempt never goes to an endpoint that this exchange has
tried already while another is left; Gorouter's least-connection forgets what it tried. It has no weights either:
where they are equal, as nearly everywhere, nothing is done for them.
"""

from collections.abc import Callable

from router.routing.board import Board
from router.routing.hashing import DEFAULT_TABLE_SIZE
from router.routing.pool import Endpoint, Pool

ROUND_ROBIN = "round-robin"
LEAST_CONNECTION = "least-connection"
HASH = "hash"


class Balancer:
    """Chooses endpoints for one worker.

    Args:
        algorithm: used for pools that do not name their own.
        max_in_flight: an endpoint with this many exchanges in flight is not chosen; 0 is no limit.
        mark_s: how long a failure mark holds, in seconds.
        random: returns a number in [0, 1).
        zone: the availability zone this router is in.
        az_local: first attempts go to endpoints of the same zone if there is one to be had.
        table_size: slots of the hash table of a pool; a prime.
        board: what the other workers know; None if there are none.
    """

    def __init__(
        self,
        algorithm: str,
        max_in_flight: int,
        mark_s: float,
        random: Callable[[], float],
        zone: str = "",
        az_local: bool = False,
        table_size: int = DEFAULT_TABLE_SIZE,
        board: Board | None = None,
    ) -> None:
        self._least = algorithm == LEAST_CONNECTION
        self._max_in_flight = max_in_flight
        self._mark_s = mark_s
        self._random = random
        self._zone = zone
        self._az_local = az_local
        self._table_size = table_size
        self._board = board

    def all_overloaded(self, endpoints: list[Endpoint]) -> bool:
        """Whether none of some endpoints may take another exchange; false if there are none."""
        limit = self._max_in_flight
        if not limit:
            return False
        for endpoint in endpoints:
            if self._in_flight(endpoint) < limit:
                return False
        return bool(endpoints)

    def by_instance(self, pool: Pool, wanted: bytes) -> Endpoint | None:
        """Return the endpoint that a sticky cookie names by instance id, or else by address.

        None if there is no such member or it is overloaded; a failure mark is not looked at.
        """
        name = wanted.decode(errors="replace")
        if not name:
            return None
        found: Endpoint | None = None
        for endpoint in pool.endpoints:
            if endpoint.record.instance_id == name:
                found = endpoint
                break
            if endpoint.address == name:
                found = endpoint
        return None if found is None or self._overloaded(found) else found

    def choose(
        self, pool: Pool, tried: list[Endpoint] | None, now: float, hash_key: bytes = b""
    ) -> Endpoint | None:
        """Return the endpoint for the next attempt, or None if there is none to be had.

        Args:
            tried: endpoints that earlier attempts of this exchange went to.
            now: monotonic seconds.
            hash_key: for pools that hash, the value of their header; without one the router's algorithm is used.
        """
        endpoints = pool.endpoints
        if len(endpoints) == 1:
            only = endpoints[0]
            return None if self._overloaded(only) else only
        if not endpoints:
            return None
        least = self._least
        algorithm = pool.options.algorithm
        if algorithm:
            if algorithm != HASH:
                least = algorithm == LEAST_CONNECTION
            elif hash_key:
                return self._hashed(pool, tried, hash_key)
        if pool.turns is not endpoints and pool.is_weighted():
            return self._weighted(pool, tried, now, least)
        if tried:
            if _exhausted(endpoints, tried):
                tried = None
        elif self._az_local:
            local = self._local(pool, now, least)
            if local is not None:
                return local
        if least:
            return self._least_connection(pool, endpoints, tried, now)
        return self._round_robin(pool, tried, now)

    def _overloaded(self, endpoint: Endpoint) -> bool:
        return self._max_in_flight > 0 and self._in_flight(endpoint) >= self._max_in_flight

    def _in_flight(self, endpoint: Endpoint) -> int:
        """Return what is in flight at an endpoint, of all workers if that is known."""
        if self._board is None or not endpoint.endpoint_id:
            return endpoint.in_flight
        return self._board.in_flight(endpoint.endpoint_id)

    def _turn(self, pool: Pool) -> int:
        """Return the place among a pool's turns that is next; the first one is at random."""
        board = self._board
        first = pool.endpoints[0].endpoint_id
        turn = pool.cursor if board is None or not first else board.turn(first) or -1
        return turn if turn >= 0 else int(self._random() * len(pool.turns or pool.endpoints))

    def _took(self, pool: Pool, index: int) -> None:
        """It is the turn of the place after this one."""
        first = pool.endpoints[0].endpoint_id
        if self._board is None or not first:
            pool.cursor = index + 1
        else:
            self._board.set_turn(first, index + 1)

    def _marked(self, pool: Pool, endpoint: Endpoint, now: float) -> bool:
        return endpoint.failed_at != 0.0 and now - endpoint.failed_at < self._mark_s and pool.part_of is None

    def _round_robin(self, pool: Pool, tried: list[Endpoint] | None, now: float) -> Endpoint | None:
        endpoints = pool.endpoints
        count = len(endpoints)
        cursor = self._turn(pool)
        fallback = -1
        for step in range(count):
            index = (cursor + step) % count
            endpoint = endpoints[index]
            if self._overloaded(endpoint) or (tried and endpoint in tried):
                continue
            if endpoint.failed_at and pool.part_of is None:
                if now - endpoint.failed_at < self._mark_s:
                    if fallback < 0:
                        fallback = index
                    continue
                endpoint.failed_at = 0.0
            self._took(pool, index)
            return endpoint
        if fallback < 0:
            return None
        # Nothing unmarked is left: all marks are dropped and the pool is used as if it were healthy.
        for endpoint in endpoints:
            endpoint.failed_at = 0.0
        self._took(pool, fallback)
        return endpoints[fallback]

    def _least_connection(
        self, pool: Pool, endpoints: list[Endpoint], tried: list[Endpoint] | None, now: float
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
            marked = endpoint.failed_at and self._marked(pool, endpoint, now)
            rank = (bool(marked), self._in_flight(endpoint))
            if best is None or rank < best_rank:
                best, best_rank = endpoint, rank
        return best

    # Our own availability zone.

    def _local(self, pool: Pool, now: float, least: bool) -> Endpoint | None:
        """Return a healthy endpoint of our zone, if there is one."""
        # Gorouter: a zone without a healthy endpoint costs those of the other zones their failure marks.
        endpoints = pool.endpoints
        if least:
            usable = [endpoint for endpoint in endpoints if self._usable_here(pool, endpoint, now)]
            return self._least_connection(pool, usable, None, now) if usable else None
        count = len(endpoints)
        cursor = self._turn(pool)
        for step in range(count):
            index = (cursor + step) % count
            if self._usable_here(pool, endpoints[index], now):
                self._took(pool, index)
                return endpoints[index]
        return None

    def _usable_here(self, pool: Pool, endpoint: Endpoint, now: float) -> bool:
        return (
            endpoint.record.availability_zone == self._zone
            and not self._overloaded(endpoint)
            and not self._marked(pool, endpoint, now)
        )

    # Where weights differ.

    def _weighted(self, pool: Pool, tried: list[Endpoint] | None, now: float, least: bool) -> Endpoint | None:
        """Choose among the members that have a weight: in our zone, else a healthy one, else any."""
        members = pool.candidates()
        if tried:
            if _exhausted(members, tried):
                tried = None
        elif self._az_local:
            local = self._by_weight(pool, None, now, least, True)
            if local is not None:
                return local
        healthy = self._by_weight(pool, tried, now, least, False)
        if healthy is not None:
            return healthy
        left = [each for each in members if not (tried and each in tried) and not self._overloaded(each)]
        if least or not left:
            return self._least_for_weight(left)
        # As where weights are equal: all marks are dropped.
        for each in members:
            each.failed_at = 0.0
        return self._by_weight(pool, tried, now, least, False)

    def _by_weight(
        self, pool: Pool, tried: list[Endpoint] | None, now: float, least: bool, local: bool
    ) -> Endpoint | None:
        """Return a healthy member: whose turn it is, or who has least in flight for its weight.

        If none has a turn soon, as when the one that has most of them failed, one is drawn: nobody is to search a
        long order for each request.
        """
        if not least:
            turns = pool.turns or pool.endpoints
            place = self._turn(pool)
            for step in range(len(pool.endpoints)):
                index = (place + step) % len(turns)
                if self._fits(pool, turns[index], tried, now, local):
                    self._took(pool, index)
                    return turns[index]
        healthy = [each for each in pool.candidates() if self._fits(pool, each, tried, now, local)]
        return self._least_for_weight(healthy) if least else self._drawn(healthy)

    def _fits(self, pool: Pool, endpoint: Endpoint, tried: list[Endpoint] | None, now: float, local: bool) -> bool:
        return (
            (not local or endpoint.record.availability_zone == self._zone)
            and not (tried and endpoint in tried)
            and not self._marked(pool, endpoint, now)
            and not self._overloaded(endpoint)
        )

    def _least_for_weight(self, among: list[Endpoint]) -> Endpoint | None:
        loads = [self._in_flight(each) / each.record.weight for each in among]
        least = min(loads, default=0.0)
        return self._drawn([each for each, load in zip(among, loads, strict=True) if load == least])

    def _drawn(self, among: list[Endpoint]) -> Endpoint | None:
        """Return one by chance, in proportion to its weight."""
        left = self._random() * sum([each.record.weight for each in among])
        for each in among:
            left -= each.record.weight
            if left < 0.0:
                return each
        return among[-1] if among else None

    # By the value of a header.

    def _hashed(self, pool: Pool, tried: list[Endpoint] | None, hash_key: bytes) -> Endpoint | None:
        """Return the first balanced endpoint from the slot of the key on; the first of all if none is balanced.

        A retry that starts from the same slot and passes over what was tried comes to the same as going on from
        the last slot. Gorouter answers 502 when what is left has too much in flight, as it may have if one
        endpoint fails each of its requests at once and brings the mean down.
        """
        members = pool.candidates()
        whole = pool if pool.part_of is None else pool.part_of
        if tried and _exhausted(members, tried):
            tried = None
        balance = pool.options.hash_balance
        mean = sum([self._in_flight(each) for each in members]) / sum(map(_share, members)) if balance else 0.0
        fallback: Endpoint | None = None
        for endpoint in whole.hash_table(self._table_size).owners_of(hash_key):
            if self._overloaded(endpoint) or (tried and endpoint in tried):
                continue
            if members is not whole.endpoints and endpoint not in members:
                continue
            if not mean or self._in_flight(endpoint) / (mean * _share(endpoint)) <= balance:
                return endpoint
            fallback = fallback or endpoint
        return fallback


def _share(endpoint: Endpoint) -> int:
    """Return a candidate's weight; where it is 0 all candidates have that, and are equal."""
    return endpoint.record.weight or 1


def _exhausted(endpoints: list[Endpoint], tried: list[Endpoint]) -> bool:
    return all(endpoint in tried for endpoint in endpoints)
