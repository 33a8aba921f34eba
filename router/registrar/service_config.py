"""What `router register -c FILE` was told to do: a file's contents as checked values."""

from pathlib import Path

from msgspec import Struct

from router.registrar.announced import AnyRoute
from router.registrar.tls_files import TlsFiles

DEFAULT_UNREGISTRATION_LIMIT = 5
"""Messages in a row that say a failing route is gone (INTERNAL.md §5.2)."""


class ScriptProbe(Struct, frozen=True):
    """Healthy if the program ends with status 0."""

    path: str


class TcpProbe(Struct, frozen=True):
    """Healthy if a connection can be made."""

    host: str
    port: int


class TlsProbe(Struct, frozen=True):
    """Healthy if a handshake succeeds, with a certificate for the server name by a CA that is trusted."""

    host: str
    port: int
    server_name: str
    trust: TlsFiles = TlsFiles()


class HttpProbe(Struct, frozen=True):
    """Healthy if a GET is answered with one of the statuses; redirects are not followed."""

    url: str
    statuses: tuple[tuple[int, int], ...] = ((200, 299),)
    """Ranges, both ends included."""
    headers: tuple[tuple[str, str], ...] = ()
    server_name: str = ""
    """What an https server's certificate must be for; empty: the host of the URL."""
    trust: TlsFiles = TlsFiles()


Probe = ScriptProbe | TcpProbe | TlsProbe | HttpProbe


class Check(Struct, frozen=True, kw_only=True):
    """How it is found out whether a route's instance is well."""

    name: str
    probe: Probe
    timeout_s: float
    success_threshold: int = 1
    """Healthy results in a row until the route is announced."""
    failure_threshold: int = 1
    """Failures in a row until it is withdrawn."""


class ConfiguredRoute(Struct, frozen=True, kw_only=True):
    """One entry of ``routes``."""

    name: str
    route: AnyRoute
    interval_s: float
    """Seconds between two checks, and between two announcements."""
    check: Check | None = None


class ServiceConfig(Struct, frozen=True, kw_only=True):
    """A whole file."""

    nats: list[str]
    """URLs with credentials."""
    tls: TlsFiles | None
    host: str
    """Where routes are that do not say so; empty if every one must."""
    availability_zone: str
    routes: list[ConfiguredRoute]
    dynamic_globs: list[str]
    unregistration_limit: int
    status_host: str
    status_port: int
    """Of the listener for `/healthz` and `/metrics`; 0 for none."""


class Defaults(Struct, frozen=True):
    """What routes take from the top of the main file, those in dynamic files too."""

    host: str
    availability_zone: str
    instance_id: str


class ConfigProblems(ValueError):
    """A file that cannot be used; ``problems`` has one line for each mistake, each naming its place."""

    def __init__(self, file: Path, problems: list[str]) -> None:
        self.problems = [f"{file}: {problem}" for problem in problems]
        super().__init__("\n".join(self.problems))
