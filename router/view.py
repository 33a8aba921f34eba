"""`router routes`: the route table of a running router, fetched from its ``/routes`` endpoint, for people.

Owns fetching and showing; does not own what is in the table. Knows nothing of the router's insides: what it shows
is what any program with the credentials can read.
"""

import http.client
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

TIMEOUT_S = 10.0

MOST_ROWS = 1000
"""More rows are of no use on a terminal; a filter, a pipe or JSON shows all."""


class ViewError(Exception):
    """The table could not be had; the text says why and what to do about it."""


class Endpoint(msgspec.Struct):
    """One entry of ``/routes``, as Gorouter writes it."""

    address: str
    tls: bool = False
    ttl: int = 0
    """Seconds it may stay without being announced again, if it is not TLS."""
    protocol: str = ""
    private_instance_id: str = ""
    isolation_segment: str = ""
    availability_zone: str = ""
    route_service_url: str = ""
    server_cert_domain_san: str = ""
    load_balancing_algorithm: str = ""
    weight: int = 1
    tags: dict[str, str] | None = None


Routes = dict[str, list[Endpoint]]


class Source(NamedTuple):
    """Where a router's table is, and who asks."""

    url: str
    user: str = ""
    password: str = ""


def source_from_url(url: str) -> Source:
    """Read ``http://[user:pass@]host[:port][/routes]``. Raises `ViewError` if it is something else."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ViewError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme != "http" or not host:
        raise ViewError(f"{url!r}: the table is at a URL like http://USER:PASS@127.0.0.1:8082")
    name = f"[{host}]" if ":" in host else host
    path = parts.path if parts.path.strip("/") else "/routes"
    return Source(
        f"http://{name}:{port or 8082}{path}", unquote(parts.username or ""), unquote(parts.password or "")
    )


def fetch(source: Source) -> bytes:
    """Return the JSON text of the table.

    Raises:
        ViewError: nothing listens there, the credentials are wrong, or what answers is no router.
    """
    login = b64encode(f"{source.user}:{source.password}".encode()).decode()
    request = urllib.request.Request(source.url, headers={"Authorization": f"Basic {login}"})
    # An http_proxy of the environment is meant for the world, not for this machine's own loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 401:
            raise ViewError(
                f"the router at {source.url} refuses these credentials: they are status.user and status.pass"
                " of its configuration (-c FILE reads them)"
            ) from None
        raise ViewError(f"{source.url} answers {error.code}: is that a router's status.routes.port?") from None
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ViewError(f"no router answers at {source.url}: {_plain(reason)}") from None
    except http.client.HTTPException as error:
        raise ViewError(f"what answers at {source.url} does not speak HTTP: {_plain(error)}") from None


def _plain(reason: object) -> str:
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


def parse(text: bytes) -> Routes:
    """Read the JSON of ``/routes``. Raises `ViewError` if it is something else."""
    try:
        return msgspec.json.decode(text, type=Routes)
    except msgspec.DecodeError as error:
        raise ViewError(f"what came is not a route table: {error}") from None


def filtered(text: bytes, part: str) -> bytes:
    """Return the JSON with those routes alone whose name contains ``part``, any case. Raises `ViewError`."""
    try:
        routes = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise ViewError(f"what came is not a route table: {error}") from None
    return msgspec.json.encode({route: rest for route, rest in routes.items() if part.lower() in route}) + b"\n"


def show(routes: Routes, console: Console, *, plain: bool) -> None:
    """Print the table; ``plain`` for programs: tab-separated, all rows, no heading, no colour."""
    if plain:
        for row in _rows(routes):
            console.file.write("\t".join(row) + "\n")
        return
    shown = _table(routes)
    if shown.row_count:
        console.print(shown)
    endpoints = sum(len(each) for each in routes.values())
    hidden = endpoints + sum(not each for each in routes.values()) - shown.row_count
    if hidden > 0:
        console.print(f"[dim]… and {hidden} more: name a part of the host, or use --json or a pipe for all[/dim]")
    console.print(f"{_count(len(routes), 'route')}, {_count(endpoints, 'endpoint')}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


COLUMNS = ("route", "address", "TLS", "instance", "ttl", "tags")


def _table(routes: Routes) -> Table:
    table = Table(*COLUMNS, box=None, header_style="bold", pad_edge=False)
    previous = ""
    for row in _rows(routes):
        if table.row_count == MOST_ROWS:
            break
        # A route's name stands once, before its first endpoint.
        name = Text("" if row[0] == previous else row[0], style="cyan")
        table.add_row(name, *map(Text, row[1:]))
        previous = row[0]
    return table


def _rows(routes: Routes) -> Iterator[tuple[str, ...]]:
    for route, endpoints in routes.items():
        for endpoint in endpoints:
            yield tuple(map(_printable, (route, *_cells(endpoint))))
        if not endpoints:
            yield (_printable(route), "-", "-", "no endpoint left", "-", "")


def _printable(text: str) -> str:
    # Names come from whoever may announce: they must not steer a terminal.
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _cells(endpoint: Endpoint) -> tuple[str, ...]:
    tags = endpoint.tags or {}
    extras: list[tuple[str, str]] = [
        ("protocol", endpoint.protocol if endpoint.protocol != "http1" else ""),
        ("balancing", endpoint.load_balancing_algorithm),
        ("weight", "" if endpoint.weight == 1 else str(endpoint.weight)),
        ("zone", endpoint.availability_zone),
        ("segment", endpoint.isolation_segment),
        ("route-service", endpoint.route_service_url),
        *sorted(tags.items()),
    ]
    return (
        endpoint.address,
        (endpoint.server_cert_domain_san or "yes") if endpoint.tls else "-",
        endpoint.private_instance_id or "-",
        f"{endpoint.ttl} s",
        " ".join(f"{name}={value}" for name, value in extras if value),
    )


def routes_command(source: Source, part: str, *, as_json: bool, write: Callable[[bytes], object]) -> None:
    """Fetch and print, whole as JSON through ``write`` or as a table on stdout. Raises `ViewError`."""
    text = fetch(source)
    if part:
        text = filtered(text, part)
    if as_json:
        write(text)
        return
    console = Console(highlight=False)
    show(parse(text), console, plain=not console.is_terminal)
