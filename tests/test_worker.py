"""A real worker process, with this test in control's place."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from router import sync
from router.routing.records import Change, DefineEndpoint, DropPool, EndpointRecord, PoolOptions, PutEndpoint
from tests.support.plane import config
from tests.support.rawclient import RawClient
from tests.support.recorder import Conversation, RecordingBackend
from tests.support.waiting import wait_until

T = TypeVar("T")
HOST = "app.test"
GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"


class Worker:
    """A worker process and control's end of the stream to it."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._sequence = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.stream, theirs = socket.socketpair()
        self.stream.settimeout(60)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "router", "worker", "--sync-fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno(), self.listener.fileno()],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        theirs.close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.stream.close()
        self.listener.close()

    # What control does.

    def send(self, *frames: sync.ToWorker) -> None:
        self.stream.sendall(b"".join(map(sync.encode, frames)))

    def receive(self, kind: type[T]) -> T:
        """Return the next frame of this kind; others are passed over."""
        while True:
            length = int.from_bytes(self._exactly(4), "big")
            frame = sync.decode_to_control(self._exactly(length))
            if isinstance(frame, kind):
                return frame

    def set_up(self, **keys: Any) -> None:
        encoded = msgspec.msgpack.encode(config(**keys))
        listener = sync.Listener(self.listener.fileno(), "http", f"127.0.0.1:{self.port}")
        self.send(sync.Setup(0, 1, encoded, [listener], "127.0.0.1"), sync.Health(True))

    def tell(self, *changes: Change, snapshot: int = 0) -> None:
        self._sequence += 1
        self.send(sync.Table(self._sequence, snapshot, list(changes)))

    def snapshot(self, *backends: RecordingBackend) -> None:
        self.tell(*routed(HOST, *backends), snapshot=1)
        self.send(sync.SnapshotEnd(self._sequence))
        self.receive(sync.Ready)

    def serve(self, *backends: RecordingBackend, **keys: Any) -> None:
        """Go through the start-up as control does."""
        self.set_up(**keys)
        self.snapshot(*backends)
        self.send(sync.Serve())
        self.receive(sync.Serving)

    def lose_frame(self) -> None:
        self._sequence += 1

    # What tests ask.

    def client(self) -> RawClient:
        return RawClient(self.port)

    def status(self, host: str = HOST) -> int:
        with self.client() as client:
            return client.get(host=host).status

    def exit_status(self) -> int:
        return self.process.wait(60)

    def messages(self) -> list[str]:
        lines = self._log.read_bytes().splitlines()
        return [json.loads(line)["message"] for line in lines]

    def _exactly(self, count: int) -> bytes:
        octets = self.stream.recv(count, socket.MSG_WAITALL)
        assert len(octets) == count, "the worker has closed the stream"
        return octets


def routed(key: str, *backends: RecordingBackend, first: int = 1) -> list[Change]:
    changes: list[Change] = []
    for number, backend in enumerate(backends, first):
        changes.append(DefineEndpoint(number, EndpointRecord("127.0.0.1", backend.port)))
        changes.append(PutEndpoint(key, "/", number, 0, PoolOptions()))
    return changes


@pytest.fixture
def make_worker(tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(Worker(tmp_path / "worker.log")))


@pytest.fixture
def worker(make_worker: Callable[[], Worker]) -> Worker:
    return make_worker()


@pytest.fixture
def backend() -> Iterator[RecordingBackend]:
    with RecordingBackend() as running:
        yield running


def slow_backend(go_on: Callable[[], object]) -> RecordingBackend:
    """A backend that answers once the condition is true."""

    def script(conversation: Conversation) -> None:
        conversation.read_request()
        wait_until(go_on, "backend may answer")
        conversation.answer()
        conversation.wait_for_end()

    return RecordingBackend(script)


@pytest.mark.parametrize("inherited", [signal.SIG_DFL, signal.SIG_IGN])
def test_worker_that_is_to_quit_tells_where_it_is(
    make_worker: Callable[[], Worker], tmp_path: Path, inherited: signal.Handlers
) -> None:
    before = signal.signal(signal.SIGQUIT, inherited)
    try:
        worker = make_worker()
    finally:
        signal.signal(signal.SIGQUIT, before)
    worker.serve()
    worker.process.send_signal(signal.SIGQUIT)

    assert worker.exit_status() == -signal.SIGQUIT
    stacks = (tmp_path / "worker.log").read_text()
    assert "most recent call first" in stacks
    assert "router/worker.py" in stacks


def test_worker_serves_its_snapshot_and_every_change(worker: Worker, backend: RecordingBackend) -> None:
    worker.serve(backend)
    assert worker.status() == 200
    assert worker.status("new.test") == 404

    worker.tell(PutEndpoint("new.test", "/", 1, 0, PoolOptions()), DropPool(HOST))
    wait_until(lambda: worker.status("new.test") == 200, "change has come")
    assert worker.status() == 404


def test_worker_serves_nobody_before_it_is_told(worker: Worker, backend: RecordingBackend) -> None:
    worker.set_up()
    worker.snapshot(backend)
    with worker.client() as client:
        client.send(GET)
        worker.send(sync.Serve())

        assert client.read_response().status == 200


def test_health_is_what_control_says(worker: Worker, backend: RecordingBackend) -> None:
    worker.serve(backend, healthcheck_user_agent="Probe")
    with worker.client() as client:
        assert client.get(host=HOST, headers="User-Agent: Probe\r\n").status == 200
        worker.send(sync.Health(False))
        wait_until(lambda: client.get(host=HOST, headers="User-Agent: Probe\r\n").status == 503, "worse health")


