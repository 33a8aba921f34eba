"""The commands' own work: their options, their errors and their exit statuses."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from router.cli import cli
from router.commands import add_commands
from tests.support.ports import free_port


@pytest.fixture(scope="module", autouse=True)
def _attached() -> None:
    add_commands(cli)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize("command", ["register", "routes", "certs", "dev", "run", "check"])
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")


def test_certificates_are_made_once_and_kept_after(tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    first, second, forced = (run("certs", "--dir", str(directory), *more) for more in ([], [], ["--force"]))
    assert [result.output.splitlines()[0] for result in (first, second, forced)] == [
        "made:",
        "still good, kept:",
        "made:",
    ]
    assert sorted(path.name for path in directory.iterdir()) == ["ca.key", "ca.pem", "server.key", "server.pem"]


def test_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("certs", "--dir", str(tmp_path / "file" / "certs"))
    assert result.exit_code == 1
    assert "the certificates cannot be written" in result.output


def test_routes_of_no_router_is_an_error_that_names_the_address(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "router.yml"
    config.write_text(yaml.safe_dump({"status": {"routes": {"port": port}}}))
    for where in (["--url", f"http://127.0.0.1:{port}"], ["-c", str(config)]):
        result = run("routes", *where)
        assert result.exit_code == 1
        assert (
            result.output == f"router: no router answers at http://127.0.0.1:{port}/routes: Connection refused\n"
        )


def test_routes_from_two_places_is_refused() -> None:
    assert run("routes", "--url", "http://a", "-c", "x.yml").exit_code == 2


@pytest.mark.parametrize("spelling", ["-c {}", "-c={}", "--c {}", "--c={}"])
@pytest.mark.parametrize(
    "command", ["check", "register check", "register --dry-run", "docker", "routes", "policy list"]
)
def test_configuration_is_found_in_each_spelling_of_go(command: str, spelling: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yml"
    file.write_text("nats: [\n")
    result = run(*command.split(), *spelling.format(file).split())
    assert result.exit_code == 1
    assert "not YAML" in result.output or "did not find expected" in result.output, "it is this file that was read"


def test_registrar_is_started_with_the_options_of_the_program_it_replaces(tmp_path: Path) -> None:
    file = tmp_path / "registrar.json"
    file.write_text('{"routes": "none"}')
    result = run("register", "-configPath", str(file), f"-pidfile={tmp_path}/pid")
    assert result.exit_code == 1
    assert f"{file}" in result.output


def test_missing_configuration_is_told(tmp_path: Path) -> None:
    result = run("routes", "-c", str(tmp_path / "none.yml"))
    assert result.exit_code == 1
    assert "none.yml" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("option", ["--http-port", "--https-port", "--nats-port", "--workers"])
def test_number_out_of_range_is_refused_by_dev(option: str) -> None:
    result = run("dev", option, "70000")
    assert result.exit_code == 2
    assert option in result.output
