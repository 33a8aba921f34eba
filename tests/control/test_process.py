"""`router run` as operators meet it: order of the start, signals, reload, takeover, and what stops a start."""

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.certs import issue, make_ca
from tests.support import processes
from tests.support.announce import Announcer, Routes
from tests.support.nats import NatsServer
from tests.support.ports import free_port, refuses
from tests.support.rawclient import BadResponse, RawClient
from tests.support.recorder import Conversation, RecordingBackend, plain
from tests.support.router import RunningRouter, hastened_by_usr1
from tests.support.waiting import wait_until

REQUEST = b"GET / HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"


def health(router: RunningRouter) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", router.health_port, timeout=60)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()


def routes_document(router: RunningRouter) -> dict[str, Any]:
    status = router.config["status"]
    token = base64.b64encode(f"{status['user']}:{status['pass']}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", router.routes_port, timeout=60)
    try:
        connection.request("GET", "/routes", headers={"Authorization": f"Basic {token}"})
        document: dict[str, Any] = json.loads(connection.getresponse().read())
        return document
    finally:
        connection.close()


def status_of(router: RunningRouter, host: str) -> int:
    with RawClient(router.port) as client:
        client.send(REQUEST % host.encode())
        return client.read_response().status


def exit_soon(router: RunningRouter) -> int:
    """Return the status of a router that ends within moments, as operators count them.

    Its own rules leave it less than five seconds. They are counted in turns of this process, three times as many:
    on a machine that is busy or stands still for a while, this process gets as few of them as the router does.
    """
    assert router.process is not None
    for _ in range(1500):
        code = router.process.poll()
        if code is not None:
            return code
        time.sleep(0.01)
    raise AssertionError(f"the router goes on; {router.story()}")


def reconfigure(router: RunningRouter, changes: Mapping[str, Any]) -> None:
    """Write the file anew, with these settings changed, and tell the router."""
    router.config_file.write_text(yaml.safe_dump({**router.config, **changes}))
    router.signal(signal.SIGHUP)


class SlowBackend:
    """Answers a request when told to; ``arrived`` is set once one is in flight."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.release = threading.Event()
        self.backend = RecordingBackend(self._answer)

    def _answer(self, conversation: Conversation) -> None:
        self.arrived.set()
        self.release.wait(60)
        plain(conversation)

    def __enter__(self) -> "SlowBackend":
        self.backend.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self.backend.close()


class InFlight:
    """A request on a thread; ``status`` is what came of it, None if it was cut."""

    def __init__(self, router: RunningRouter, host: str) -> None:
        self.status: int | None = None
        self._thread = threading.Thread(target=self._ask, args=(router, host))
        self._thread.start()

    def _ask(self, router: RunningRouter, host: str) -> None:
        try:
            self.status = status_of(router, host)
        except (OSError, BadResponse):
            self.status = None

    def result(self) -> int | None:
        self._thread.join(60)
        return self.status


@contextmanager
def routed(router: RunningRouter, nats: NatsServer, host: str, backend: RecordingBackend) -> Iterator[Routes]:
    with Announcer(nats.port) as announcer:
        routes = Routes(announcer, router.port)
        routes.register(host, backend=backend)
        yield routes
        routes.close()


@contextmanager
def running(directory: Path, nats: NatsServer, config: Mapping[str, Any] | None = None) -> Iterator[RunningRouter]:
    with RunningRouter(directory, nats.port, config) as router:
        yield router


# The start.


def test_start_logs_its_steps_in_order(tmp_path: Path, nats_server: NatsServer) -> None:
    with running(tmp_path, nats_server) as router:
        pass

    messages = router.messages()
    steps = [
        next(index for index, message in enumerate(messages) if text in message)
        for text in ("starting", "Successfully-connected-to-nats", "gorouter.started", "gorouter.stopped")
    ]
    assert steps == sorted(steps)
    assert messages[-1] == "gorouter.stopped"
    assert not any("unparsable" in line for line in router.log)


def test_line_of_the_nats_connection_carries_the_address_as_configured(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    with running(tmp_path, nats_server) as router:
        assert f"127.0.0.1:{nats_server.port}" in json.dumps(router.wait_for_log("Successfully-connected-to-nats"))


def test_traffic_is_refused_and_health_is_503_until_the_start_delay_is_over(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    router = RunningRouter(tmp_path, nats_server.port, {"start_response_delay_interval": "1h"})
    try:
        router.start(wait=False)
        router.wait_for_log("worker-started")

        assert refuses(router.port)
        assert health(router) == 503
        assert routes_document(router) == {}
        router.signal(signal.SIGTERM)
        assert router.wait_exit() == 0
    finally:
        router.stop()
    assert "gorouter.started" not in router.messages()


@pytest.mark.slow
def test_routes_announced_during_the_start_delay_are_there_when_traffic_begins(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    router = RunningRouter(tmp_path, nats_server.port, {"start_response_delay_interval": "6s", "workers": 2})
    with RecordingBackend() as backend, Announcer(nats_server.port) as announcer:
        try:
            with Agent(announcer, "early.test", backend.port):
                router.start()

            assert [status_of(router, "early.test") for _ in range(8)] == [200] * 8
            assert health(router) == 200
        finally:
            router.stop()


def fails_to_start(directory: Path, nats_port: int, config: Mapping[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Start a router that cannot; return its exit status and its log."""
    router = RunningRouter(directory, nats_port, config)
    try:
        router.start(wait=False)
        code = router.wait_exit()
    finally:
        router.kill_all()
    return code, [line for line in router.log if line.get("log_level") == 3]


