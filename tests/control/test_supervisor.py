"""Workers as real processes: started, killed, replaced, drained."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router import sync
from router.config.schema import Config
from router.control import slot as slot_module
from router.control import supervisor as supervisor_module
from router.control.listeners import ListenerSpec, open_listeners
from router.control.publisher import Publisher
from router.control.supervisor import Supervisor
from router.control.worker_process import COMMAND, WorkerError
from router.log import DEBUG, Logger
from router.routing.registrations import RegistryRules
from router.routing.registry import Registry
from tests.support import processes
from tests.support.ports import free_port, refuses
from tests.support.recorder import RecordingBackend
from tests.support.registry import announced

HEALTH_CHECK = b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: HTTP-Monitor/1.1\r\nConnection: close\r\n\r\n"


def stub(mode: str) -> Sequence[str]:
    return [sys.executable, "-m", "tests.support.stub_worker", mode]


class Bench:
    """A supervisor with all it needs; ``failed`` and ``lines`` keep what it was told and what it logged."""

    def __init__(self, command: Sequence[str], slots: int, config: Config) -> None:
        self.failed: list[sync.Failed] = []
        self.lines: list[bytes] = []
        self.port = free_port()
        self.registry = Registry(RegistryRules())
        self.publisher = Publisher(self.registry)
        self.listeners = open_listeners([ListenerSpec("http", "port", "127.0.0.1", self.port)], slots)
        self.supervisor = Supervisor(
            config,
            self.publisher,
            Logger(level=DEBUG, sink=self.lines.append),
            slots=slots,
            router_ip="127.0.0.1",
            on_failed=self.failed.append,
            command=command,
        )

    async def serve(self) -> None:
        await self.supervisor.start(self.listeners)
        await self.supervisor.serve()

    def register(self, host: str, port: int) -> None:
        self.registry.register(announced(host, host="127.0.0.1", port=port), 0.0)
        self.publisher.changed()

    def count(self, message: str) -> int:
        return sum(f'"{message}"'.encode() in line for line in self.lines)

    async def get(self, host: str = "app.test") -> int:
        """Make a request on a connection of its own and return its status."""
        return await self.ask(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())

    async def ask(self, request: bytes) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return int(answer[9:12])


@asynccontextmanager
async def bench(
    command: Sequence[str] = COMMAND, slots: int = 1, config: Config | None = None
) -> AsyncIterator[Bench]:
    made = Bench(command, slots, config or Config(disable_keep_alives=False, drain_timeout=60.0))
    try:
        yield made
    finally:
        made.listeners.close()
        await made.supervisor.drain(0.0)
        assert made.supervisor.pids == []


async def until(condition: Callable[[], Any], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - processes announce nothing
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited in vain: {what}") from None


async def test_workers_serve_the_table_only_when_told_to() -> None:
    with RecordingBackend() as backend:
        async with bench(slots=2) as it:
            it.register("app.test", backend.port)
            await it.supervisor.start(it.listeners)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", it.port))

            await it.supervisor.serve()

            assert [await it.get() for _ in range(8)] == [200] * 8


async def test_changes_reach_serving_workers() -> None:
    with RecordingBackend() as backend:
        async with bench(slots=2) as it:
            await it.serve()
            assert await it.get() == 404
            it.register("app.test", backend.port)
            async with asyncio.timeout(60):
                while [await it.get() for _ in range(16)] != [200] * 16:
                    pass


async def test_health_checks_on_the_traffic_port_follow_control() -> None:
    async with bench() as it:
        await it.serve()
        assert await it.ask(HEALTH_CHECK) == 503

        it.supervisor.set_health(True)
        async with asyncio.timeout(60):
            while await it.ask(HEALTH_CHECK) != 200:
                pass


@pytest.mark.slow
async def test_every_request_that_has_ended_is_in_the_totals_after_a_refresh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor_module, "REPORT_S", 60.0)
    with RecordingBackend() as backend:
        async with bench(slots=2) as made:
            made.register("app.test", backend.port)
            await made.serve()
            for number in range(1, 9):
                assert await made.get() == 200
                await made.supervisor.refresh()
                assert made.supervisor.totals.counters()["requests"] == number


async def test_worker_that_does_not_answer_costs_a_refresh_only_its_own_figures() -> None:
    async with bench(slots=2) as made:
        await made.serve()
        stopped = made.supervisor.pids[0]
        processes.freeze(stopped)
        try:
            await made.supervisor.refresh()
            assert len(made.supervisor.totals.gauges_by_worker()) >= 1
        finally:
            os.kill(stopped, signal.SIGCONT)


async def test_killed_worker_is_replaced_with_the_whole_table_and_no_connection_is_ever_refused() -> None:
    kills = 5
    statuses: list[int] = []
    refused: list[OSError] = []
    with RecordingBackend() as backend:
        async with bench(slots=2) as it:
            it.register("app.test", backend.port)
            for number in range(2000):
                it.register(f"app-{number}.test", 9)
            await it.serve()
            done = asyncio.Event()

            async def ask() -> None:
                while not done.is_set():
                    try:
                        statuses.append(await it.get())
                    except ConnectionRefusedError as error:
                        refused.append(error)
                    except (ConnectionResetError, ValueError):
                        # It was in flight on the worker that was killed.
                        pass

            asking = [asyncio.create_task(ask()) for _ in range(4)]
            for kill in range(kills):
                answered = len(statuses)
                await until(lambda: len(statuses) > answered + 20, "traffic")  # noqa: B023
                os.kill(it.supervisor.pids[0], signal.SIGKILL)
                await until(lambda: it.count("worker-started") == kill + 3, "replacement")  # noqa: B023
            done.set()
            await asyncio.gather(*asking)
            last = [await it.get() for _ in range(16)]

    assert refused == []
    assert set(statuses) == {200}
    assert last == [200] * 16


async def test_connection_made_while_no_worker_lives_is_served_by_the_next() -> None:
    async with bench() as it:
        await it.serve()
        (stopped,) = it.supervisor.pids
        processes.freeze(stopped)
        asking = asyncio.create_task(it.get())
        await asyncio.sleep(0)
        os.kill(stopped, signal.SIGKILL)

        async with asyncio.timeout(60):
            assert await asking == 404


async def test_worker_that_cannot_start_fails_the_start() -> None:
    async with bench([sys.executable, "-c", "raise SystemExit(3)"], slots=2) as it:
        with pytest.raises(WorkerError, match="exited with status 3 before it was ready"):
            await it.supervisor.start(it.listeners)


async def test_program_that_does_not_exist_fails_the_start() -> None:
    async with bench(["/nonexistent/python"]) as it:
        with pytest.raises(WorkerError, match="cannot start a process: No such file or directory"):
            await it.supervisor.start(it.listeners)


async def test_worker_that_never_gets_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "BRING_UP_S", 0.3)
    async with bench(stub("mute")) as it:
        with pytest.raises(WorkerError, match=r"not ready within 0\.3 s"):
            await it.supervisor.start(it.listeners)


async def test_worker_that_sends_garbage_is_ended() -> None:
    async with bench(stub("babbles")) as it:
        with pytest.raises(WorkerError, match="killed by signal 9"):
            await it.supervisor.start(it.listeners)


async def test_worker_that_dies_whenever_it_serves_is_restarted_less_often_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slot_module.Backoff, "first_s", 0.01)
    # However late its end is noticed, it has not served for long.
    monkeypatch.setattr(slot_module, "SETTLED_S", 3600.0)
    async with bench(stub("aborts")) as it:
        await it.serve()
        await until(lambda: it.count("worker-exited") >= 4, "crashes")
        delays = [line for line in it.lines if b'"worker-exited"' in line][:4]
        assert [line.split(b'"restart_in_seconds":')[1].rstrip(b"}\n") for line in delays] == [
            b"0.0",
            b"0.01",
            b"0.02",
            b"0.04",
        ]
        assert it.supervisor.totals.counters()["requests"] >= 5 * 4


async def test_worker_that_is_stopped_is_replaced_and_who_waited_for_it_is_served() -> None:
    async with bench(config=Config(worker_timeout=2.0)) as it:
        await it.serve()
        (stopped,) = it.supervisor.pids
        processes.freeze(stopped)
        asking = asyncio.create_task(it.get())

        async with asyncio.timeout(60):
            assert await asking == 404
        assert stopped not in it.supervisor.pids
        assert it.count("worker-killed") >= 1
        assert it.supervisor.restarts >= 1


async def test_worker_that_is_stopped_while_it_drains_holds_the_drain_up_no_longer() -> None:
    async with bench(config=Config(worker_timeout=2.0)) as it:
        await it.serve()
        (stopped,) = it.supervisor.pids
        processes.freeze(stopped)

        async with asyncio.timeout(60):
            await it.supervisor.drain(900.0)
        assert it.count("worker-killed") == 1


@pytest.mark.slow
async def test_reload_brings_a_new_generation_up_before_the_old_one_leaves() -> None:
    with RecordingBackend() as backend:
        async with bench(slots=2) as it:
            it.register("app.test", backend.port)
            await it.serve()
            old = it.supervisor.pids
            statuses = []
            reloading = asyncio.create_task(it.supervisor.reload(Config(drain_timeout=60.0)))
            while not reloading.done():
                statuses.append(await it.get())
            await reloading
            await until(lambda: not set(old) & set(it.supervisor.pids), "old workers leave")
            statuses += [await it.get() for _ in range(8)]

            assert len(it.supervisor.pids) == 2
            assert set(statuses) == {200}
            assert it.count("worker-left") == 2
            assert it.count("worker-exited") == 0


async def test_workers_of_a_new_generation_are_replaced_too() -> None:
    async with bench() as it:
        await it.serve()
        await it.supervisor.reload(Config())
        await until(lambda: it.count("worker-left") == 1, "old worker leaves")
        os.kill(it.supervisor.pids[0], signal.SIGKILL)

        await until(lambda: it.count("worker-started") == 3, "replacement")
        assert b'"generation":2' in it.lines[-1]
        assert await it.get() == 404


@pytest.mark.slow
async def test_reload_that_fails_leaves_the_old_workers_serving() -> None:
    async with bench(slots=2) as it:
        await it.serve()
        old = it.supervisor.pids
        broken = Config(access_log=Config().access_log.__class__(file="/nonexistent/access.log"))

        with pytest.raises(WorkerError):
            await it.supervisor.reload(broken)

        await until(lambda: it.supervisor.pids == old, "the new ones are gone")
        assert await it.get() == 404
        os.kill(old[0], signal.SIGKILL)
        await until(lambda: it.count("worker-started") == 3, "replacement under the old configuration")


async def test_drain_lets_a_request_in_flight_finish() -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    backend = await asyncio.start_server(slow, "127.0.0.1", free_port())
    async with backend, bench() as it:
        it.register("app.test", backend.sockets[0].getsockname()[1])
        await it.serve()
        asking = asyncio.create_task(it.get())
        await arrived.wait()
        it.listeners.close()
        draining = asyncio.create_task(it.supervisor.drain(3600.0))
        await until(lambda: refuses(it.port), "no more connections")
        release.set()

        assert await asking == 200
        assert await draining


async def test_drain_kills_what_will_not_leave() -> None:
    async with bench(stub("deaf"), slots=2) as it:
        await it.serve()
        pids = it.supervisor.pids

        assert not await it.supervisor.drain(0.05)

        assert not any(processes.is_alive(pid) for pid in pids)
        assert it.count("worker-killed") == 2


async def test_drain_can_be_hastened() -> None:
    async with bench(stub("deaf")) as it:
        await it.serve()
        draining = asyncio.create_task(it.supervisor.drain(3600.0))
        await asyncio.sleep(0.05)
        it.supervisor.hasten(0.0)

        async with asyncio.timeout(60):
            assert not await draining


async def test_drain_during_a_start_leaves_no_worker() -> None:
    async with bench(stub("mute"), slots=2) as it:
        starting = asyncio.create_task(it.supervisor.start(it.listeners))
        await until(lambda: len(it.supervisor.pids) == 2, "workers")
        pids = it.supervisor.pids
        starting.cancel()

        await it.supervisor.drain(5.0)

        assert not any(processes.is_alive(pid) for pid in pids)


async def test_worker_that_stops_reading_does_not_hold_up_a_drain() -> None:
    async with bench(slots=2) as it:
        await it.serve()
        processes.freeze(it.supervisor.pids[0])

        assert not await it.supervisor.drain(0.3)
