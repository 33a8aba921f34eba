"""`router docker` from its arguments to its exit status."""

import asyncio
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from router.config.argument import config_option


@click.group(invoke_without_command=True)
@config_option("YAML file with settings; all of them have defaults.")
@click.option(
    "--nats", multiple=True, metavar="URL", help="NATS server; repeatable. [default: nats://127.0.0.1:4222]"
)
@click.option("--engine", default="", metavar="URL", help="[default: DOCKER_HOST, else one of the usual sockets]")
@click.option(
    "--host", default="", help="Where routers reach published ports. [default: this machine's own address]"
)
@click.option("--domain", default="", help="Gives containers without label router.uris a name: APP.DOMAIN.")
@click.option("--control-socket", default="", metavar="PATH", help="[default: /run/router-docker.sock]")
@click.pass_context
def docker(context: click.Context, /, config_file: Path | None, **options: Any) -> None:
    """Announce the containers of a Docker or Podman engine, as their labels ask for.

    \b
    router docker --nats nats://127.0.0.1:4222 --domain apps.example.com
    docker run -P --label router.uris=app.example.com IMAGE

    SIGHUP reads the file again. SIGINT and SIGTERM withdraw all routes; exit status 0. What cannot be used at the
    start is told, with status 1.
    """
    try:
        from router.docker.run import run
    except ModuleNotFoundError as error:
        _fail([f"`router docker` needs {error.name}, which the router's extra `docker` installs"])
    from router.docker.settings import Options, SettingsError
    from router.log import Logger

    given = Options(**options)
    context.obj = config_file, given
    if context.invoked_subcommand is not None:
        return
    try:
        asyncio.run(run(config_file, given, Logger("router-docker")))
    except SettingsError as error:
        _fail(error.problems)


@docker.command()
@click.pass_obj
def enable(settings: Any) -> None:
    """Let a running `router docker` announce routes again."""
    _tell(settings, "enable")


@docker.command()
@click.pass_obj
def disable(settings: Any) -> None:
    """Let a running `router docker` withdraw all routes, until it is enabled, reloaded or started again."""
    _tell(settings, "disable")


@docker.command()
@click.pass_obj
def status(settings: Any) -> None:
    """Tell how a running `router docker` is doing."""
    _tell(settings, "status")


def _tell(settings: Any, word: str) -> None:
    from router.docker.settings import SettingsError, load_settings
    from router.docker.switch import SwitchError, ask

    try:
        answer = ask(load_settings(*settings).control_socket, word)
    except SettingsError as error:
        _fail(error.problems)
    except SwitchError as error:
        _fail([str(error)])
    for name, value in answer.items():
        click.echo(f"{name}: {str(value).lower()}")


def _fail(problems: list[str]) -> NoReturn:
    for problem in problems:
        text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in problem)
        click.echo(f"router: {text}", err=True)
    sys.exit(1)
