"""A steady load of good clients, and an account of what became of each request."""

import collections
import threading
from dataclasses import dataclass, field

from tests.support.rawclient import BadResponse, RawClient
from tests.support.waiting import PATIENCE_S

PACE_S = 0.005


@dataclass(slots=True)
class Account:
    """What happened. ``refused`` counts connections that were not accepted."""

    statuses: "collections.Counter[int]" = field(default_factory=collections.Counter)
    refused: int = 0
    lost_first: int = 0
    """Connections lost on their first request."""
    lost_reused: int = 0
    """Connections lost while idle or on a later request."""


class Load:
    """Clients that ask for one host until stopped. Use as a context manager.

    Args:
        keep_alive: clients that keep their connection.
        fresh: clients that make a connection for each request.
    """

    def __init__(self, port: int, host: str, *, keep_alive: int = 4, fresh: int = 4) -> None:
        self.account = Account()
        self._port = port
        self._host = host
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask_on, args=(100_000,)) for _ in range(keep_alive)]
        self._threads += [threading.Thread(target=self._ask_on, args=(1,)) for _ in range(fresh)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> Account:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        return self.account

    @property
    def answered(self) -> int:
        return sum(self.account.statuses.values())

    def _ask_on(self, requests_per_connection: int) -> None:
        while not self._stop.is_set():
            try:
                client = RawClient(self._port)
            except OSError:
                self._note("refused")
                self._stop.wait(PACE_S)
                continue
            with client:
                self._converse(client, requests_per_connection)

    def _converse(self, client: RawClient, count: int) -> None:
        for number in range(count):
            if self._stop.is_set():
                return
            try:
                response = client.get(host=self._host)
            except (OSError, BadResponse):
                self._note("lost_reused" if number else "lost_first")
                return
            with self._lock:
                self.account.statuses[response.status] += 1
            self._stop.wait(PACE_S)
            if (response.header("Connection") or "").lower() == "close":
                return

    def _note(self, what: str) -> None:
        with self._lock:
            setattr(self.account, what, getattr(self.account, what) + 1)
