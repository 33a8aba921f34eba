"""One engine, one nats-server and one router for all tests of a module, and a watcher for each test."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.announce import status_of
from tests.support.docker import Docker
from tests.support.engine import ContainerEngine
from tests.support.nats import NatsServer
from tests.support.podman import Podman
from tests.support.rawclient import BadResponse, RawClient
from tests.support.router import RunningRouter, merged
from tests.support.waiting import wait_until

WORKERS = 2
INSIDE = "10.99.0.1"
"""Where containers reach the router."""
POLICIES = """policies:
- source: front
  destination: back
  ports: 8079-8081
"""


class Place:
    """Where containers, NATS and a router live; everything of it is in the engine's network."""

    def __init__(self, directory: Path, engine: ContainerEngine) -> None:
        self.directory = directory
        self.engine = engine
        self.nats = NatsServer(directory)
        internal = {
            "domains": [{"name": "apps.internal"}],
            "container_networks": ["10.88.0.0/16", "10.89.7.0/24"],
            "addresses": [INSIDE],
            "policies": {"source": "file", "file": str(directory / "policies.yml")},
            "discovery": {"register_interval": "1s", "staleness_threshold": "10m", "warm_duration": "10ms"},
            "proxy": {"http_ports": [80]},
        }
        (directory / "policies.yml").write_text(POLICIES)
        self.router = RunningRouter(
            directory / "router", self.nats.port, {"workers": WORKERS, "internal": internal}
        )

    def status(self, host: str, path: str = "/") -> int:
        return status_of(self.router.port, host, path)

    def body(self, host: str, path: str = "/cgi-bin/name") -> str:
        """Return what is answered, empty if nothing is."""
        try:
            with RawClient(self.router.port, timeout_s=30) as client:
                answer = client.get(path, host=host, headers="Connection: close\r\n")
                return answer.body.decode().strip() if answer.status == 200 else ""
        except (OSError, BadResponse):
            return ""

    def routes(self) -> dict[str, Any]:
        """Return the router's table."""
        return dict(self._facts("routes"))

    def identities(self) -> dict[str, dict[str, Any]]:
        """Return the identities the router believes, by address."""
        return {each["ip"]: each for each in self._facts("internal")["identities"]}

    def names(self) -> set[str]:
        """Return the internal names the router knows."""
        return set(self._facts("internal")["names"])

    def _facts(self, path: str) -> Any:
        with RawClient(self.router.routes_port, timeout_s=30) as client:
            headers = "Authorization: Basic YWRtaW46c2VjcmV0\r\nConnection: close\r\n"
            return json.loads(client.get(f"/{path}", host="localhost", headers=headers).body)


class RunningWatcher:
    """`router docker` as a process, with a configuration made here. Use as a context manager."""

    def __init__(self, place: Place, directory: Path, settings: dict[str, Any] | None = None) -> None:
        self.file = directory / "docker.yml"
        self.socket = str(place.engine.directory / f"{os.urandom(4).hex()}.sock")
        self.log: list[dict[str, Any]] = []
        self._settings = merged(
            {
                "engine": {"url": place.engine.url},
                "nats": {"servers": [f"nats://127.0.0.1:{place.nats.port}"]},
                "host": "127.0.0.1",
                "agent": "cell",
                "control_socket": self.socket,
            },
            settings or {},
        )
        self.process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> "RunningWatcher":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self.write()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "router", "docker", "-c", str(self.file)], stdout=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        self.wait_for("engine-connected")
        self.wait_for("nats-connected")

    def write(self, **settings: Any) -> None:
        """Write the configuration, with these settings changed for good."""
        self._settings = merged(self._settings, settings)
        self.file.write_text(yaml.safe_dump(self._settings))

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """End it as an operator would, and return its status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
        if self._reader is not None:
            self._reader.join(5)

    def command(self, word: str) -> subprocess.CompletedProcess[str]:
        """Run `router docker WORD`."""
        return subprocess.run(
            [sys.executable, "-m", "router", "docker", "-c", str(self.file), word],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def lines(self, message: str, **data: Any) -> list[dict[str, Any]]:
        """Return the data of all log lines with this message and these facts."""
        found = [line["data"] for line in list(self.log) if line["message"] == message]
        return [each for each in found if each.items() >= data.items()]

    def wait_for(self, message: str, count: int = 1, **data: Any) -> dict[str, Any]:
        """Wait for a log line and return its data."""

        def found() -> dict[str, Any] | None:
            lines = self.lines(message, **data)
            return lines[count - 1] if len(lines) >= count else None

        try:
            return wait_until(found, f"log line {message} with {data}", timeout_s=60)
        except AssertionError as error:
            tail = "\n".join(json.dumps(line) for line in self.log[-20:])
            raise AssertionError(f"{error}; log ends:\n{tail}") from None

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.log.append(json.loads(line))


ENGINES: dict[str, type[Podman] | type[Docker]] = {"podman": Podman, "docker": Docker}


@pytest.fixture(scope="module", params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("place"), ENGINES[request.param]())
    with made.engine, made.engine.inside():
        made.engine.on_host("ip", "addr", "add", f"{INSIDE}/32", "dev", "lo")
        made.nats.start()
        try:
            with made.router:
                yield made
        finally:
            made.nats.kill()


@pytest.fixture
def podman(place: Place) -> Podman:
    """The engine, for tests that do with it what only Podman does."""
    if not isinstance(place.engine, Podman):
        pytest.skip("skipped: Podman's own")
    return place.engine


@pytest.fixture
def docker(place: Place) -> Docker:
    """The engine, for tests that do with it what only Docker does."""
    if not isinstance(place.engine, Docker):
        pytest.skip("skipped: Docker's own")
    return place.engine


@pytest.fixture
def watch(place: Place, tmp_path: Path) -> Iterator[Callable[..., RunningWatcher]]:
    """Start a watcher with these settings; at the end of the test it and all containers are gone."""
    started: list[RunningWatcher] = []

    def start(**settings: Any) -> RunningWatcher:
        watcher = RunningWatcher(place, tmp_path, settings)
        started.append(watcher)
        watcher.start()
        return watcher

    yield start
    # A test that failed may have left it away.
    place.nats.start()
    for each in started:
        # Not killed at once: what it announced must be gone before the next test.
        if each.process is not None and each.process.poll() is None:
            each.stop()
        each.kill()
    place.engine.start()
    place.engine.clear()
