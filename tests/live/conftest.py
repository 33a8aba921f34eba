"""One router for all live tests that can do with the ordinary configuration; one a module for the others."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.announce import Announcer, Routes
from tests.support.nats import NatsServer
from tests.support.rawclient import RawClient
from tests.support.recorder import RecordingBackend, plain
from tests.support.router import RunningRouter


@dataclass(slots=True)
class Live:
    """A running router and what is needed to talk with it from both sides."""

    router: RunningRouter
    routes: Routes
    announcer: Announcer
    _hosts: Iterator[int]

    def host(self, name: str = "app") -> str:
        """Return a host name that no other test uses."""
        return f"{name}-{next(self._hosts)}.test"

    def client(self, **options: Any) -> RawClient:
        return RawClient(self.router.port, **options)

    def route(self, *backends: RecordingBackend, host: str | None = None, **fields: Any) -> str:
        """Announce backends under one host, by default a new one, and return it once it is routed."""
        name = host or self.host()
        for backend in backends:
            self.routes.register(name, backend=backend, **fields)
        return name


StartLive = Callable[[Mapping[str, Any]], Live]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def hosts() -> Iterator[int]:
    """Numbers for names: all routers hear all announcements, so a name may be used by one of them only."""
    return itertools.count(1)


@contextmanager
def starting(broker: NatsServer, factory: pytest.TempPathFactory, hosts: Iterator[int]) -> Iterator[StartLive]:
    """Give what starts routers; they are stopped at the end of the block."""
    with ExitStack() as running:

        def start(config: Mapping[str, Any]) -> Live:
            router = running.enter_context(RunningRouter(factory.mktemp("router"), broker.port, config))
            announcer = Announcer(broker.port)
            running.callback(announcer.close)
            routes = Routes(announcer, router.port)
            running.callback(routes.close)
            return Live(router, routes, announcer, hosts)

        yield start


@pytest.fixture(scope="module")
def start_live(
    broker: NatsServer, tmp_path_factory: pytest.TempPathFactory, hosts: Iterator[int]
) -> Iterator[StartLive]:
    """Start a router with a configuration of its own; it is stopped with the last test of the module."""
    with starting(broker, tmp_path_factory, hosts) as start:
        yield start


@pytest.fixture(scope="session")
def shared(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory, hosts: Iterator[int]) -> Iterator[Live]:
    with starting(broker, tmp_path_factory, hosts) as start:
        yield start({})


@pytest.fixture
def live(shared: Live) -> Iterator[Live]:
    """The shared router; a test that takes its process or one of its workers down with it fails by name."""
    worker = shared.router.worker
    yield shared
    assert shared.router.process is not None
    assert shared.router.process.poll() is None, f"control died: {shared.router.story()}"
    assert shared.router.workers() == [worker], f"the worker died: {shared.router.story()}"


@pytest.fixture
def backend() -> Iterator[RecordingBackend]:
    """A backend that answers 200 ``ok`` to everything."""
    with RecordingBackend(plain) as running:
        yield running
