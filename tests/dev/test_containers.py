"""`router dev --docker`: what it needs, and a container of a real engine that gets a route."""

import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from router.dev.containers import control_socket, docker_command, engine_found, engine_problems
from router.dev.screen import READY
from tests.support.podman import Podman
from tests.support.ports import free_port
from tests.support.waiting import wait_until


def test_engine_of_the_environment_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2375")
    assert engine_found() == "tcp://127.0.0.1:2375"
    assert engine_problems() == []


def test_engine_that_cannot_be_used_is_a_problem_of_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://somewhere")
    (problem,) = engine_problems()
    assert problem.startswith("--docker: DOCKER_HOST:")


def test_watcher_is_the_command_itself_with_a_socket_of_its_own(tmp_path: Path) -> None:
    command = docker_command("nats://127.0.0.1:4222", "127.0.0.1", tmp_path)
    assert command[1:4] == ["-m", "router", "docker"]
    assert str(control_socket(tmp_path)) in command


def answer(port: int, host: str) -> str:
    """Return what is answered, or why nothing is."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/", headers={"Host": host})
        return connection.getresponse().read().decode().strip()
    except OSError as error:
        return str(error)
    finally:
        connection.close()


@pytest.mark.slow
def test_container_gets_a_route_from_router_dev() -> None:
    with Podman() as podman, podman.inside():
        port, *others = (free_port() for _ in range(3))
        ports = ["--http-port", str(port), "--https-port", str(others[0]), "--nats-port", str(others[1])]
        state = ["--state-dir", str(podman.directory / "dev"), "--certs-dir", str(podman.directory / "certs")]
        log = podman.directory / "dev.log"
        with log.open("wb") as printed:
            dev = subprocess.Popen(
                [sys.executable, "-m", "router", "dev", "--docker", *ports, *state],
                stdout=printed,
                stderr=subprocess.STDOUT,
                env={**os.environ, "DOCKER_HOST": podman.url, "DOCKER_TLS_VERIFY": ""},
            )
        try:
            wait_until(lambda: READY in log.read_text() or dev.poll() is not None, "it is ready", timeout_s=60)
            assert dev.poll() is None, log.read_text()
            podman.launch(name="web")
            wait_until(
                lambda: answer(port, "web.localhost") == "web", f"the container answers; {log}", timeout_s=60
            )
            dev.send_signal(signal.SIGINT)
            assert dev.wait(60) == 0
        finally:
            dev.kill()
            dev.wait(10)
