"""Reading the files of `router register -c`: route-registrar's JSON and YAML as they are, and what was added.

Owns what the keys mean and every rule about them (INTERNAL.md §5.2); does not own the files that come and go
(`registrar.route_files`). All mistakes of a file are found at once. Texts for mistakes that route-registrar finds
too begin with its words, on which monitoring may rely.

Added to route-registrar's keys: ``type: internal``, ``status``, checks by ``http``, ``tcp`` and ``tls`` beside
``script_path``, and their thresholds (docs/announcing.md).
"""

import json
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from router.config.document import DocumentError
from router.config.values import parse_values
from router.registrar.announced import route_problems
from router.registrar.bus import server_problems
from router.registrar.check_reader import read_check
from router.registrar.schedule import DEFAULT_INTERVAL_S
from router.registrar.section import Section
from router.registrar.service_config import (
    DEFAULT_UNREGISTRATION_LIMIT,
    ConfigProblems,
    ConfiguredRoute,
    Defaults,
    ServiceConfig,
)
from router.registrar.tls_files import TlsFiles
from router.wire.announcement import DEFAULT_WEIGHT, MAX_WEIGHT, Announcement, PoolSettings
from router.wire.discovery import NameRegistration

MAX_FILE_BYTES = 4 * 1024 * 1024

NOT_ANNOUNCED = ("tcp", "sni")
"""Kinds of routes that go to a routing API instead of NATS."""

_PROTOCOLS = ("", "http1", "http2")
_NOT_READ = ("type", "sni_port", "router_group", "external_port", "sni_routable_san")


def read_service(file: Path, instance_id: str) -> tuple[ServiceConfig, list[str]]:
    """Read the main file; return it, and what should be known about it though nothing is wrong.

    Args:
        instance_id: one for all routes, as route-registrar has one for its process; sticky sessions need it.

    Raises:
        ConfigProblems: with every mistake.
    """
    problems: list[str] = []
    notes: list[str] = []
    top = Section(_document(file, problems), "", problems)
    servers = _servers(top)
    tls = _tls(top.section("nats_mtls_config"))
    defaults = Defaults(top.text("host"), top.text("availability_zone"), instance_id)
    if not defaults.host:
        top.complain("host required")
    status = top.section("status")
    config = ServiceConfig(
        nats=[f"{'tls' if tls else 'nats'}://{server}" for server in servers],
        tls=tls,
        host=defaults.host,
        availability_zone=defaults.availability_zone,
        routes=_routes(top, defaults, problems, notes),
        dynamic_globs=top.texts("dynamic_config_globs"),
        unregistration_limit=top.number(
            "unregistration_message_limit", DEFAULT_UNREGISTRATION_LIMIT, 1, 1_000_000
        ),
        status_host=status.text("address", "127.0.0.1"),
        status_port=status.port("port"),
    )
    problems += [problem for server in config.nats for problem in server_problems(server)]
    top.ignore("routing_api")
    notes += _unknown(top, status)
    if problems:
        raise ConfigProblems(file, problems)
    return config, [f"{file}: {note}" for note in notes]


class DynamicRoutes(NamedTuple):
    """What a dynamic file holds; lines name it."""

    routes: list[ConfiguredRoute]
    """The good ones."""
    problems: list[str]
    """What is wrong with the others, or with the file."""
    notes: list[str]
    """What should be known about it though nothing is wrong."""


def read_routes(file: Path, defaults: Defaults) -> DynamicRoutes:
    """Read a dynamic file, of which a malformed entry costs the others nothing.

    Raises:
        ConfigProblems: it cannot be read at all.
    """
    problems: list[str] = []
    notes: list[str] = []
    top = Section(_document(file, problems), "", problems)
    routes = _routes(top, defaults, problems, notes)
    notes += _unknown(top)
    if top.unasked() and "routes" not in top:
        # A misspelt key must not pass for the wish that nothing be announced.
        top.complain("no routes")
    return DynamicRoutes(routes, [f"{file}: {line}" for line in problems], [f"{file}: {line}" for line in notes])


def _document(file: Path, problems: list[str]) -> object:
    raw = _contents(file)
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigProblems(file, [f"larger than {MAX_FILE_BYTES // 2**20} MiB"])
    try:
        text = raw.decode("utf-8-sig")
        # Not every JSON is YAML: tabs are not.
        if text.lstrip().startswith("{"):
            return json.loads(text)
        return parse_values(text, lambda problem: problems.append(str(problem)))
    except DocumentError as error:
        raise ConfigProblems(file, [str(error.problem)]) from error
    except (ValueError, RecursionError) as error:
        raise ConfigProblems(file, [" ".join(str(error).split()) or type(error).__name__]) from error


