"""The configuration of `router docker`: a YAML file, all of it optional, and what the command line lays over it.

Owns keys, defaults and rules; every mistake of a file is told at once, with its key path.
"""

import os
import re
import socket
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import msgspec
from msgspec import Struct

from router.config.document import DocumentError
from router.config.durations import parse_duration
from router.config.values import parse_values
from router.docker.engine import Place, environment_place, place_problems
from router.docker.offer import Ground
from router.registrar import TlsFiles, own_address
from router.registrar.bus import server_problems
from router.registrar.rules import announcement_problems, uri_problems
from router.wire.announcement import Announcement

DEFAULT_NATS = "nats://127.0.0.1:4222"
MAX_FILE_BYTES = 1024 * 1024
_NAME = re.compile(r"[!-~]{1,255}\Z")
LONGEST_SYNC_S = 60.0
"""Within this time a change that nobody was told of is found."""


class SettingsError(Exception):
    """The file or an option cannot be used; ``problems`` has one sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class EngineSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the engine is; without a URL `DOCKER_HOST` and the usual sockets tell."""

    url: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""


class NatsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where routers hear announcements."""

    servers: tuple[str, ...] = (DEFAULT_NATS,)
    ca: str = ""
    certificate: str = ""
    key: str = ""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything the file can say."""

    enabled: bool = True
    """False: no container gets a route; identities are told nevertheless."""
    withdraw_at_end: bool = True
    """False: routes stay when the watcher ends, for a successor that is started at once."""
    agent: str = ""
    """Whose word the identities are; empty: the machine's name. No two agents may share it."""
    host: str = ""
    """Address at which routers reach published ports; empty: the one this machine uses towards others."""
    domain: str = ""
    networks: tuple[str, ...] = ()
    availability_zone: str = ""
    tags: dict[str, str] = {}
    sync_interval: str = "30s"
    identity_ttl: str = "120s"
    control_socket: str = ""
    """For `router docker enable`, `disable` and `status`; empty: `default_socket`."""
    engine: EngineSettings = EngineSettings()
    nats: NatsSettings = NatsSettings()

    @property
    def sync_interval_s(self) -> float:
        return parse_duration(self.sync_interval)

    @property
    def identity_ttl_s(self) -> float:
        return parse_duration(self.identity_ttl)

    def ground(self) -> Ground:
        """Return what holds for all containers."""
        return Ground(
            host=self.host or own_address(),
            domain=self.domain,
            networks=self.networks,
            availability_zone=self.availability_zone,
            tags=self.tags,
        )

    def place(self) -> Place:
        """Return where the engine is. Raises `SettingsError` if nothing says so."""
        if self.engine.url:
            return Place(self.engine.url, tls_files(self.engine))
        found = environment_place()
        if found is None:
            raise SettingsError(
                [
                    "no engine: neither engine.url, --engine nor DOCKER_HOST names one, and none of the usual "
                    "sockets is there"
                ]
            )
        if problems := place_problems(found.url):
            raise SettingsError([f"DOCKER_HOST: {problem}" for problem in problems])
        return found

    def agent_id(self) -> str:
        return self.agent or socket.gethostname()


class Options(NamedTuple):
    """What the command line lays over the file."""

    nats: tuple[str, ...] = ()
    engine: str = ""
    host: str = ""
    domain: str = ""
    control_socket: str = ""


def tls_files(section: EngineSettings | NatsSettings) -> TlsFiles | None:
    """Return the section's files; None if it names none."""
    if not (section.ca or section.certificate):
        return None
    return TlsFiles(section.ca or None, section.certificate or None, section.key or None)


def default_socket() -> str:
    """Return where the control socket is unless the configuration says otherwise."""
    directory = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", f"/tmp/router-{os.geteuid()}")
    return f"{directory}/router-docker.sock"


