"""What a person sees at the end, and what is kept: tables, verdicts, JSON, the picture."""

import datetime
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from loadtest.bench import CPU_LIMITS, Measurement, Plan, Result
from loadtest.chart import Bar, Group, bar_chart

_UNDISTURBED = 0.9
"""A proxy that gets less of its core than this was not what set the rate."""
RESULTS_FOLDER = Path(__file__).parent / "results"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A measured number, and the limit it must keep if it has one (greatest value allowed)."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def kept(self) -> bool:
        return self.limit is None or self.value <= self.limit


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the figures come from; without it they mean little."""

    cpu: str
    cores: int
    system: str
    python: str


def cpu_model(cpuinfo: str) -> str:
    """Return the processor's name from the text of ``/proc/cpuinfo``, which some architectures do not tell."""
    models = (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(models, platform.machine())


def this_machine() -> Machine:
    """Describe this machine."""
    return Machine(
        cpu=cpu_model(Path("/proc/cpuinfo").read_text()),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )


def comparison_table(scheme: str, results: Iterable[Result]) -> Table:
    """Return the table of one scheme."""
    table = Table(title=scheme.upper(), title_justify="left", title_style="bold")
    table.add_column("proxy")
    for heading in (
        "requests/s",
        "CPU µs/request",
        "+ control",
        "core busy",
        "p50 ms",
        "p99 ms",
        "CPU of nginx",
    ):
        table.add_column(heading, justify="right")
    for one in results:
        table.add_row(
            one.proxy,
            f"{one.requests_per_s:,.0f}",
            f"{one.cpu_us:.1f}",
            f"{one.control_cpu_us:.1f}" if one.control_cpu_us else "",
            f"{one.busy:.0%}",
            f"{one.p50_us / 1000:.2f}",
            f"{one.p99_us / 1000:.2f}",
            "" if one.ratio is None else f"× {one.ratio:.2f}",
        )
    return table


def comparison_figures(results: Iterable[Result]) -> list[Figure]:
    """Return the router's ratios with their limits."""
    return [
        Figure(
            name=f"CPU per request over {one.scheme}, router to nginx",
            value=one.ratio,
            unit="×",
            limit=CPU_LIMITS[one.scheme],
        )
        for one in results
        if one.proxy == "router" and one.ratio is not None
    ]


def disturbance(results: Iterable[Result]) -> str | None:
    """Return a warning if the proxies' core was not theirs alone, None if the figures can be trusted."""
    least = min((one.busy for one in results), default=1.0)
    if least >= _UNDISTURBED:
        return None
    return (
        f"a proxy got only {least:.0%} of its core: either the machine was busy with something else, or the load "
        "was too small. Do not quote these figures."
    )


def comparison_chart(results: Sequence[Result], plan: Plan) -> str:
    """Return the picture of CPU time per request."""
    groups = [
        Group(scheme.upper(), [Bar(one.proxy, one.cpu_us) for one in results if one.scheme == scheme])
        for scheme in plan.schemes
    ]
    return bar_chart(
        "CPU time per proxied request",
        f"µs of the proxy's data plane, less is better; {plan.connections} keep-alive connections, "
        f"median of {plan.rounds} rounds of {plan.seconds} s",
        groups,
    )


def print_figures(console: Console, figures: Iterable[Figure]) -> None:
    """Print one line a figure, with its verdict if it has a limit."""
    for one in figures:
        verdict = ""
        if one.limit is not None:
            word = "[green]kept[/]" if one.kept else "[bold red]NOT KEPT[/]"
            verdict = f"  limit {_number(one.limit)} {one.unit}: {word}"
        console.print(f"  {one.name}: [bold]{_number(one.value)} {one.unit}[/]{verdict}", highlight=False)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is kept of one run."""

    scenario: str
    label: str
    time: str
    machine: Machine
    figures: Sequence[Figure]
    plan: Plan | None = None
    results: Sequence[Result] = ()
    measurements: Sequence[Measurement] = ()


def save(run: Run, folder: Path, now: datetime.datetime, chart: str | None = None) -> list[Path]:
    """Write the run as JSON, and the chart beside it; return the files' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    label = f"-{run.label}" if run.label else ""
    stem = f"{now:%Y%m%d-%H%M%S}-{run.scenario}{label}"
    paths = [folder / f"{stem}.json"]
    paths[0].write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")
    if chart is not None:
        paths.append(folder / f"{stem}.svg")
        paths[1].write_text(chart)
    return paths
