import datetime
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.report import Figure, Machine, Run, cpu_model, print_figures, save

NOW = datetime.datetime(2026, 11, 21, 10, 30, 5, tzinfo=datetime.UTC)
MACHINE = Machine(cpu="a cpu", cores=2, system="Linux 6", python="CPython 3.11")


def a_run(label: str = "") -> Run:
    figures = [Figure(name="growth", value=3.5, unit="MB", limit=20)]
    return Run(scenario="transfer", label=label, time=NOW.isoformat(), machine=MACHINE, figures=figures)


def test_figure_at_its_limit_keeps_it() -> None:
    assert Figure(name="a", value=20, unit="ms", limit=20).kept
    assert not Figure(name="a", value=20.1, unit="ms", limit=20).kept
    assert Figure(name="a", value=1e9, unit="ms").kept


def test_verdicts_are_printed_where_there_is_a_limit() -> None:
    console = Console(file=io.StringIO(), width=200)
    print_figures(console, [*a_run().figures, Figure(name="rate", value=12345, unit="1/s")])
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "  growth: 3.5 MB  limit 20 MB: kept\n  rate: 12,345 1/s\n"


def test_run_is_saved_as_json_under_its_time_and_label(tmp_path: Path) -> None:
    (path,) = save(a_run("before"), tmp_path / "new", NOW)
    assert path.name == "20261121-103005-transfer-before.json"
    kept = json.loads(path.read_text())
    assert kept["figures"][0]["value"] == 3.5
    assert kept["machine"]["cores"] == 2


def test_chart_is_saved_beside_the_run(tmp_path: Path) -> None:
    paths = save(a_run(), tmp_path, NOW, chart="<svg/>")
    assert [path.suffix for path in paths] == [".json", ".svg"]
    assert paths[1].read_text() == "<svg/>"


@pytest.mark.parametrize(
    ("cpuinfo", "model"), [("processor: 0\nmodel name\t: EPYC 9\nmodel name\t: EPYC 9\n", "EPYC 9")]
)
def test_cpu_model_is_taken_from_the_first_processor(cpuinfo: str, model: str) -> None:
    assert cpu_model(cpuinfo) == model


def test_cpu_without_a_model_name_is_named_after_its_architecture() -> None:
    assert cpu_model("processor: 0\n")
