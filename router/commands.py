"""The commands for people other than the operator's supervisor: announcing, looking, developing."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from router.config.argument import config_option

if TYPE_CHECKING:
    from ssl import SSLContext

    from router.config.schema import Config
    from router.registrar.service_command import ServiceCommand

FILE = click.Path(dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)

DEFAULT_NATS = "nats://127.0.0.1:4222"
DEFAULT_ROUTES_URL = "http://127.0.0.1:8082"


def add_commands(group: click.Group) -> None:
    """Attach every command that does not belong to running the router itself."""
    from router.docker.command import docker
    from router.policy.command import policy

    for command in (register, docker, routes, policy, certs, dev):
        group.add_command(command)


def complain(problems: Iterable[str]) -> None:
    """Print each problem on a line of stderr, control characters made visible."""
    for problem in problems:
        text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in problem)
        click.echo(f"router: {text}", err=True)


def read_config(path: Path) -> "Config":
    """Load a Gorouter configuration; a bad one ends the command with all its problems and status 1."""
    from router.config.load import ConfigError, load

    try:
        return load(path).config
    except ConfigError as error:
        complain(str(error).splitlines())
        sys.exit(1)


@click.group(invoke_without_command=True)
@click.option("--uri", "uris", multiple=True, metavar="HOST[/PATH]", help="Route to announce; repeatable.")
@click.option("--port", default="", help="Port of the instance.")
@click.option("--tls-port", default="", metavar="PORT", help="Port at which the router must speak TLS instead.")
@click.option("--host", default="", help="Address of the instance. [default: this machine's own]")
@click.option(
    "--san", default="", metavar="NAME", help="Name the instance's certificate must carry; with --tls-port."
)
@click.option("--app", default="", metavar="GUID", help="App the instance belongs to.")
@click.option("--instance-id", default="", metavar="GUID", help="Id of the instance. [default: a new one]")
@click.option("--index", "instance_index", default="", metavar="N", help="Index of the instance within its app.")
@click.option(
    "--protocol", default="", metavar="http1|http2", help="Protocol the instance speaks. [default: http1]"
)
@click.option("--route-service-url", default="", metavar="URL", help="Route service in front of the app; https.")
@click.option("--loadbalancing", "algorithm", default="", metavar="NAME", help="round-robin or least-connection.")
@click.option("--weight", default="", metavar="N", help="Its share beside other instances: 0 to 100. [default: 1]")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="For metrics and logs; repeatable.")
@click.option("--nats", multiple=True, metavar="URL", help=f"NATS server; repeatable. [default: {DEFAULT_NATS}]")
@config_option(
    "Without --uri: routes to keep, as route-registrar's JSON or YAML. With it: a Gorouter YAML file that "
    "tells the NATS settings.",
    "-configPath",
    "--configPath",
)
@click.option("--interval", default="", metavar="SECONDS", help="[default: what the routers ask for, else 20]")
@click.option("--connect-timeout", default=10.0, type=click.FloatRange(0.1), show_default=True, metavar="SECONDS")
@click.option("--pidfile", "-pidfile", type=FILE, help="Where the process id is written.")
@click.option("--dry-run", is_flag=True, help="Show what would be published, and leave.")
@click.pass_context
def register(
    context: click.Context,
    /,
    config_file: Path | None,
    connect_timeout: float,
    pidfile: Path | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Announce routes over NATS until stopped, then unregister them.

    \b
    router register --uri app.example.com --port 9000
    router register --uri app.example.com/api --tls-port 9443 --san INSTANCE-GUID -c router.yml
    router register -c registrar.json

    With -c alone it does route-registrar's work: its files as they are, each route announced while its health
    check succeeds. SIGHUP reads the files again.

    Exit status: 0 when stopped by SIGINT or SIGTERM, 1 if no NATS server answers within --connect-timeout, 2 for
    wrong arguments. Once connected it goes on whatever happens to NATS, and announces anew when it is back.
    """
    if context.invoked_subcommand is not None:
        return
    if config_file is not None and not options["uris"]:
        if given := [name for name, value in options.items() if value]:
            raise click.UsageError(f"{', '.join(given)}: not together with -c alone, whose file says it all")
        service = service_of(config_file)
        sys.exit(service.dry_run() if dry_run else service.run(connect_timeout_s=connect_timeout, pidfile=pidfile))
    if pidfile is not None:
        raise click.UsageError("--pidfile goes with -c alone")
    register_one(config_file, connect_timeout, dry_run, options)


@register.command("check")
@config_option("Route-registrar's JSON or YAML.", "-configPath", "--configPath", required=True)
def check_service(config_file: Path) -> None:
    """Check a file of routes and the dynamic files it names: prints every mistake; exit status 0 or 1."""
    sys.exit(service_of(config_file).check())


def service_of(config_file: Path) -> "ServiceCommand":
    """Read a file of routes; a bad one ends the command with all its problems and status 1."""
    from router.registrar.register import new_instance_id
    from router.registrar.service_command import ServiceCommand
    from router.registrar.service_config import ConfigProblems

    try:
        return ServiceCommand(
            config_file, new_instance_id(), say=click.echo, complain=lambda text: complain([text])
        )
    except ConfigProblems as error:
        complain(error.problems)
        sys.exit(1)


