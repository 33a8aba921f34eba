"""The option -c: all that Go's flag package would take, and nothing misread."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from router.config.argument import config_option


def given(*arguments: str) -> Result:
    @click.command()
    @config_option("A file.", "-configPath")
    def command(config_file: Path | None) -> None:
        click.echo(repr(config_file))

    return CliRunner().invoke(command, arguments)


def read(*arguments: str) -> str:
    result = given(*arguments)
    assert result.exit_code == 0, result.output
    return result.output.strip()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "/etc/a=b.yml"],
        ["-c=/etc/a=b.yml"],
        ["--c", "/etc/a=b.yml"],
        ["--c=/etc/a=b.yml"],
        ["-configPath", "/etc/a=b.yml"],
        ["-configPath=/etc/a=b.yml"],
        ["-c", "/before.yml", "-c=/etc/a=b.yml"],
    ],
    ids=" ".join,
)
def test_file_is_read_from_every_spelling(arguments: list[str]) -> None:
    assert read(*arguments) == repr(Path("/etc/a=b.yml"))


def test_file_whose_name_begins_with_the_sign_is_given_with_its_directory() -> None:
    assert read("-c", "./=odd.yml") == repr(Path("=odd.yml"))


def test_option_left_out_is_no_file() -> None:
    assert read() == "None"


@pytest.mark.parametrize("arguments", [["-c="], ["--c="], ["-c", ""], ["-c"]], ids=str)
def test_option_without_a_name_is_a_wrong_argument(arguments: list[str]) -> None:
    assert given(*arguments).exit_code == 2


def test_directory_is_no_file(tmp_path: Path) -> None:
    result = given(f"-c={tmp_path}")
    assert result.exit_code == 2
    assert "is a directory" in result.output
