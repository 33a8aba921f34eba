"""`router dev` as a person uses it: started, used over HTTP and HTTPS, hurt, and stopped without remains."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.dev.screen import READY
from tests.support.nats import NatsServer
from tests.support.needs import needs
from tests.support.ports import free_port
from tests.support.processes import command_line, is_alive
from tests.support.waiting import wait_until

NO_PROXY = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


class Dev:
    """One `router dev` on ports of its own; what it prints is collected."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.http_port, self.https_port, self.nats_port = free_port(), free_port(), free_port()
        self.state, self.certs = directory / "state", directory / "certs"
        self.output = ""
        ports = (self.http_port, self.https_port, self.nats_port)
        named = zip(("--http-port", "--https-port", "--nats-port"), map(str, ports), strict=True)
        places = ["--state-dir", str(self.state), "--certs-dir", str(self.certs)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "router", "dev", *(word for pair in named for word in pair), *places, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            cwd=directory,
            # The terminal's width decides nothing that is asserted here, as long as it is known.
            env={**os.environ, "COLUMNS": "100"},
        )
        self._reader = threading.Thread(target=self._collect)
        self._reader.start()

    def _collect(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as printed:
            for line in printed:
                self.output += line

    def until_printed(self, text: str) -> None:
        wait_until(lambda: text in self.output or self._is_over(), f"{text!r} in the output", timeout_s=60)
        assert text in self.output, self.output

    def _is_over(self) -> bool:
        return self.process.poll() is not None and not self._reader.is_alive()

    def end(self) -> int:
        """Wait for its end, and return the exit status."""
        status = self.process.wait(60)
        self._reader.join(60)
        return status

    def pid_of(self, name: str) -> int:
        """Return the process id that was printed for a part."""
        found = re.search(rf"^{name} +([0-9]+) ", self.output, re.MULTILINE)
        assert found, self.output
        return int(found[1])

    def get(self, host: str, path: str = "/", *, tls: bool = False) -> str:
        connection = self._https() if tls else http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
        try:
            connection.request("GET", path, headers={"Host": host})
            response = connection.getresponse()
            body = response.read().decode()
        finally:
            connection.close()
        assert response.status == 200, (response.status, body)
        return body

    def _https(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.certs / "ca.pem"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.https_port, timeout=60)
        plain = socket.create_connection(("127.0.0.1", self.https_port), timeout=60)
        connection.sock = context.wrap_socket(plain, server_hostname="hello.localhost")
        return connection

    def instances(self, app: str, requests: int = 40) -> Counter[str]:
        """Ask many times, each on a connection of its own, and count who answered."""
        answers = [self.get(f"{app}.localhost") for _ in range(requests)]
        return Counter(answer.split(" ")[2] for answer in answers)


@contextmanager
def running_dev(directory: Path, *options: str) -> Iterator[Dev]:
    dev = Dev(directory, *options)
    try:
        dev.until_printed(READY)
        yield dev
    finally:
        if dev.process.poll() is None:
            dev.process.kill()
            dev.end()


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    with running_dev(tmp_path) as running:
        yield running


def processes_of(dev: Dev) -> list[int]:
    """Return all live processes that name its state directory or its NATS server on their command line."""
    marks = (str(dev.state), f"127.0.0.1:{dev.nats_port}")
    everyone = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [
        pid for pid in everyone if any(mark in " ".join(command_line(pid)) for mark in marks) and is_alive(pid)
    ]


def workers_of(dev: Dev) -> list[int]:
    router = dev.pid_of("router")
    listed = Path(f"/proc/{router}/task/{router}/children").read_text()
    return [int(pid) for pid in listed.split()]


def test_whole_life_of_router_dev(dev: Dev) -> None:
    # Both apps answer over both protocols, and both instances of an app take their turns.
    assert dev.get("hello.localhost").startswith("hello from hello/")
    assert dev.get("hello.localhost", tls=True).startswith("hello from hello/")
    assert set(dev.instances("hello")) == {"hello/0", "hello/1"}
    seen = json.loads(dev.get("echo.localhost", "/some/path?x=1", tls=True))
    assert seen["request"] == "GET /some/path?x=1 HTTP/1.1"
    assert "X-Forwarded-Proto: https" in seen["headers"]

    # An instance that is killed is told, and its traffic moves on without a failed request.
    victim = dev.pid_of("hello/0")
    os.kill(victim, signal.SIGKILL)
    # What was given to it in its last moment dies with it; from here on nothing may.
    wait_until(lambda: not is_alive(victim), "the instance has ended")
    assert set(dev.instances("hello")) <= {"hello/0", "hello/1"}
    dev.until_printed(f"hello/0 (pid {victim}) was ended by SIGKILL: its traffic goes to hello/1")
    assert set(dev.instances("hello")) == {"hello/1"}

    # Ctrl-C ends everything.
    everyone = processes_of(dev) + workers_of(dev)
    dev.process.send_signal(signal.SIGINT)
    assert dev.end() == 0
    assert "everything is stopped" in dev.output
    assert [pid for pid in everyone if is_alive(pid)] == []


def test_printed_commands_do_what_they_say(dev: Dev) -> None:
    lines = [line for line in dev.output.splitlines() if " routes -c " in line]
    table = subprocess.run(
        lines[0], shell=True, capture_output=True, text=True, timeout=60, check=True, cwd=dev.state.parent
    )
    assert sorted(line.split("\t")[3] for line in table.stdout.splitlines()) == [
        "echo-0",
        "echo-1",
        "hello-0",
        "hello-1",
    ]
    register = next(line for line in dev.output.splitlines() if " register --uri " in line)
    with socket.create_server(("127.0.0.1", 0)) as mine:
        port = mine.getsockname()[1]
        command = register.removesuffix(" &").replace("--port 9000", f"--port {port}")
        announcing = subprocess.Popen(f"exec {command}", shell=True, stdout=subprocess.DEVNULL)
        asking = threading.Thread(target=dev.get, args=("mine.localhost",))
        try:
            wait_until(lambda: "mine.localhost" in routes(dev), "mine.localhost in the table", timeout_s=60)
            asking.start()
            answer_once(mine)
        finally:
            announcing.terminate()
            assert announcing.wait(60) == 0
    asking.join(60)
    wait_until(lambda: "mine.localhost" not in routes(dev), "mine.localhost is gone", timeout_s=60)


def inside_lines(dev: Dev) -> dict[str, str]:
    """Return the printed lines on internal routing, by a word of each one's comment."""
    printed = dev.output.partition("Inside: ")[2].splitlines()
    pairs = [(line, printed[at + 1]) for at, line in enumerate(printed) if line.startswith("# ")]
    words = {
        "front looks up": "app front looks",
        "other looks up": "app other has no policy",
        "front calls": "front calls",
        "other calls": "other gets 403",
        "list": "who may reach",
        "take back": "take the policy back",
        "give again": "give it again",
    }
    return {name: next(line for comment, line in pairs if word in comment) for name, word in words.items()}


def pasted(dev: Dev, line: str) -> str:
    # As in a terminal of a user who has set no proxy.
    done = subprocess.run(
        line, shell=True, capture_output=True, text=True, timeout=60, cwd=dev.state.parent, env=NO_PROXY
    )
    assert done.returncode == 0, (line, done)
    return done.stdout


def test_printed_lines_show_who_may_reach_an_internal_name(dev: Dev) -> None:
    needs("dig"), needs("curl")
    lines = inside_lines(dev)
    assert pasted(dev, lines["front looks up"]) == "127.0.30.1\n"
    assert pasted(dev, lines["other looks up"]) == ""
    answer = pasted(dev, lines["front calls"])
    assert answer.startswith("HTTP/1.1 200 OK")
    assert "is called by\n  X-Cf-Caller-App: front\n" in answer
    assert pasted(dev, lines["other calls"]).startswith("HTTP/1.1 403 Forbidden")
    policy = pasted(dev, lines["list"])
    assert policy.startswith("front\tbackend\ttcp\t")
    assert "HTTP/1.1 403 Forbidden" in pasted(dev, lines["take back"])
    assert pasted(dev, lines["list"]) == ""
    assert "HTTP/1.1 200 OK" in pasted(dev, lines["give again"])
    assert pasted(dev, lines["list"]) == policy


def test_internal_name_is_nobodys_in_public(dev: Dev) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", dev.http_port, timeout=60)
    connection.request("GET", "/", headers={"Host": "backend.apps.internal"})
    assert connection.getresponse().status == 404
    connection.close()


def test_backend_that_is_killed_leaves_its_calls_to_the_other_one(dev: Dev) -> None:
    needs("curl")
    os.kill(dev.pid_of("backend/0"), signal.SIGKILL)
    dev.until_printed("its traffic goes to backend/1")
    call = inside_lines(dev)["front calls"]
    assert all("backend/1 at 127.0.20.11:" in pasted(dev, call) for _ in range(4))


def test_without_its_own_nats_server_it_says_that_internal_routing_is_left_out(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    with running_dev(tmp_path, "--nats", f"nats://127.0.0.1:{nats_server.port}") as dev:
        assert "No internal routing: a NATS server of somebody else's may lack JetStream" in dev.output
        assert dev.get("hello.localhost").startswith("hello from hello/")
        dev.process.send_signal(signal.SIGINT)
        assert dev.end() == 0


def routes(dev: Dev) -> str:
    command = [sys.executable, "-m", "router", "routes", "--json", "-c", str(dev.state / "router.yml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def answer_once(listener: socket.socket) -> None:
    listener.settimeout(60)
    while True:
        connection, _ = listener.accept()
        with connection:
            # `router register` looks once whether anything listens, and says nothing.
            if connection.recv(65536):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                return


def test_nothing_is_left_when_it_is_killed(dev: Dev) -> None:
    everyone = processes_of(dev) + workers_of(dev)
    assert len(everyone) >= 9
    dev.process.kill()
    dev.end()
    wait_until(lambda: not any(is_alive(pid) for pid in everyone), "all processes have ended", timeout_s=60)


def test_killed_nats_server_is_replaced_and_requests_go_on(dev: Dev) -> None:
    os.kill(dev.pid_of("nats-server"), signal.SIGKILL)
    assert set(dev.instances("hello")) == {"hello/0", "hello/1"}
    dev.until_printed("nats-server runs again")


def test_end_of_the_router_ends_everything_with_its_last_words(dev: Dev) -> None:
    everyone = processes_of(dev) + workers_of(dev)
    os.kill(dev.pid_of("router"), signal.SIGKILL)
    assert dev.end() == 1
    assert "the router was ended by SIGKILL" in dev.output
    assert '\n{"log_level":' in dev.output, "the end of its log is shown"
    wait_until(lambda: not any(is_alive(pid) for pid in everyone), "all processes have ended", timeout_s=60)


def test_taken_port_is_told_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dev = Dev(tmp_path, "--http-port", str(taken.getsockname()[1]))
        assert dev.end() == 1
    assert "--http-port" in dev.output
    assert processes_of(dev) == []


def test_stopping_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    dev = Dev(tmp_path)
    dev.until_printed("starting router")
    dev.process.terminate()
    assert dev.end() == 0
    assert processes_of(dev) == []


def test_second_start_in_the_same_place_finds_its_certificates_again(tmp_path: Path) -> None:
    with running_dev(tmp_path) as first:
        first.process.send_signal(signal.SIGINT)
        assert first.end() == 0
    authority = (tmp_path / "certs" / "ca.pem").read_bytes()
    with running_dev(tmp_path, "--verbose") as second:
        assert second.get("hello.localhost", tls=True)
        second.until_printed("gorouter.started")
        second.process.send_signal(signal.SIGTERM)
        assert second.end() == 0
    assert (tmp_path / "certs" / "ca.pem").read_bytes() == authority