@pytest.mark.parametrize("key", ["port", "status.port", "status.routes.port"])
def test_port_in_use_ends_the_start_with_the_key_and_the_address(
    tmp_path: Path, nats_server: NatsServer, key: str
) -> None:
    port = free_port()
    first, *rest = key.split(".")
    value: Any = port
    for name in reversed(rest):
        value = {name: value}
    with socket.create_server(("127.0.0.1", port)):
        code, errors = fails_to_start(tmp_path, nats_server.port, {first: value})

    assert code == 1
    assert len(errors) == 1
    assert errors[0]["data"]["error"].startswith(f"{key}: cannot listen on ")
    assert f":{port}: Address already in use" in errors[0]["data"]["error"]


def test_second_router_on_the_same_port_is_refused_and_the_first_serves_on(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    with running(tmp_path / "first", nats_server) as router:
        code, errors = fails_to_start(tmp_path / "second", nats_server.port, {"port": router.port})

        assert code == 1
        assert "another router already does" in errors[0]["data"]["error"]
        assert health(router) == 200
        assert status_of(router, "unknown.test") == 404


def test_absent_nats_ends_the_start(tmp_path: Path) -> None:
    code, errors = fails_to_start(tmp_path, free_port(), {})

    assert code == 1
    assert [line["message"] for line in errors] == ["gorouter-failed-to-start"]


def test_access_log_that_cannot_be_opened_ends_the_start(tmp_path: Path, nats_server: NatsServer) -> None:
    code, errors = fails_to_start(tmp_path, nats_server.port, {"access_log": {"file": "/nonexistent/access.log"}})

    assert code == 1
    assert errors[0]["data"]["error"] == "/nonexistent/access.log: No such file or directory"


def test_bad_configuration_is_one_line_with_all_reasons(tmp_path: Path, nats_server: NatsServer) -> None:
    code, errors = fails_to_start(
        tmp_path, nats_server.port, {"balancing_algorithm": "dice", "routing_table_sharding_mode": "none"}
    )

    assert code == 1
    assert [line["message"] for line in errors] == ["Error loading config:"]
    assert "dice" in errors[0]["data"]["error"]
    assert "sharding" in errors[0]["data"]["error"]


# The end.


def test_sigterm_ends_everything_within_moments_and_exits_0(tmp_path: Path, nats_server: NatsServer) -> None:
    with running(tmp_path, nats_server, {"workers": 2}) as router:
        router.signal(signal.SIGTERM)

        assert exit_soon(router) == 0
        wait_until(lambda: not router.remains(), "no process is left")


@pytest.mark.parametrize("way", ["kill", "freeze"])
def test_sigterm_is_obeyed_within_five_seconds_although_nats_is_dead(
    tmp_path: Path, nats_server: NatsServer, way: str
) -> None:
    with running(tmp_path, nats_server) as router:
        getattr(nats_server, way)()
        router.signal(signal.SIGTERM)

        assert exit_soon(router) == 0


def test_sigint_of_a_terminal_ends_control_and_workers(tmp_path: Path, nats_server: NatsServer) -> None:
    with running(tmp_path, nats_server, {"workers": 2}) as router:
        os.killpg(router.pid, signal.SIGINT)

        assert exit_soon(router) == 0
        wait_until(lambda: not router.remains(), "no process is left")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_request_in_flight_finishes_after_the_signal_to_end(
    tmp_path: Path, nats_server: NatsServer, number: signal.Signals
) -> None:
    with (
        running(tmp_path, nats_server) as router,
        SlowBackend() as slow,
        routed(router, nats_server, "slow.test", slow.backend),
    ):
        request = InFlight(router, "slow.test")
        assert slow.arrived.wait(60)
        router.signal(number)
        wait_until(lambda: refuses(router.port), "no new connections")
        assert health(router) == 503
        slow.release.set()

        assert request.result() == 200
        assert router.wait_exit() == 0
    assert "gorouter-draining-error" not in router.messages()


@pytest.mark.slow
def test_sigterm_cuts_what_does_not_finish_and_exits_within_five_seconds(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    with (
        running(tmp_path, nats_server) as router,
        SlowBackend() as slow,
        routed(router, nats_server, "slow.test", slow.backend),
    ):
        request = InFlight(router, "slow.test")
        assert slow.arrived.wait(60)
        router.signal(signal.SIGTERM)

        assert exit_soon(router) == 0
        assert request.result() != 200


def test_drain_serves_on_during_drain_wait_with_health_503(tmp_path: Path, nats_server: NatsServer) -> None:
    with (
        running(tmp_path, nats_server, {"drain_wait": "1h"}) as router,
        RecordingBackend() as backend,
        routed(router, nats_server, "app.test", backend),
    ):
        router.signal(signal.SIGUSR1)
        wait_until(lambda: health(router) == 503, "health 503")

        assert status_of(router, "app.test") == 200
        # Two in quick succession end the wait; a single one may come too long after the first, on a slow machine.
        wait_until(lambda: hastened_by_usr1(router), "the end of the drain", every_s=0.1)
        assert router.wait_exit() == 0


def test_drain_that_takes_too_long_is_logged_and_exits_0(tmp_path: Path, nats_server: NatsServer) -> None:
    with (
        running(tmp_path, nats_server, {"drain_timeout": "200ms"}) as router,
        SlowBackend() as slow,
        routed(router, nats_server, "slow.test", slow.backend),
    ):
        request = InFlight(router, "slow.test")
        assert slow.arrived.wait(60)
        router.signal(signal.SIGUSR1)

        assert router.wait_exit() == 0
        assert request.result() != 200
    assert "router.drain.timed-out" in router.messages()
    assert "gorouter-draining-error" in router.messages()


def test_sigterm_hastens_a_drain(tmp_path: Path, nats_server: NatsServer) -> None:
    with running(tmp_path, nats_server, {"drain_wait": "1h"}) as router:
        router.signal(signal.SIGUSR1)
        wait_until(lambda: health(router) == 503, "drain has begun")
        router.signal(signal.SIGTERM)

        assert exit_soon(router) == 0


def test_second_sigterm_cuts_what_is_in_flight(tmp_path: Path, nats_server: NatsServer) -> None:
    with (
        running(tmp_path, nats_server, {"drain_wait": "1h", "drain_timeout": "1h"}) as router,
        SlowBackend() as slow,
        routed(router, nats_server, "slow.test", slow.backend),
    ):
        request = InFlight(router, "slow.test")
        assert slow.arrived.wait(60)
        router.signal(signal.SIGTERM)
        wait_until(lambda: refuses(router.port), "no new connections")
        router.signal(signal.SIGTERM)

        assert exit_soon(router) == 0
        assert request.result() != 200
    assert router.messages().count("gorouter.signal.received") == 2


def test_sigquit_dumps_stacks_and_exits_2_with_all_workers(tmp_path: Path, nats_server: NatsServer) -> None:
    with running(tmp_path, nats_server, {"workers": 2}) as router:
        router.signal(signal.SIGQUIT)

        assert router.wait_exit() == 2
        wait_until(lambda: not router.remains(), "no process is left")
        stacks = (tmp_path / "stderr").read_text()
    assert "Current thread" in stacks
    assert "Stack for <Task" in stacks
    assert stacks.count("router/worker.py") >= 2


# In between.


def test_sigusr2_reopens_the_access_log(tmp_path: Path, nats_server: NatsServer) -> None:
    with running(tmp_path, nats_server) as router:
        rotated = tmp_path / "access.log.1"
        router.access_log.rename(rotated)
        router.signal(signal.SIGUSR2)

        wait_until(router.access_log.exists, "new access log")
        status_of(router, "after.test")
        router.wait_access_line("after.test")
        assert "after.test" not in rotated.read_text()


def test_reload_puts_the_new_configuration_in_force_without_losing_routes(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    with (
        running(tmp_path, nats_server) as router,
        RecordingBackend() as backend,
        routed(router, nats_server, "app.test", backend),
    ):
        old = router.workers()
        reconfigure(router, {"healthcheck_user_agent": "Probe/2", "logging": {"level": "error"}})
        wait_until(lambda: router.workers() and not set(router.workers()) & set(old), "new workers")

        assert status_of(router, "app.test") == 200
        with RawClient(router.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: any.test\r\nUser-Agent: Probe/2\r\n\r\n")
            assert client.read_response().status == 200
    # The level of the log changed with it.
    assert "gorouter.stopped" not in router.messages()


def test_reload_of_a_bad_file_changes_nothing_and_says_why(tmp_path: Path, nats_server: NatsServer) -> None:
    with running(tmp_path, nats_server) as router:
        workers = router.workers()
        reconfigure(router, {"balancing_algorithm": "dice"})

        line = router.wait_for_log("reload-failed")
        assert "dice" in line["data"]["error"]
        assert router.workers() == workers
        assert health(router) == 200


def test_reload_names_the_settings_that_need_a_restart(tmp_path: Path, nats_server: NatsServer) -> None:
    with running(tmp_path, nats_server) as router:
        reconfigure(router, {"port": free_port(), "workers": 2})

        assert router.wait_for_log("reload-needs-restart")["data"]["keys"] == ["workers", "port"]
        router.wait_for_log("reload-finished")
        assert status_of(router, "unknown.test") == 404


@pytest.mark.slow
def test_reload_shows_the_new_certificate_and_a_broken_one_keeps_the_old(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    authority = make_ca()
    trusting = ssl.create_default_context(cadata=authority.pair.certificate)

    def pem(name: str) -> list[dict[str, str]]:
        pair = issue(authority, [name])
        return [{"cert_chain": pair.certificate, "private_key": pair.private_key}]

    def shows(router: RunningRouter, name: str) -> bool:
        try:
            RawClient(router.ssl_port, tls=trusting, server_name=name).close()
        except ssl.SSLCertVerificationError:
            return False
        return True

    front = {
        "enable_ssl": True,
        "ssl_port": free_port(),
        "client_cert_validation": "none",
        "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
    }
    with running(tmp_path, nats_server, {**front, "tls_pem": pem("old.test")}) as router:
        assert shows(router, "old.test")

        reconfigure(router, {"tls_pem": pem("new.test")})
        wait_until(lambda: shows(router, "new.test"), "new certificate")
        router.wait_for_log("worker-left")
        broken = [{**pem("bad.test")[0], "private_key": issue(authority, ["other.test"]).private_key}]
        reconfigure(router, {"tls_pem": broken})
        router.wait_for_log("reload-failed")

        assert shows(router, "new.test")


TAKEOVER = {"workers": 2, "orphan_grace": "30s", "start_response_delay_interval": "5s"}


@pytest.mark.slow
def test_restarted_control_takes_the_ports_over_from_the_workers_of_its_dead_predecessor(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    with (
        running(tmp_path, nats_server, TAKEOVER) as router,
        RecordingBackend() as backend,
        routed(router, nats_server, "app.test", backend) as routes,
    ):
        orphans = router.workers()
        assert router.process is not None
        router.signal(signal.SIGKILL)
        router.process.wait()
        assert [status_of(router, "app.test") for _ in range(8)] == [200] * 8

        answers = Answers(lambda: status_of(router, "app.test"))
        agent = Agent(routes.announcer, "app.test", backend.port)
        with agent, RunningRouter(tmp_path / "successor", nats_server.port, router.config) as successor:
            successor.wait_for_log("listener-shared")
            wait_until(lambda: not any(map(processes.is_alive, orphans)), "orphans leave", timeout_s=60)

            assert status_of(successor, "app.test") == 200
            assert answers.stop() == {200}


class Agent:
    """Announces a route again whenever a router starts, as agents do."""

    def __init__(self, announcer: Announcer, host: str, port: int) -> None:
        self._announcer, self._host, self._port = announcer, host, port
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        announcer.listen("router.start")

    def __enter__(self) -> "Agent":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(60)

    def _run(self) -> None:
        answered = 0
        while not self._done.wait(0.01):
            if len(self._announcer.seen) > answered:
                answered = len(self._announcer.seen)
                self._announcer.register(self._host, port=self._port)


class Answers:
    """Asks again and again on a thread, and keeps which answers there were."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._seen: set[int | str] = set()
        self._ask = ask
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                self._seen.add(self._ask())
            except Exception as error:
                self._seen.add(repr(error))

    def stop(self) -> set[int | str]:
        self._done.set()
        self._thread.join(60)
        return self._seen


@pytest.mark.slow
def test_workers_leave_after_their_grace_when_control_never_comes_back(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    with running(tmp_path, nats_server, {"workers": 2, "orphan_grace": "200ms"}) as router:
        router.signal(signal.SIGKILL)

        wait_until(lambda: not router.remains(), "no process is left")


WITHOUT_A_FILE = """
import asyncio, sys
from router.config.load import Loaded
from router.config.schema import Config
from router.config.sections import Nats, NatsHost
from router.control.process import ControlProcess
from router.log import Logger

absent = Config(nats=Nats(hosts=[NatsHost(hostname="127.0.0.1", port=int(sys.argv[1]))]))
sys.exit(asyncio.run(ControlProcess(None, Loaded(absent), Logger()).run()))
"""


def test_start_without_a_configuration_file_names_none() -> None:
    command = [sys.executable, "-c", WITHOUT_A_FILE, str(free_port())]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=False)

    assert done.returncode == 1
    first = json.loads(done.stdout.splitlines()[0])
    assert (first["message"], first["data"]["config"]) == ("gorouter.starting", "")
