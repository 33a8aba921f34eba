"""What the peer of an HTTP/2 connection may do, and how often.

Pure counting; who counts what, and what follows, is in `wire.http2` and its halves.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may do.

    Attributes:
        streams: it may have open at once.
        window: bytes of a stream's body it may send ahead of what is taken.
        list_bytes: header list it is told not to exceed. A little more is read, so that it can be answered; twice
            as much and 64 KiB end the connection.
        control_frames: frames a second that move nothing forward: SETTINGS, PING, PRIORITY, empty DATA, ….
        resets: streams a second that it may open and then spoil, or cancel before their response.
        small_frames: of DATA below 32 bytes a second; the rest is read later, which slows the peer down and breaks
            nothing, for it may be a lively conversation.
    """

    streams: int = 250
    window: int = 128 * 1024
    list_bytes: int = 1024 * 1024
    control_frames: int = 1000
    resets: int = 100
    small_frames: int = 20_000


class Allowance:
    """How often something may happen: so many times at once and a second, and more if it is earned.

    Args:
        rate: times a second.
        most: times at once, however much was earned; at the beginning it is ``rate``.
    """

    __slots__ = ("_left", "_most", "_rate", "_since")

    def __init__(self, rate: int, most: int) -> None:
        self._left = float(rate)
        self._rate = rate
        self._most = most
        self._since = 0.0

    def take(self, now: float) -> bool:
        """Use one; False if there is none. ``now`` is monotonic seconds."""
        self._left -= 1
        if self._left < 0:
            # Time fills it up only now, so that all the ordinary cases cost a subtraction.
            earned = min((now - self._since) * self._rate, self._rate) if self._since else self._rate
            self._since = now
            self._left += earned
            if self._left < 0:
                self._left += 1
                return False
        return True

    def give(self, count: int) -> None:
        """Something useful was done."""
        if self._left < self._most:
            self._left += count
