"""The command line of the load tests: ``python -m loadtest`` compares proxies, its subcommands check limits."""

import asyncio
import datetime
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import click
from rich.console import Console

from loadtest import announcer, dns, policy, registrations, scale, transfer, tunnels
from loadtest.bench import Plan, measure, new_backend_port, results
from loadtest.certificates import make_certificate
from loadtest.errors import LoadtestError
from loadtest.h2load import H2load
from loadtest.programs import Cores, find_program
from loadtest.proxies import HOST, PROXIES, Surroundings, missing_program
from loadtest.report import (
    RESULTS_FOLDER,
    Figure,
    Run,
    comparison_chart,
    comparison_figures,
    comparison_table,
    disturbance,
    print_figures,
    save,
    this_machine,
)
from loadtest.wrk import Wrk

console = Console(width=None if sys.stdout.isatty() else 110)


def label_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--label", default="", callback=_check_label, help="Becomes part of the results' names.")(
        command
    )


def _check_label(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[\w.-]*", value):
        raise click.BadParameter("letters, digits, '.', '_' and '-' only")
    return value


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=6, show_default=True, help="Length of one measurement.")
@click.option("--connections", type=click.IntRange(1), default=64, show_default=True, help="Kept alive by wrk.")
@click.option("--only", type=click.Choice(list(PROXIES)), multiple=True, help="Compare these proxies; repeatable.")
@click.option("--scheme", type=click.Choice(["http", "https", "h2"]), multiple=True, help="All by default.")
@label_option
@click.pass_context
def loadtest(
    context: click.Context,
    rounds: int,
    seconds: int,
    connections: int,
    only: tuple[str, ...],
    scheme: tuple[str, ...],
    label: str,
) -> None:
    """Compare the router with other proxies under the same load, or check one of its limits."""
    if context.invoked_subcommand is not None:
        return
    h2load = find_program("h2load")
    if h2load is None:
        console.print("h2 skipped: needs h2load")
    plan = Plan(
        proxies=installed(only or tuple(PROXIES)),
        schemes=[one for one in scheme or ("http", "https", "h2") if one != "h2" or h2load],
        rounds=rounds,
        seconds=seconds,
        connections=connections,
    )
    wrk = find_program("wrk")
    if wrk is None:
        console.print("skipped: needs wrk")
        return
    finish(compare(plan, wrk, h2load, label))


def installed(names: Sequence[str]) -> list[str]:
    """Return those proxies that can run here and say which cannot."""
    for name in names:
        if missing := missing_program(name):
            console.print(f"{name} skipped: needs {missing}")
    return [name for name in names if missing_program(name) is None]


async def compare(plan: Plan, wrk_program: str, h2load_program: str | None, label: str) -> Sequence[Figure]:
    """Run the comparison, print it, keep it."""
    now = datetime.datetime.now(datetime.UTC)
    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder_name:
        folder = Path(folder_name)
        around = Surroundings(
            folder=folder,
            cores=Cores.of_this_process(),
            certificate=make_certificate(HOST, folder, now),
            backend_port=new_backend_port(),
        )
        wrk = Wrk(wrk_program, folder, connections=plan.connections, cores=around.cores.load)
        with console.status("starting") as status:
            loads: dict[str, Wrk | H2load] = {"http": wrk, "https": wrk}
            if h2load_program is not None:
                loads["h2"] = H2load(h2load_program, folder, cores=around.cores.load)
            measurements = [one async for one in measure(plan, around, loads, status.update)]
    medians = results(measurements)
    for scheme in plan.schemes:
        console.print(comparison_table(scheme, [one for one in medians if one.scheme == scheme]))
    if warning := disturbance(medians):
        console.print(f"Warning: {warning}", style="yellow")
    figures = comparison_figures(medians)
    keep(
        Run(
            scenario="bench",
            label=label,
            time=now.isoformat(timespec="seconds"),
            machine=this_machine(),
            figures=figures,
            plan=plan,
            results=medians,
            measurements=measurements,
        ),
        now,
        comparison_chart(medians, plan),
    )
    return figures


async def check_limits(
    scenario: str, label: str, measured: Callable[[Path, Callable[[str], None]], Awaitable[Sequence[Figure]]]
) -> Sequence[Figure]:
    """Run a scenario in a temporary folder, print its figures against their limits, keep them."""
    now = datetime.datetime.now(datetime.UTC)
    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder, console.status("starting") as status:
        figures = await measured(Path(folder), status.update)
    run = Run(
        scenario=scenario,
        label=label,
        time=now.isoformat(timespec="seconds"),
        machine=this_machine(),
        figures=figures,
    )
    keep(run, now)
    return figures


def keep(run: Run, now: datetime.datetime, chart: str | None = None) -> None:
    machine = run.machine
    print_figures(console, run.figures)
    console.print(
        f"{machine.cpu}, {machine.cores} cores, {machine.system}, {machine.python}", style="dim", highlight=False
    )
    for path in save(run, RESULTS_FOLDER, now, chart):
        console.print(f"written {path}", style="dim", soft_wrap=True, highlight=False)


def finish(work: Awaitable[Sequence[Figure]]) -> None:
    """Run to the end and leave with status 1 if it failed, 3 if a limit was not kept."""

    async def main() -> Sequence[Figure]:
        return await work

    try:
        figures = asyncio.run(main())
    except (LoadtestError, OSError) as error:
        console.print(f"failed: {error or type(error).__name__}", style="bold red", markup=False, soft_wrap=True)
        sys.exit(1)
    if not all(one.kept for one in figures):
        sys.exit(3)


@loadtest.command("announcer")
@label_option
def announcer_command(label: str) -> None:
    """CPU time and memory of a process that announces 20,000 routes."""
    finish(check_limits("announcer", label, announcer.measure))


@loadtest.command("dns")
@label_option
def dns_command(label: str) -> None:
    """DNS answers a second on one core, and how soon they come."""
    finish(check_limits("dns", label, dns.measure))


@loadtest.command("policy")
@label_option
def policy_command(label: str) -> None:
    """What the policy decision adds to a request, with 10,000 policies."""
    finish(check_limits("policy", label, policy.measure))


@loadtest.command("registrations")
@label_option
def registrations_command(label: str) -> None:
    """How soon a new route works on every worker, and what heartbeats cost."""
    finish(check_limits("registrations", label, registrations.measure))


@loadtest.command("scale")
@label_option
def scale_command(label: str) -> None:
    """Memory and start-up with 100,000 endpoints."""
    finish(check_limits("scale", label, scale.measure))


@loadtest.command("transfer")
@label_option
def transfer_command(label: str) -> None:
    """Worker memory while 1 GiB passes through, fast and slow."""
    finish(check_limits("transfer", label, transfer.measure))


@loadtest.command("tunnels")
@label_option
def tunnels_command(label: str) -> None:
    """Memory of idle WebSockets, and small messages through busy ones."""
    finish(check_limits("tunnels", label, tunnels.measure))


if __name__ == "__main__":
    loadtest(prog_name="python -m loadtest")
