"""From the results of checks to what is to be said of a route.

Pure. One law: what is said does not flap with a single result where thresholds ask for several, and a route that
stays ill is not unregistered for ever (INTERNAL.md §5.2).
"""

import enum


class Verdict(enum.Enum):
    """What to do now."""

    ANNOUNCE = "announce"
    UNREGISTER = "unregister"
    """Say that it is gone, whether or not it was ever announced: a predecessor may have done that."""
    NOTHING = "nothing"


class Health:
    """One route's results in a row.

    Args:
        success_threshold: healthy results in a row until the route is announced.
        failure_threshold: failures in a row until it is unregistered.
        unregistration_limit: how many failures in a row are answered with an unregistration.
    """

    def __init__(self, success_threshold: int, failure_threshold: int, unregistration_limit: int) -> None:
        self.up = False
        self._success_threshold = success_threshold
        self._failure_threshold = failure_threshold
        self._limit = unregistration_limit
        self._successes = 0
        self._failures = 0
        self._unregistered = 0

    def after(self, healthy: bool) -> Verdict:
        """Take one result."""
        return self._after_success() if healthy else self._after_failure()

    def _after_success(self) -> Verdict:
        self._failures = self._unregistered = 0
        self._successes += 1
        if self.up or self._successes < self._success_threshold:
            return Verdict.NOTHING
        self.up = True
        return Verdict.ANNOUNCE

    def _after_failure(self) -> Verdict:
        self._successes = 0
        self._failures += 1
        if self._failures < self._failure_threshold:
            return Verdict.NOTHING
        self.up = False
        if self._unregistered == self._limit:
            return Verdict.NOTHING
        self._unregistered += 1
        return Verdict.UNREGISTER
