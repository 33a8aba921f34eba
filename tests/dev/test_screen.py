"""What `router dev` prints; that the printed commands work is shown in tests/e2e/test_dev.py."""

import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from router.dev.plan import Options, Plan
from router.dev.screen import ConsoleScreen, own_command, shown, urls
from router.view import Source


def plan(**options: Any) -> Plan:
    return Plan(
        options=Options(**options),
        state=Path("/state"),
        nats_server=None,
        nats_url="nats://u:secret@n:1",
        nats_host="n",
        nats_port=1,
        config_file=Path("/state/router.yml"),
        ca_certificate=Path("/certs/ca.pem"),
        certificates_made=False,
        routes=Source("http://127.0.0.1:8082/routes"),
        access_log=Path("/state/access.log"),
    )


def test_addresses_of_an_app_have_the_ports_in_use() -> None:
    assert urls(plan(http_port=81, https_port=444), "hello") == (
        "http://hello.localhost:81/",
        "https://hello.localhost:444/",
    )


def test_path_is_shown_relative_when_that_is_shorter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "state" / "router.log") == "state/router.log"
    assert shown(tmp_path.parent / "x") == "../x"
    assert shown(Path("/etc/x")) == "/etc/x"


def test_command_on_the_path_is_shown_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "router"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program), "dev"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert own_command() == "router"
    monkeypatch.setenv("PATH", "/nowhere")
    assert own_command() == shown(program)


def test_module_is_shown_with_its_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/router/__main__.py", "dev"])
    assert own_command() == f"{shown(Path(sys.executable))} -m router"


def test_problems_and_events_are_printed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "12:34:56")
    output = io.StringIO()
    tested = ConsoleScreen(Console(file=output, width=40))
    tested.problems(["port [80] is taken"])
    tested.event("x" * 60)
    assert output.getvalue() == f"router dev: port [80] is taken\n12:34:56 {'x' * 60}\n"


def test_nats_server_is_shown_without_credentials() -> None:
    assert plan().nats_shown == "nats://n:1"


def test_log_of_an_instance_has_a_file_name() -> None:
    assert plan().log("hello/0") == Path("/state/hello-0.log")