def load_settings(file: Path | None, options: Options) -> Settings:
    """Read the file, if there is one, and lay the options over it. Raises `SettingsError`."""
    settings = Settings() if file is None else read_settings(_text(file))
    engine, nats = settings.engine, settings.nats
    settings = msgspec.structs.replace(
        settings,
        host=options.host or settings.host,
        domain=options.domain or settings.domain,
        control_socket=options.control_socket or settings.control_socket or default_socket(),
        engine=msgspec.structs.replace(engine, url=options.engine or engine.url),
        nats=msgspec.structs.replace(nats, servers=options.nats or nats.servers),
    )
    if problems := _rule_problems(settings):
        raise SettingsError(problems)
    return settings


def read_settings(text: str) -> Settings:
    """Read a YAML document; its values have the right types then, and may still break a rule."""
    problems: list[str] = []
    try:
        document = parse_values(text, lambda problem: problems.append(str(problem)))
    except DocumentError as error:
        raise SettingsError([f"not YAML: {error.problem}"]) from None
    settings: Settings = _section(Settings, {} if document is None else document, "", problems)
    if problems:
        raise SettingsError(problems)
    return settings


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise SettingsError([f"{file}: larger than {MAX_FILE_BYTES // 2**20} MiB"])
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise SettingsError([f"{file}: {error.strerror or error}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{file}: not UTF-8"]) from None


def _section(kind: Any, given: Any, path: str, problems: list[str]) -> Any:
    """Make a section of what was given, leaving defaults where it cannot be used."""
    if not isinstance(given, dict):
        problems.append(f"{path.rstrip('.') or 'the document'}: must be a mapping of keys")
        return kind()
    hints = get_type_hints(kind)
    values = {}
    for key, value in given.items():
        if key not in hints:
            problems.append(f"{path}{key}: no such key; there are {', '.join(hints)}")
        elif isinstance(hints[key], type) and issubclass(hints[key], Struct):
            values[key] = _section(hints[key], value, f"{path}{key}.", problems)
        else:
            try:
                values[key] = msgspec.convert(value, hints[key])
            except msgspec.ValidationError as error:
                problems.append(f"{path}{key}: {error}")
    return kind(**values)


def _rule_problems(settings: Settings) -> list[str]:
    problems = [
        f"nats.servers: {problem}" for server in settings.nats.servers for problem in server_problems(server)
    ]
    if not settings.nats.servers:
        problems.append("nats.servers: names none")
    if settings.engine.url:
        problems += [f"engine.url: {problem}" for problem in place_problems(settings.engine.url)]
    elif tls_files(settings.engine) is not None:
        problems.append(
            "engine: certificates are for engine.url, or --engine; with DOCKER_HOST it is DOCKER_CERT_PATH"
        )
    if not _NAME.match(settings.agent_id()):
        problems.append(
            f"agent: {settings.agent_id()[:64]!r}: up to 255 printable ASCII characters without blanks"
        )
    problems += _announced_problems(settings)
    if settings.domain:
        problems += [f"domain: {problem}" for problem in uri_problems(settings.domain)]
    for name, section in (("engine", settings.engine), ("nats", settings.nats)):
        if bool(section.certificate) != bool(section.key):
            problems.append(f"{name}: certificate and key go together")
    problems += _duration_problems("sync_interval", settings.sync_interval, 1.0, LONGEST_SYNC_S)
    problems += _duration_problems("identity_ttl", settings.identity_ttl, 10.0, 86400.0)
    return problems


def _announced_problems(settings: Settings) -> list[str]:
    """Return what would be wrong with every container's route."""
    ground = settings.ground()
    told = Announcement(
        host=ground.host, port=1, uris=["a"], availability_zone=ground.availability_zone, tags=dict(ground.tags)
    )
    return [f"host, availability_zone or tags: {problem}" for problem in announcement_problems(told)]


def _duration_problems(key: str, text: str, least_s: float, most_s: float) -> list[str]:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        return [f"{key}: {error}"]
    return [] if least_s <= seconds <= most_s else [f"{key}: {text} is not between {least_s:g}s and {most_s:g}s"]
