"""The order in which the members of a pool take turns when their weights differ.

Pure arithmetic that every worker does alike, because they share one place in that order (`routing.board`).
"""

from collections.abc import Sequence
from math import gcd

MAX_TURNS = 100_000
"""A pool of up to a thousand members never has more. What has more than this is rounded, so that a change of
members costs no request more than some 20 ms."""


def turns_of(weights: Sequence[int]) -> list[int]:
    """Return positions in ``weights``, each as often as its weight says, no more often than needed.

    Turns of a member come at even distances, and so do those of all members of one weight taken together: 5, 1, 1
    is ``0 1 0 0 0 2 0``. The smooth weighted round-robin that nginx made known has much the same order, but takes
    as many steps for each turn as there are members: with a hundred of them and weights of 99 and 1, a second
    instead of 3 ms.

    Args:
        weights: at least one above 0; members of weight 0 have no turn.
    """
    members: dict[int, list[int]] = {}
    for position, weight in enumerate(_reduced(weights)):
        if weight:
            members.setdefault(weight, []).append(position)
    due: list[float] = []
    takers: list[int] = []
    for weight, positions in members.items():
        count = weight * len(positions)
        due += [(2 * turn + 1) / count for turn in range(count)]
        takers += positions * weight
    return [takers[turn] for turn in sorted(range(len(due)), key=due.__getitem__)]


def _reduced(weights: Sequence[int]) -> list[int]:
    divisor = gcd(*weights)
    # Rounded up, so that nobody who has a share loses it.
    coarse = -(-sum(weights) // (divisor * MAX_TURNS))
    return [-(-weight // (divisor * coarse)) for weight in weights]
