"""`router policy`: reading and changing network policies, and enforcing them in the kernel.

Owns arguments and output; does not own requests (`client`) nor rules (`rules`). One law: what it
prints is for people on a terminal and for programs in a pipe, and what fails says so and ends with status 1.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from router.config.argument import config_option

if TYPE_CHECKING:
    from router.policy.client import Access
    from router.routing.internal_records import Policy

FILE = click.Path(dir_okay=False, path_type=Path)
DEFAULT_API = "http://127.0.0.1:4002"
DEFAULT_STATUS_URL = "http://127.0.0.1:8082"
MOST_ROWS = 1000
"""More rows are of no use on a terminal; a filter, a pipe or JSON shows all."""
COLUMNS = ("source", "destination", "protocol", "ports")

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def policy() -> None:
    """Say which app may reach which, inside."""


def _of_the_api(command: Command) -> Command:
    """Add the options that say where the API is."""
    options = (
        click.option("--api", "url", metavar="URL", help=f"[default: {DEFAULT_API}]"),
        click.option(
            "--token",
            default="",
            envvar="ROUTER_POLICY_TOKEN",
            help="Bearer token; better in ROUTER_POLICY_TOKEN.",
        ),
        click.option("--cacert", "ca_file", default="", metavar="FILE", help="CA of the API's certificate."),
        config_option("The router's YAML file: tells all of the above."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _of_one_policy(command: Command) -> Command:
    options = (
        click.argument("source", metavar="SRC"),
        click.argument("destination", metavar="DST"),
        click.option(
            "--port", "ports", required=True, metavar="PORT[-PORT]", help="Of the destination's instances."
        ),
        click.option("--protocol", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True),
    )
    for option in reversed(options):
        command = option(command)
    return command


@policy.command()
@_of_one_policy
@_of_the_api
def add(source: str, destination: str, ports: str, protocol: str, **api: Any) -> None:
    """Let instances of app SRC reach those of app DST; apps are named by their GUIDs.

    \b
    router policy add frontend-guid backend-guid --port 5000
    router policy add frontend-guid backend-guid --port 5000-5010 --protocol udp

    To add what is there already is no mistake.
    """
    from router.policy.client import PolicyClientError
    from router.policy.client import add as add_policies

    wanted = _policy(source, destination, ports, protocol)
    try:
        add_policies(_access(**api), [wanted])
    except PolicyClientError as error:
        _fail(str(error))
    click.echo(f"allowed: {_line(wanted)}")


@policy.command()
@_of_one_policy
@_of_the_api
def remove(source: str, destination: str, ports: str, protocol: str, **api: Any) -> None:
    """Take a policy back; it must be given exactly as it was added.

    Connections it permitted through the router are ended. Status 1 if there is no such policy.
    """
    from router.policy.client import PolicyClientError, fetch
    from router.policy.client import remove as remove_policies

    wanted = _policy(source, destination, ports, protocol)
    try:
        access = _access(**api)
        # The API is silent about what is not there, and a mistyped range would go unnoticed.
        present = fetch(access, source=source, destination=destination)
        if wanted not in present:
            _fail(f"there is no such policy: {_line(wanted)}", *(f"there is: {_line(each)}" for each in present))
        remove_policies(access, [wanted])
    except PolicyClientError as error:
        _fail(str(error))
    click.echo(f"no longer allowed: {_line(wanted)}")


@policy.command(name="list")
@click.option("--source", default="", metavar="GUID", help="Only policies with this source app.")
@click.option("--destination", default="", metavar="GUID", help="Only policies with this destination app.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, in the form the API takes.")
@_of_the_api
def list_(source: str, destination: str, as_json: bool, **api: Any) -> None:
    """Show policies: on a terminal as a table, in a pipe as tab-separated lines."""
    from router.policy.client import PolicyClientError, document, fetch

    try:
        found = fetch(_access(**api), source=source, destination=destination)
    except PolicyClientError as error:
        _fail(str(error))
    if as_json:
        click.echo(document(found))
    else:
        _show(found)


@policy.command()
@config_option("The router's YAML file: tells port, user and password.")
@click.option("--url", help=f"Of the router's status, http://USER:PASS@HOST:PORT. [default: {DEFAULT_STATUS_URL}]")
@click.option("--state", "state_file", type=FILE, help="Take what the router serves as /internal from a file.")
@click.option("--apply", "is_applied", is_flag=True, help="Load the rules instead of printing them; needs root.")
@click.option("--every", "every_s", type=click.FloatRange(0.1), metavar="SECONDS", help="Apply again and again.")
def nft(
    config_file: Path | None, url: str | None, state_file: Path | None, is_applied: bool, every_s: float | None
) -> None:
    """Render nftables rules that enforce the policies on direct paths between containers.

    To be run on the host that forwards between containers. Only the table router_policies is touched, and that in
    one step. The rules are those of the moment: with --apply --every 1 they follow the policies.
    """
    import time

    from router.policy.rules import RulesError, from_router, from_state, keep_loaded, load, summary
    from router.view import ViewError

    if sum(each is not None for each in (config_file, url, state_file)) > 1:
        raise click.UsageError("give one of -c, --url and --state: each says where the policies are")
    if every_s is not None and (not is_applied or state_file is not None):
        raise click.UsageError("--every needs --apply, and a router to ask")
    try:
        if every_s is not None:
            source = _status_source(config_file, url)
            errors = (RulesError, ViewError)
            keep_loaded(
                lambda: from_router(source),
                every_s,
                say=click.echo,
                complain=_complain,
                errors=errors,
                sleep=time.sleep,
            )
        rules = from_state(_read(state_file)) if state_file else from_router(_status_source(config_file, url))
        for warning in rules.warnings:
            _complain(warning)
        if is_applied:
            load(rules.text)
            click.echo(summary(rules.text))
        else:
            click.echo(rules.text, nl=False)
    except (RulesError, ViewError) as error:
        _fail(str(error))


def _status_source(config_file: Path | None, url: str | None) -> Any:
    """Return where a router serves its state. Raises `ViewError`."""
    from router.commands import read_config
    from router.policy.rules import source_of_state
    from router.view import Source, source_from_url

    if config_file is None:
        return source_of_state(source_from_url(url or DEFAULT_STATUS_URL))
    status = read_config(config_file).status
    return source_of_state(Source(f"http://127.0.0.1:{status.routes.port}", status.user, status.pass_))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        _fail(f"{path}: {error.strerror}")


def _access(url: str | None, token: str, ca_file: str, config_file: Path | None) -> "Access":
    """Return how to reach the API. Raises `PolicyClientError`."""
    from router.commands import read_config
    from router.policy.client import access, access_from_config

    if config_file is None:
        return access(url or DEFAULT_API, token, ca_file)
    if url is not None:
        raise click.UsageError("give either --api or -c: both say where the API is")
    return access_from_config(read_config(config_file).internal.policy_api, token)


def _policy(source: str, destination: str, ports: str, protocol: str) -> "Policy":
    from router.routing.internal_records import Policy
    from router.routing.ports import parse_ports

    try:
        start, end = parse_ports(ports)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--port") from None
    return Policy(source, destination, protocol, start, end)


def _show(policies: Sequence["Policy"]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    rows = map(_cells, policies)
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table(*COLUMNS, box=None, header_style="bold", pad_edge=False)
    for row, _ in zip(rows, range(MOST_ROWS), strict=False):
        table.add_row(*map(Text, row))
    if table.row_count:
        console.print(table)
    if len(policies) > MOST_ROWS:
        console.print(f"[dim]… and {len(policies) - MOST_ROWS} more: use a filter, --json or a pipe for all[/dim]")
    console.print(f"{len(policies)} {'policy' if len(policies) == 1 else 'policies'}")


def _cells(policy: "Policy") -> tuple[str, ...]:
    from router.routing.ports import ports_text

    cells = (policy.source, policy.destination, policy.protocol, ports_text(policy.start, policy.end))
    # Whoever may add policies must not be able to steer a terminal.
    return tuple(
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cell) for cell in cells
    )


def _line(policy: "Policy") -> str:
    source, destination, protocol, ports = _cells(policy)
    return f"{source} -> {destination} {protocol} {ports}"


def _complain(problem: str) -> None:
    from router.commands import complain

    complain(problem.splitlines())


def _fail(*problems: str) -> NoReturn:
    for problem in problems:
        _complain(problem)
    sys.exit(1)
