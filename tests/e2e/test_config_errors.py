"""Starts that cannot be: each ends at once, with status 1, saying everything that is wrong in one go."""

import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from router.certs import issue, make_ca
from tests.e2e.conftest import StartRouter
from tests.support.ports import free_port
from tests.support.router import RunningRouter

TEN_MISTAKES = """\
port: 70000
enable_ssl: true
client_cert_validation: maybe
min_tls_version: SSLv3
balancing_algorithm: random
routing_table_sharding_mode: some
drain_wait: 5
logging:
  level: chatty
status:
  port: "eighty"
nats:
  hosts: localhost
forwarded_client_cert: sometimes
"""
WRONG = ["port", "client_cert_validation", "min_tls_version", "balancing_algorithm", "routing_table_sharding_mode"]
WRONG += ["drain_wait", "logging.level", "status.port", "nats.hosts", "forwarded_client_cert"]


def failed_start(directory: Path, nats_port: int, config: Mapping[str, Any]) -> RunningRouter:
    """Start a router that is bound to fail; return it when it has ended with status 1 and left nothing."""
    router = RunningRouter(directory, nats_port, config)
    router.start(wait=False)
    try:
        assert router.wait_exit() == 1, router.story()
        assert router.remains() == []
    finally:
        router.kill_all()
    assert "gorouter.started" not in router.messages()
    assert "Traceback" not in (directory / "stderr").read_text()
    return router


def errors_of(router: RunningRouter) -> str:
    return " ".join(str(line) for line in router.log if line.get("log_level") == 3)


@pytest.fixture
def nats_port(nats_server: Any) -> int:
    return int(nats_server.port)


def test_check_tells_ten_mistakes_at_once_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "router.yml"
    file.write_text(TEN_MISTAKES)
    command = [sys.executable, "-m", "router", "check", "-c", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    lines = TEN_MISTAKES.splitlines()
    for key in WRONG:
        number = next(at for at, line in enumerate(lines, 1) if line.strip().startswith(f"{key.split('.')[-1]}:"))
        if key == "status.port":
            number = lines.index('  port: "eighty"') + 1
        assert any(
            f":{number}:" in line and key in line for line in (result.stdout + result.stderr).splitlines()
        ), key


def test_run_tells_ten_mistakes_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "router.yml"
    file.write_text(TEN_MISTAKES)
    command = [sys.executable, "-m", "router", "-c", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (1, "")
    (line,) = result.stdout.splitlines()
    assert "Error loading config:" in line
    assert [key for key in WRONG if key.split(".")[-1] not in line] == []


@pytest.mark.parametrize(
    "command", [["-c={}"], ["--c", "{}"], ["--c={}"], ["run", "-c={}"], ["run", "--c={}"]], ids=" ".join
)
def test_run_takes_its_file_in_each_spelling_of_go(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "router.yml"
    file.write_text(TEN_MISTAKES)
    arguments = [sys.executable, "-m", "router", *(part.format(file) for part in command)]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (1, "")
    assert f"{file}:" in result.stdout


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\xfe", b"- a\n", b"a: [\n", b"port: 1\nport: 2\n", b"\ta: 1\n"]
)
def test_file_that_is_no_configuration_is_status_1(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "router.yml"
    if content is not None:
        file.write_bytes(content)
    command = [sys.executable, "-m", "router", "check", "-c", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if content == b"":
        assert result.returncode in (0, 1), "an empty file means all defaults, or a mistake"
    else:
        assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert str(file) in result.stdout + result.stderr


@pytest.mark.parametrize("key", ["port", "status.port", "status.routes.port", "ssl_port"])
def test_port_in_use_is_named(key: str, tmp_path: Path, nats_port: int) -> None:
    pair = issue(make_ca(), ["app.test"])
    config: dict[str, Any] = {
        "enable_ssl": True,
        "ssl_port": free_port(),
        "client_cert_validation": "none",
        "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256",
        "tls_pem": [{"cert_chain": pair.certificate, "private_key": pair.private_key}],
    }
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        nested: dict[str, Any] = {key.split(".")[-1]: port}
        for part in reversed(key.split(".")[:-1]):
            nested = {part: nested}
        router = failed_start(tmp_path, nats_port, {**config, **nested})
    assert str(port) in errors_of(router)


def test_port_of_another_router_is_in_use_too(start_router: StartRouter, tmp_path: Path, nats_port: int) -> None:
    """Its sockets could be shared (SO_REUSEPORT), and each router would get half of the connections."""
    first = start_router()
    second = failed_start(tmp_path / "second", nats_port, {"port": first.port})
    assert str(first.port) in errors_of(second)
    assert first.workers()


@pytest.mark.parametrize(
    "pem",
    [
        {"cert_chain": "", "private_key": ""},
        {"cert_chain": "garbage", "private_key": "garbage"},
        {"cert_chain": "CERTIFICATE", "private_key": "OTHER KEY"},
    ],
    ids=["empty", "garbage", "of different pairs"],
)
def test_certificate_that_cannot_be_used_is_an_error(pem: dict[str, str], tmp_path: Path, nats_port: int) -> None:
    first, second = issue(make_ca(), ["app.test"]), issue(make_ca(), ["app.test"])
    texts = {"CERTIFICATE": first.certificate, "OTHER KEY": second.private_key}
    config = {
        "enable_ssl": True,
        "ssl_port": free_port(),
        "client_cert_validation": "none",
        "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256",
        "tls_pem": [{name: texts.get(text, text) for name, text in pem.items()}],
    }
    router = failed_start(tmp_path, nats_port, config)
    assert "tls_pem" in errors_of(router)


def test_access_log_that_cannot_be_opened_is_an_error(tmp_path: Path, nats_port: int) -> None:
    router = failed_start(tmp_path, nats_port, {"access_log": {"file": str(tmp_path / "missing" / "access.log")}})
    assert "access.log" in errors_of(router)
