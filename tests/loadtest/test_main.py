from click.testing import CliRunner

from loadtest import __main__ as command_line


def test_unknown_proxy_is_named_with_the_known_ones() -> None:
    result = CliRunner().invoke(command_line.loadtest, ["--only", "squid"])
    assert result.exit_code == 2
    assert "'nginx', 'haproxy', 'router'" in result.output


def test_label_that_is_no_file_name_is_refused() -> None:
    result = CliRunner().invoke(command_line.loadtest, ["--label", "../x"])
    assert result.exit_code == 2
    assert "letters, digits" in result.output


def test_every_scenario_has_its_command() -> None:
    assert {"dns", "policy", "registrations", "scale", "transfer"} <= set(command_line.loadtest.commands)