def register_one(config_file: Path | None, connect_timeout: float, dry_run: bool, options: dict[str, Any]) -> None:
    """Announce the one route that the options describe; ends the command."""
    import asyncio

    from router.registrar.address import own_address
    from router.registrar.announced import AnnouncementError, encoded
    from router.registrar.register import Arguments, new_instance_id, read, read_interval
    from router.registrar.register import register as announce

    if config_file is not None and options["nats"]:
        raise click.UsageError("give either --nats or -c: both say where NATS is")
    problems: list[str] = []
    try:
        announcement = read(Arguments(**options), host=own_address, instance_id=new_instance_id)
    except AnnouncementError as error:
        problems += error.problems
    try:
        interval_s = read_interval(options["interval"])
    except AnnouncementError as error:
        problems += error.problems
    if problems:
        complain([*problems, "nothing was announced; --help shows an example"])
        sys.exit(2)
    if dry_run:
        click.echo(f"router.register {encoded(announcement).decode()}")
        return
    urls, tls = nats_of(config_file) if config_file is not None else (options["nats"] or [DEFAULT_NATS], None)
    announcing = announce(
        announcement,
        urls,
        say=click.echo,
        complain=lambda text: complain([text]),
        tls=tls,
        interval_s=interval_s,
        connect_timeout_s=connect_timeout,
    )
    sys.exit(asyncio.run(announcing))


def nats_of(config_file: Path) -> "tuple[list[str], SSLContext | None]":
    """Return server URLs and TLS context of a configuration; a bad one ends the command with status 1."""
    from router.registrar.nats_access import servers, tls_context

    section = read_config(config_file).nats
    try:
        return servers(section), tls_context(section)
    except (ValueError, OSError) as error:
        complain([f"{config_file}: nats: {error}"])
        sys.exit(1)


@click.command()
@click.argument("part", default="")
@config_option("The router's YAML file: tells port, user and password.")
@click.option("--url", help=f"Where the table is, as http://USER:PASS@HOST:PORT. [default: {DEFAULT_ROUTES_URL}]")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON of the router's /routes.")
def routes(part: str, config_file: Path | None, url: str | None, as_json: bool) -> None:
    """Show the route table of a running router; with PART, of routes that contain it.

    On a terminal as a table, into a pipe as tab-separated lines: route, address, TLS, instance, ttl, tags.
    """
    from router.view import Source, ViewError, routes_command, source_from_url

    if config_file is not None and url is not None:
        raise click.UsageError("give either --url or -c: both say where the router is")
    try:
        source = source_from_url(url or DEFAULT_ROUTES_URL)
        if config_file is not None:
            status = read_config(config_file).status
            source = Source(f"http://127.0.0.1:{status.routes.port}/routes", status.user, status.pass_)
        routes_command(source, part, as_json=as_json, write=sys.stdout.buffer.write)
    except ViewError as error:
        complain([str(error)])
        sys.exit(1)


@click.command()
@click.option("--dir", "directory", type=DIRECTORY, help="Where they go. [default: certs]", default=Path("certs"))
@click.option("--force", is_flag=True, help="Make everything anew, the CA too.")
def certs(directory: Path, force: bool) -> None:
    """Make a development CA and a certificate for localhost, *.localhost, 127.0.0.1 and ::1.

    What is there and still good stays as it is.
    """
    from router.certs import write_development_certificates

    try:
        files = write_development_certificates(directory, force=force)
    except OSError as error:
        complain([f"the certificates cannot be written: {error}"])
        sys.exit(1)
    click.echo("made:" if files.made else "still good, kept:")
    click.echo(f"  {files.ca_certificate}  the CA, to be trusted: curl --cacert {files.ca_certificate} https://…")
    click.echo(f"  {files.ca_key}  its key")
    click.echo(f"  {files.server_certificate}  the router's certificate (tls_pem[].cert_chain)")
    click.echo(f"  {files.server_key}  its key (tls_pem[].private_key)")


@click.command()
@click.option("--http-port", default=8080, show_default=True, type=click.IntRange(1, 65535))
@click.option("--https-port", default=8443, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--nats-port", default=4222, show_default=True, type=click.IntRange(1, 65535), help="Of the NATS server."
)
@click.option("--nats", "nats_url", metavar="URL", help="Use this NATS server and start none.")
@click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(1, 256), help="Router worker processes."
)
@click.option("--state-dir", type=DIRECTORY, help="For logs, configuration and NATS. [default: .router-dev]")
@click.option("--certs-dir", type=DIRECTORY, help="For certificates. [default: certs]")
@click.option("--docker", is_flag=True, help="Give the containers of this machine's engine routes, too.")
@click.option("--verbose", is_flag=True, help="Show the router's component log as it comes.")
def dev(**options: Any) -> None:
    """Run a whole system on this machine: NATS, the router, and three sample apps that announce themselves.

    Ctrl-C stops all of it.
    """
    from router.dev.command import Options, run

    sys.exit(run(Options(**options)))
