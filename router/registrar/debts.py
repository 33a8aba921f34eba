"""Withdrawals that routers have still to hear, and those that a router may have missed.

Owns which withdrawals are to be sent, and which once more; does not send them. One law: what is announced now is
not taken back by a withdrawal of the past.

NATS keeps nothing for who is away. After an outage an announcer may be connected before a router is, and what it
withdraws then the router never hears of: the route would stay until it is pruned. So what was withdrawn lately is
withdrawn again when a router says that it starts or is back.

Pure: the time, in seconds of any monotonic clock, is an argument.
"""

from collections.abc import Iterable

from router.registrar.announced import Announced, Place, left_behind
from router.registrar.dialect import Dialect

REPEAT_WITHIN_S = 60.0
"""A router that starts or is back later than this after a withdrawal is left to its own pruning."""

MOST = 100_000
"""Withdrawals remembered; beyond, the oldest are left to the routers' own pruning."""


class Debts:
    """The withdrawals of one announcer.

    Each is begun, then sent, and if no NATS server took it, it is owed.
    """

    def __init__(self) -> None:
        self._at: dict[Place, dict[Announced, None]] = {}
        """All there are, by what they are about."""
        self._owed: dict[Announced, None] = {}
        self._sent: dict[Announced, float] = {}
        """Until when to send each again if a router starts; in the order of these times, but for a few."""

    def begin(self, withdrawals: Iterable[Announced]) -> None:
        """Take note of withdrawals that are about to be sent."""
        for each in withdrawals:
            self._at.setdefault(each.place, {})[each] = None

    def still_due(self, withdrawals: Iterable[Announced]) -> list[Announced]:
        """Return those that have not been forgiven."""
        return [each for each in withdrawals if each in self._at.get(each.place, ())]

    def owe(self, withdrawals: Iterable[Announced]) -> None:
        """Keep withdrawals that were begun and could not be sent, except those forgiven meanwhile."""
        for each in self.still_due(withdrawals):
            self._sent.pop(each, None)
            self._owed[each] = None
        while len(self._owed) > MOST:
            self._forget(next(iter(self._owed)))

    def take_owed(self) -> list[Announced]:
        """Return what is owed, to be sent now; it counts as begun."""
        owed = list(self._owed)
        self._owed.clear()
        return owed

    def send(self, withdrawals: Iterable[Announced], now: float) -> None:
        """Note that these go out now: a router may begin to listen before it is known that a server took them."""
        for each in self.still_due(withdrawals):
            # What is sent again does not live longer by that.
            self._sent.setdefault(each, now + REPEAT_WITHIN_S)
        while self._sent and (len(self._sent) > MOST or next(iter(self._sent.values())) <= now):
            self._forget(next(iter(self._sent)))

    def recall(self, dialect: Dialect, now: float) -> None:
        """Owe again what was sent lately in a dialect: one of its routers has just begun to listen."""
        for each, until in self._sent.items():
            if until > now and each.dialect is dialect:
                self._owed[each] = None

    def forgive(self, announced: Announced) -> None:
        """Let go of what a route that is announced from now on says anew."""
        for old in list(self._at.get(announced.place, ())):
            until, was_owed = self._sent.get(old), old in self._owed
            self._forget(old)
            left = left_behind(old, announced)
            self.begin(left)
            if until is not None:
                self._sent.update(dict.fromkeys(left, until))
            if was_owed:
                self._owed.update(dict.fromkeys(left))

    def _forget(self, withdrawal: Announced) -> None:
        self._owed.pop(withdrawal, None)
        self._sent.pop(withdrawal, None)
        there = self._at[withdrawal.place]
        del there[withdrawal]
        if not there:
            del self._at[withdrawal.place]
