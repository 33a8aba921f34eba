from pathlib import Path

import pytest
from click.testing import CliRunner

from router.cli import cli
from router.config.check import check


def run(path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    path.write_text(text)
    status = check(path)
    return status, capsys.readouterr().out.splitlines()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router.yml"


def test_a_valid_file_gets_one_line_and_status_0(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(path, "port: 80\n", capsys) == (0, [f"{path}: valid"])


def test_errors_are_told_as_file_line_key_message(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = run(path, "port: x\nlogging: {level: loud}\n", capsys)
    assert status == 1
    assert lines == [
        "Errors",
        f"  {path}:1: port: cannot unmarshal !!str into uint16: `x`",
        f"  {path}:2: logging.level: Invalid log level loud. Allowed values are "
        "[debug info warn error dpanic panic fatal]",
        "",
        f"{path}: 2 errors; the router will not start with this file",
    ]


def test_remarks_do_not_make_a_file_invalid(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "ssl_prot: 1\ndebug_addr: h:1\npid_file: /run/x\nmax_request_header_bytes: 2000000\n"
    status, lines = run(path, text, capsys)
    assert status == 0
    assert lines == [
        "Warnings",
        f"  {path}:4: max_request_header_bytes: 2000000 is more than can be; 1048576 (1 MiB) is used",
        "",
        "Unknown keys",
        f"  {path}:1: ssl_prot: ignored; did you mean ssl_port?",
        "",
        "Accepted, without effect",
        f"  {path}:3: pid_file: as in Gorouter; the supervisor writes it",
        "",
        f"{path}: valid, with 2 remarks",
    ]


def test_a_missing_file_is_one_error(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(path) == 1
    assert f"  {path}: cannot read the file: No such file or directory" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("text", "status"), [("port: 80\n", 0), ("port: x\n", 1)])
def test_the_command_exits_with_the_verdict(path: Path, text: str, status: int) -> None:
    path.write_text(text)
    result = CliRunner().invoke(cli, ["check", "-c", str(path)])
    assert result.exit_code == status
    assert str(path) in result.output


@pytest.mark.parametrize(
    ("page", "status", "finding"),
    [
        ("{{.Status}}", 0, None),
        ("<p>\n{{if}}", 1, "2"),
        (None, 1, "cannot read {page}: No such file or directory"),
        ("<a href='{{.Message}}", 0, "errors are answered in plain text"),
    ],
)
def test_the_error_page_is_read_as_at_a_start(
    path: Path, page: str | None, status: int, finding: str | None
) -> None:
    file = path.with_name("error.html")
    if page is not None:
        file.write_text(page)
    path.write_text(f"port: 80\nhtml_error_template_file: {file}\n")
    result = CliRunner().invoke(cli, ["check", "-c", str(path)])
    assert result.exit_code == status
    if finding is None:
        assert result.output == f"{path}: valid\n"
    else:
        assert f"{path}:2: html_error_template_file: " in result.output
        assert finding.format(page=file) in result.output
