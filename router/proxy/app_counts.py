"""Which apps were asked for, and how often: for ``router.active_apps`` and ``/varz``."""

from router.proxy.observer import Observed


class AppCounts:
    """Counts exchanges by app between two looks; an `Observer`."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def attempted(self, exchange: Observed, failed: bool, now: float) -> None:
        """Attempts do not count: what was asked for did."""

    def finished(self, exchange: Observed, now: float) -> None:
        endpoint = exchange.endpoint
        if endpoint is not None and endpoint.record.app:
            app = endpoint.record.app
            self._counts[app] = self._counts.get(app, 0) + 1

    def take(self) -> dict[str, int]:
        """Return what was counted since the last call, by app."""
        counts, self._counts = self._counts, {}
        return counts