def test_counters_are_reported(worker: Worker, backend: RecordingBackend) -> None:
    worker.serve(backend)
    assert worker.status() == 200
    # A report may be sent while the response is still on its way.
    while (stats := worker.receive(sync.Stats)).counters["responses_2xx"] == 0:
        continue

    assert (stats.counters["requests"], stats.counters["responses_2xx"]) == (1, 1)
    assert stats.gauges["routes"] == 1


def test_tls_endpoint_that_fails_is_reported(worker: Worker, backend: RecordingBackend) -> None:
    worker.serve()
    record = EndpointRecord("127.0.0.1", backend.port, tls=True, san="x")
    worker.tell(DefineEndpoint(7, record), PutEndpoint(HOST, "/", 7, 0, PoolOptions()))
    backend.stop_listening()
    wait_until(lambda: worker.status() == 502, "endpoint is dialled")

    assert worker.receive(sync.Failed) == sync.Failed(HOST, 7)


def test_gap_makes_the_worker_ask_for_a_snapshot_and_serve_the_old_table_meanwhile(
    worker: Worker, backend: RecordingBackend
) -> None:
    worker.serve(backend)
    worker.lose_frame()
    worker.tell(DropPool(HOST))
    worker.receive(sync.Resync)
    worker.tell(DropPool(HOST))
    assert worker.status() == 200

    worker.tell(*routed("other.test", backend, first=9), snapshot=1)
    worker.tell(*routed("third.test", backend, first=10), snapshot=2)
    worker.send(sync.SnapshotEnd(worker._sequence))
    worker.receive(sync.Ready)
    assert [worker.status(host) for host in (HOST, "other.test", "third.test")] == [404, 200, 200]
    worker.tell(DropPool("third.test"))
    wait_until(lambda: worker.status("third.test") == 404, "change after the snapshot")


def test_drain_finishes_what_is_in_flight_then_leaves(worker: Worker, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with slow_backend(lambda: not accepts(worker)) as backend, worker.client() as idle, worker.client() as busy:
        worker.serve(backend, access_log={"file": str(file)})
        busy.send(GET)
        wait_until(lambda: backend.requests, "request at the backend")
        worker.listener.close()
        worker.send(sync.Drain(3600.0))

        assert busy.read_response().header("Connection") == "close"
        assert idle.is_closed_by_peer()
        assert worker.receive(sync.Stats) is not None
        assert worker.exit_status() == 0
    assert file.read_text().count('" 200 0 2 ') == 1


def accepts(worker: Worker) -> bool:
    try:
        worker.client().close()
    except ConnectionRefusedError:
        return False
    return True


def test_second_drain_hastens_the_first(worker: Worker) -> None:
    with slow_backend(lambda: worker.process.poll() is not None) as backend, worker.client() as client:
        worker.serve(backend)
        client.send(GET)
        wait_until(lambda: backend.requests, "request at the backend")
        worker.send(sync.Drain(3600.0))
        worker.send(sync.Drain(0.0))

        assert worker.exit_status() == 0
        assert client.read_until_end() == b""
    assert "gorouter-draining-error" in worker.messages()


def test_sigterm_drains(worker: Worker, backend: RecordingBackend) -> None:
    worker.serve(backend)
    worker.process.send_signal(signal.SIGTERM)

    assert worker.exit_status() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_meant_for_control_are_ignored(
    worker: Worker, backend: RecordingBackend, number: signal.Signals
) -> None:
    worker.serve(backend)
    worker.process.send_signal(number)

    assert worker.status() == 200


def test_orphan_serves_on_for_its_grace(worker: Worker, backend: RecordingBackend) -> None:
    worker.serve(backend, orphan_grace=3600.0)
    worker.stream.close()
    wait_until(lambda: "control-lost" in worker.messages(), "worker has noticed")

    assert worker.status() == 200
    worker.process.send_signal(signal.SIGTERM)
    assert worker.exit_status() == 0


@pytest.mark.parametrize("broken", [False, True])
def test_orphan_leaves_after_its_grace(worker: Worker, backend: RecordingBackend, broken: bool) -> None:
    worker.serve(backend, orphan_grace=0.1)
    if broken:
        worker.stream.sendall(b"\xff" * 64)
    else:
        worker.stream.close()

    assert worker.exit_status() == 0
    assert "control-lost" in worker.messages()


def test_worker_whose_control_dies_before_the_set_up_leaves_at_once(worker: Worker) -> None:
    worker.stream.close()

    assert worker.exit_status() == 1
    assert worker.messages() == ["worker-failed"]


def test_setting_that_cannot_be_used_ends_the_worker_with_its_reason(worker: Worker, tmp_path: Path) -> None:
    worker.set_up(access_log={"file": str(tmp_path)})

    assert worker.exit_status() == 1
    assert worker.messages() == ["worker-failed"]


def test_access_log_is_reopened_when_told(worker: Worker, backend: RecordingBackend, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    worker.serve(backend, access_log={"file": str(file)})
    assert worker.status() == 200
    wait_until(lambda: file.stat().st_size, "first line")
    rotated = file.rename(tmp_path / "access.log.1")
    worker.send(sync.ReopenLogs())
    wait_until(file.exists, "new file")
    assert worker.status() == 200
    wait_until(lambda: file.stat().st_size, "second line")

    assert [each.read_text().count("\n") for each in (rotated, file)] == [1, 1]


def test_worker_loads_neither_nats_nor_yaml_nor_aiohttp() -> None:
    code = "import sys, router.worker; print(sorted({'nats', 'yaml', 'aiohttp', 'click'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded == "[]\n"
