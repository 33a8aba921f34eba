"""Announcing routes to the router under test, over NATS, as an agent on a cell does."""

import asyncio
import itertools
import json
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from tests.support.nats import settle
from tests.support.rawclient import BadResponse, RawClient
from tests.support.recorder import RecordingBackend
from tests.support.waiting import PATIENCE_S, wait_until

T = TypeVar("T")


class Announcer:
    """A NATS client on a thread of its own, for tests that are plain functions. Use as a context manager."""

    def __init__(self, nats_port: int) -> None:
        self.seen: list[tuple[str, bytes]] = []
        """Subject and payload of every message on the subjects listened to."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client: Client = self._await(self._connect(nats_port))

    def __enter__(self) -> "Announcer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._await(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def publish(self, subject: str, payload: bytes) -> None:
        """Publish, and wait until the server has it."""
        self._await(self._publish(subject, payload))

    def register(self, *uris: str, port: int, host: str = "127.0.0.1", **fields: Any) -> None:
        """Announce one endpoint under some uris; further fields as in the message."""
        self._announce("router.register", uris, port, host, fields)

    def unregister(self, *uris: str, port: int, host: str = "127.0.0.1", **fields: Any) -> None:
        self._announce("router.unregister", uris, port, host, fields)

    def listen(self, subject: str) -> None:
        """Keep every message on a subject in ``seen``."""
        self._await(self._listen(subject))

    def request(self, subject: str, payload: bytes = b"", *, timeout_s: float = PATIENCE_S) -> bytes:
        """Publish with a reply subject and return the reply."""
        message: Msg = self._await(self._client.request(subject, payload, timeout=timeout_s))
        return message.data

    def hears(self, subject: str) -> bool:
        """Whether anybody answers a request on the subject."""
        try:
            self.request(subject, timeout_s=5)
        except (NoRespondersError, nats.errors.TimeoutError):
            return False
        return True

    def _announce(self, subject: str, uris: tuple[str, ...], port: int, host: str, fields: dict[str, Any]) -> None:
        message = {"host": host, "uris": list(uris), **fields}
        if "tls_port" not in message:
            message["port"] = port
        self.publish(subject, json.dumps(message).encode())

    async def _connect(self, port: int) -> Client:
        return await nats.connect(
            f"nats://127.0.0.1:{port}",
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.05,
            error_cb=_ignore,
        )

    async def _publish(self, subject: str, payload: bytes) -> None:
        await self._client.publish(subject, payload)
        await settle(self._client)

    async def _listen(self, subject: str) -> None:
        async def keep(message: Msg) -> None:
            self.seen.append((message.subject, message.data))

        await self._client.subscribe(subject, cb=keep)
        await settle(self._client)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)


async def _ignore(_: Exception) -> None:
    """Tests kill the server on purpose; that is not news."""


class Routes:
    """Announces, and returns only when the one worker of a router routes accordingly.

    Changes travel in one ordered stream, so a canary route announced afterwards answers only when everything
    before it is in place: nothing but canaries is asked, and the backends of the test see no extra request.
    """

    def __init__(self, announcer: Announcer, router_port: int) -> None:
        self.announcer = announcer
        self._port = router_port
        self._numbers = itertools.count()
        self._canary = RecordingBackend()

    def close(self) -> None:
        self._canary.close()

    def register(self, *uris: str, backend: RecordingBackend | int, **fields: Any) -> None:
        self.announcer.register(*uris, port=_port(backend), **_tls(backend, fields))
        self.settle()

    def unregister(self, *uris: str, backend: RecordingBackend | int, **fields: Any) -> None:
        self.announcer.unregister(*uris, port=_port(backend), **_tls(backend, fields))
        self.settle()

    def settle(self) -> None:
        """Wait until everything announced so far is in the worker's table."""
        name = f"canary-{next(self._numbers)}.test"

        def is_routed() -> bool:
            # Again each time: where routes age within seconds, the first may be gone before it is asked.
            self.announcer.register(name, port=self._canary.port)
            return status_of(self._port, name) == 200

        wait_until(is_routed, f"canary {name} is routed")
        self.announcer.unregister(name, port=self._canary.port)


def status_of(port: int, host: str, path: str = "/") -> int:
    """Return the status of one GET on a fresh connection, 0 if there is no proper answer."""
    try:
        with RawClient(port, timeout_s=5) as client:
            return client.get(path, host=host, headers="Connection: close\r\n").status
    except (OSError, BadResponse):
        return 0


def _port(backend: RecordingBackend | int) -> int:
    return backend if isinstance(backend, int) else backend.port


def _tls(backend: RecordingBackend | int, fields: dict[str, Any]) -> dict[str, Any]:
    """A backend that speaks TLS is announced by ``tls_port``."""
    if isinstance(backend, RecordingBackend) and backend.speaks_tls:
        return {"tls_port": backend.port, **fields}
    return fields
