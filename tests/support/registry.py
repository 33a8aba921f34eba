"""Feeding a registry, and seeing what came of it, as workers and as the log do."""

from collections.abc import Callable
from typing import Any

from router.routing.mirror import Mirror
from router.routing.observer import RegistryObserver
from router.routing.registry import Registry
from router.wire.registration import Registration

Table = dict[str, list[str]]


def announced(
    *uris: str, host: str = "10.0.0.1", port: int = 80, tls: bool = False, **fields: Any
) -> Registration:
    """A registration as decoding a message gives it."""
    return Registration(host=host, port=port, tls=tls, uris=uris, **fields)


class Worker:
    """A worker's mirror, fed as the publisher feeds it: a snapshot, then every list of changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._sequence = 0
        self.mirror = Mirror(lambda endpoint: None)

    def take_snapshot(self, others: "list[Worker] | None" = None, chunk: int = 3) -> None:
        changes = self._registry.take_changes()
        for worker in others or ():
            worker.apply(changes)
        for kind, part in enumerate(self._registry.snapshot(chunk)):
            self._sequence += 1
            self.mirror.apply(self._sequence, 2 if kind else 1, part)
        self.mirror.finish_snapshot()

    def catch_up(self) -> None:
        self.apply(self._registry.take_changes())

    def apply(self, changes: list[Any]) -> None:
        self._sequence += 1
        self.mirror.apply(self._sequence, 0, changes)

    def table(self) -> Table:
        """Addresses by route key, in the order of the pool."""
        return {pool.key: [one.address for one in pool.endpoints] for pool in self.mirror.table.pools()}


class Log(RegistryObserver):
    """Keeps the name of every event with the first two things it is about."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in ("events", "names"):
            return super().__getattribute__(name)
        return self._recording(name)

    def _recording(self, name: str) -> Callable[..., None]:
        return lambda *about: self.events.append((name, *about))

    def names(self) -> list[str]:
        return [event[0] for event in self.events]
