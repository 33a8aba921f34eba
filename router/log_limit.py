"""How many lines of one kind may be logged, whoever provokes them.

Owns the count; does not own the log. One law: what is left out is counted, and the next line that is written
says how much that was.
"""


class LogLimit:
    """Allows a burst of lines, then a steady rate. ``now`` is seconds of one monotonic clock.

    Args:
        burst: lines that may come at once.
        per_second: lines a second after that.
    """

    def __init__(self, burst: int = 20, per_second: float = 1.0) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._left = float(burst)
        self._at = 0.0
        self._suppressed = 0

    def admit(self, now: float) -> bool:
        """Whether a line may be written now."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1.0:
            self._suppressed += 1
            return False
        self._left -= 1.0
        return True

    def take_suppressed(self) -> int:
        """Return how many lines were left out since the last call."""
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed
