"""A data plane in a thread of this process, so that tests can look inside it while they talk to it by sockets."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar, overload

import msgspec

from router.config.schema import Config
from router.dataplane import DataPlane
from router.frontend.connection import Served
from router.frontend.http1 import ClientConnection
from router.log import DEBUG, Logger
from router.routing.internal_records import AnyChange
from router.routing.pool import Endpoint
from router.routing.records import DefineEndpoint, EndpointRecord, PoolOptions, PutEmptyPool, PutEndpoint
from router.sync import Listener
from tests.support.rawclient import RawClient
from tests.support.recorder import RecordingBackend
from tests.support.waiting import PATIENCE_S, wait_until

T = TypeVar("T")
TICK_S = 0.01


def config(**keys: Any) -> Config:
    """A configuration with keep-alive to endpoints, unless said otherwise."""
    return msgspec.convert({"disable_keep_alives": False, **keys}, Config)


class PlaneClient(RawClient):
    """A client in step with its plane: by the time it has bytes, the plane is through with whatever sent them.

    So a test that has read an answer may look at counters, marks and the log, which are set after it was written.
    """

    def __init__(self, plane: "RunningPlane", port: int, **options: Any) -> None:
        super().__init__(port, **options)
        self._plane = plane

    def _more(self) -> bool:
        more = super()._more()
        self._plane.catch_up()
        return more


class RunningPlane:
    """Use as a context manager; leaving it cuts whatever is still going on.

    Attributes:
        log: lines of the component log.
        failed: route key and endpoint id of every endpoint reported as failed.
    """

    def __init__(self, configuration: Config) -> None:
        self.log: list[dict[str, Any]] = []
        self.failed: list[tuple[str, int]] = []
        self.port = 0
        self.internal_port = 0
        self._config = configuration
        self._sequence = 0
        self._endpoints = 0
        self._sweeps = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop = asyncio.Event()

    def __enter__(self) -> "RunningPlane":
        self._thread.start()
        self.call(self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call(self.plane.close)
        wait_until(lambda: not self.clients and not len(self.plane.connections), "connections are closed")
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)

    @overload
    def call(self, action: Callable[[], Coroutine[Any, Any, T]]) -> T: ...
    @overload
    def call(self, action: Callable[[], T]) -> T: ...
    def call(self, action: Callable[[], Any]) -> Any:
        """Do something in the loop's thread, awaiting it if need be, and return what comes of it."""

        async def act() -> Any:
            result = action()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(PATIENCE_S)

    @contextmanager
    def without_deadlines(self) -> Iterator[None]:
        """Within the block no deadline of clients and exchanges passes, however long this machine takes for it.

        What comes due meanwhile is due when the block ends. Time-outs of dialling and handshakes are not held up.
        """
        self.call(lambda: self._sweep(False))
        try:
            yield
        finally:
            self.call(lambda: self._sweep(True))

    # Routes.

    def apply(self, *changes: AnyChange) -> None:
        """Change the table as control would."""
        self._sequence += 1
        self.call(lambda: self.plane.mirror.apply(self._sequence, 0, changes))

    def route(self, key: str, *targets: RecordingBackend | int, **fields: Any) -> list[Endpoint]:
        """Register backends, or mere ports, under a route key; return their endpoints."""
        first = self._endpoints + 1
        for target in targets:
            self._endpoints += 1
            port = target if isinstance(target, int) else target.port
            record = EndpointRecord(**{"host": "127.0.0.1", "port": port, **fields})
            self.apply(DefineEndpoint(self._endpoints, record))
            self.apply(PutEndpoint(key, "/", self._endpoints, 0, PoolOptions()))
        if not targets:
            self.apply(PutEmptyPool(key, "/", PoolOptions()))
            return []
        pool = self.plane.mirror.table.pool(key)
        assert pool is not None
        return [each for each in pool.endpoints if each.endpoint_id >= first]

    # Looking at it.

    @property
    def clients(self) -> set[Served]:
        return self.plane._clients

    def only_client(self) -> ClientConnection:
        """The one client connection there is, which speaks HTTP/1."""
        wait_until(lambda: len(self.clients) == 1, "the client is accepted")
        (client,) = self.clients
        assert isinstance(client, ClientConnection)
        return client

    def is_idle(self) -> bool:
        """Whether no exchange is in progress."""
        return not self.plane.proxy.active

    def messages(self) -> list[str]:
        return [line["message"] for line in self.log]

    def client(self, **options: Any) -> RawClient:
        return PlaneClient(self, self.port, **options)

    def internal_client(self, **options: Any) -> RawClient:
        """Connect to the listener of internal routes."""
        return PlaneClient(self, self.internal_port, **options)

    def catch_up(self) -> None:
        """Return when the plane is through with what it is in the midst of."""
        if self._thread.is_alive():
            self.call(lambda: None)

    # The inside.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._live())
        self._loop.close()

    async def _live(self) -> None:
        while not self._stop.is_set():
            if self._sweeps and hasattr(self, "plane"):
                self.plane.sweep()
            try:
                await asyncio.wait_for(self._stop.wait(), TICK_S)
            except TimeoutError:
                continue

    def _sweep(self, sweeps: bool) -> None:
        self._sweeps = sweeps

    async def _begin(self) -> None:
        logger = Logger(level=DEBUG, sink=lambda line: self.log.append(msgspec.json.decode(line)))
        self.plane = DataPlane(self._config, logger, lambda key, number: self.failed.append((key, number)))
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        kind = "https" if self._config.enable_ssl else "http"
        listeners = [Listener(listener.detach(), kind, "")]
        if self._config.internal.enabled:
            inside = socket.create_server(("127.0.0.1", 0))
            self.internal_port = inside.getsockname()[1]
            secure = bool(self._config.internal.proxy.https_ports)
            listeners.append(Listener(inside.detach(), "internal-https" if secure else "internal-http", ""))
        await self.plane.listen(listeners)