def _contents(file: Path) -> bytes:
    """Return what the file holds, or a little more than is read of it."""
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigProblems(file, [error.strerror or str(error)]) from error


def _servers(top: Section) -> list[str]:
    servers = []
    for server in top.sections("message_bus_servers"):
        host, user, password = server.text("host"), server.secret("user"), server.secret("password")
        if not host:
            server.complain("no host")
            continue
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
        servers.append(f"{login}{host}")
    if "message_bus_servers" not in top or not top.items("message_bus_servers"):
        top.complain("message_bus_servers: at least one server is required")
    return servers


def _tls(section: Section) -> TlsFiles | None:
    paths = [section.text(key) or None for key in ("ca_path", "cert_path", "key_path")]
    if not section.flag("enabled"):
        return None
    files = TlsFiles(*paths)
    try:
        files()
    except ValueError as error:
        section.complain(str(error))
    return files


def _routes(top: Section, defaults: Defaults, problems: list[str], notes: list[str]) -> list[ConfiguredRoute]:
    found = []
    for section in top.sections("routes"):
        before = len(problems)
        route = _route(section, defaults, problems, notes)
        notes += [f"{place}: not known, ignored" for place in section.unasked()]
        if route is not None and len(problems) == before:
            found.append(route)
    return found


def _route(section: Section, defaults: Defaults, problems: list[str], notes: list[str]) -> ConfiguredRoute | None:
    kind, name = section.text("type", "http"), section.text("name")
    if not name:
        section.complain("no name")
    if kind in NOT_ANNOUNCED:
        section.ignore()
        notes.append(
            f"{section.where}: type {kind} goes to a routing API, which is not spoken here: not announced"
        )
        return None
    if kind not in ("http", "internal"):
        section.complain(f"unknown type: {kind}")
    section.ignore(*_NOT_READ)
    if "registration_interval" not in section:
        section.complain("no registration_interval")
    interval_s = section.duration_s("registration_interval", DEFAULT_INTERVAL_S)
    before = len(problems)
    route = _internal(section, defaults) if kind == "internal" else _public(section, defaults, notes)
    if len(problems) == before:
        for problem in route_problems(route):
            section.complain(problem)
    check = None
    if "health_check" in section:
        check, unasked = read_check(section.section("health_check"), route, interval_s)
        notes += [f"{place}: not known, ignored" for place in unasked]
    return ConfiguredRoute(name=name, route=route, interval_s=interval_s, check=check)


def _public(section: Section, defaults: Defaults, notes: list[str]) -> Announcement:
    if "port" not in section and "tls_port" not in section:
        section.complain("no port: neither port nor tls_port")
    port, tls_port, san = section.port("port"), section.port("tls_port"), section.text("server_cert_domain_san")
    if san and "tls_port" not in section:
        notes.append(f"{section.where}: server_cert_domain_san has no effect without tls_port")
        san = ""
    protocol = section.text("protocol")
    if protocol not in _PROTOCOLS:
        section.complain(f"unknown protocol: {protocol}")
    options = section.section("options")
    return Announcement(
        host=section.text("host", defaults.host),
        uris=_uris(section),
        port=port,
        tls_port=tls_port,
        private_instance_id=defaults.instance_id,
        server_cert_domain_san=san,
        protocol=protocol,
        route_service_url=section.text("route_service_url"),
        tags=section.pairs("tags"),
        availability_zone=defaults.availability_zone,
        options=PoolSettings(**{key: options.text(key) for key in PoolSettings.__struct_fields__}),
        weight=options.number("weight", DEFAULT_WEIGHT, 0, MAX_WEIGHT),
    )


def _internal(section: Section, defaults: Defaults) -> NameRegistration:
    names = tuple(_uris(section))
    return NameRegistration(ip=section.text("host", defaults.host), names=names, port=section.port("port"))


def _uris(section: Section) -> list[str]:
    uris = section.texts("uris")
    if not section.items("uris"):
        section.complain("no URIs")
    if "" in uris:
        section.complain("empty URIs")
    return uris


def _unknown(*sections: Section) -> list[str]:
    return [f"{place}: not known, ignored" for section in sections for place in section.unasked()]
