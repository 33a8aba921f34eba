"""The command line: parses, then calls one function of the part that does the work.

Imports are inside the commands, so that ``router worker`` never loads NATS, YAML or aiohttp and every command
starts quickly.
"""

import signal
import sys
from pathlib import Path

import click

from router import __version__
from router.config.argument import config_option

_ANSWERED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that mean something to a running router."""


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="router")
@config_option("Run with this Gorouter YAML file, as `router run -c` does.")
@click.pass_context
def cli(context: click.Context, config_file: Path | None) -> None:
    """An HTTP routing tier: routes are announced over NATS, requests are load-balanced to live instances."""
    if context.invoked_subcommand is not None:
        if config_file is not None:
            raise click.UsageError("-c goes after the command: router " + context.invoked_subcommand + " -c FILE")
        return
    if config_file is None:
        click.echo(context.get_help())
        return
    run_router(config_file)


def run_router(config_file: Path | None) -> None:
    # By default they would end the process, even the one that rotates logs: what comes while the rest is imported
    # waits until `control.signals` is there to answer.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ANSWERED)
    from router.checks import RULES
    from router.control.run import run

    sys.exit(run(config_file, RULES))


@cli.command()
@config_option("Gorouter YAML file; without it every default applies.")
def run(config_file: Path | None) -> None:
    """Run the router in the foreground."""
    run_router(config_file)


@cli.command(hidden=True)
@click.option("--sync-fd", type=int, required=True)
def worker(sync_fd: int) -> None:
    """A data-plane process; started by `router run`, never by hand."""
    from router.worker import main as worker_main

    sys.exit(worker_main(sync_fd))


@cli.command()
@config_option("Gorouter YAML file to validate.", required=True)
def check(config_file: Path) -> None:
    """Validate a configuration file: prints every error with its key path and line; exit status 0 or 1."""
    from router.checks import RULES
    from router.config.check import check as check_config

    sys.exit(check_config(config_file, RULES))


def main() -> None:
    """Entry point of the ``router`` script."""
    from router.commands import add_commands

    # A worker is started often and must start fast: the commands for people stay unloaded there.
    if sys.argv[1:2] != ["worker"]:
        add_commands(cli)
    cli(prog_name="router")
