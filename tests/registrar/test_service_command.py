"""`router register check -c` and `--dry-run`, run as commands."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.registrar.test_checks import script


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "router", "register", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def config(directory: Path, routes: list[dict[str, Any]], **more: Any) -> str:
    file = directory / "registrar.json"
    document = {"message_bus_servers": [{"host": "127.0.0.1:1"}], "host": "10.0.0.1", "routes": routes, **more}
    file.write_text(json.dumps(document))
    return str(file)


def route(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "port": 80, "uris": [f"{name}.test"], "registration_interval": "20s", **more}


def test_check_describes_every_route(tmp_path: Path) -> None:
    internal = route("i", type="internal", health_check={"name": "up", "tcp": {}})
    file = config(tmp_path, [route("a"), internal], hots="x", dynamic_config_globs=[f"{tmp_path}/*.yml"])
    (tmp_path / "more.yml").write_text(
        "routes:\n- {name: m, tls_port: 9, uris: [m.test], registration_interval: 1s}\n"
    )
    result = run("check", "-c", file)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"note: {file}: hots: not known, ignored",
        "a: a.test -> 10.0.0.1:80, every 20 s",
        "i: i.test -> 10.0.0.1, every 20 s, check up",
        "m: m.test -> 10.0.0.1:9, every 1 s",
        f"{file}: 3 routes, 2 of them in the file itself",
    ]


@pytest.mark.parametrize("arguments", [["check"], [], ["--dry-run"]])
def test_every_mistake_is_told_and_the_status_is_1(tmp_path: Path, arguments: list[str]) -> None:
    file = config(tmp_path, [{"name": "a"}, route("b", protocol="x")])
    result = run(*arguments, "-c", file)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"router: {file}: routes[0] 'a': no registration_interval",
        f"router: {file}: routes[0] 'a': no port: neither port nor tls_port",
        f"router: {file}: routes[0] 'a': no URIs",
        f"router: {file}: routes[1] 'b': unknown protocol: x",
    ]


def test_mistake_in_a_dynamic_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "more.yml").write_text("routes: 5")
    result = run("check", "-c", config(tmp_path, [route("a")], dynamic_config_globs=[f"{tmp_path}/*.yml"]))
    assert result.returncode == 1
    assert result.stderr == f"router: {tmp_path}/more.yml: routes: a list is needed here\n"


def test_dry_run_shows_what_would_be_published_without_nats(tmp_path: Path) -> None:
    failing = {"name": "c", "script_path": script(tmp_path, "echo no; exit 1").path}
    result = run("--dry-run", "-c", config(tmp_path, [route("a"), route("b", health_check=failing)]))
    assert (result.returncode, result.stderr) == (0, "")
    first, said, second, denied = result.stdout.splitlines()
    assert (first, second) == ("a: no check", "b: check c: exit status 1: no")
    subject, payload = said.split()
    assert subject == "router.register"
    assert json.loads(payload)["uris"] == ["a.test"]
    assert denied.split()[0] == "router.unregister"


def test_dry_run_of_one_route_shows_its_message() -> None:
    result = run("--uri", "a.test", "--port", "80", "--host", "10.0.0.1", "--instance-id", "i", "--dry-run")
    assert result.returncode == 0
    subject, payload = result.stdout.split()
    assert subject == "router.register"
    assert json.loads(payload).items() >= {"host": "10.0.0.1", "port": 80, "uris": ["a.test"]}.items()


def test_options_of_a_single_route_are_refused_beside_a_file_of_routes(tmp_path: Path) -> None:
    result = run("-c", config(tmp_path, []), "--port", "80")
    assert result.returncode == 2
    assert "port: not together with -c alone" in result.stderr
