"""The engine's API: a Docker daemon or a Podman service, by its socket or over TCP.

Owns where the engine is and how it is asked; does not own what its answers mean. One law: every failure of the
connection or the engine is an `EngineError`, so that whoever asks has one thing to survive.
"""

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from router.docker.container import nanoseconds
from router.registrar.reasons import reason_of
from router.registrar.tls_files import TlsFiles

REQUEST_TIMEOUT_S = 20.0
"""An engine that starts fifty containers at once may take some seconds for an inspection."""

LONGEST_EVENT_BYTES = 4 * 1024 * 1024
"""An event repeats all labels of its container."""

SOCKETS = ("/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock")

_EVENTS = json.dumps({"type": ["container", "network"]})
_ALIVE = json.dumps({"status": ["running", "paused"]})


class EngineError(Exception):
    """The engine cannot be reached, or did not do as asked; fit for a log line."""


class Place(NamedTuple):
    """Where an engine is."""

    url: str
    """``unix:///path``, ``tcp://host:port``, ``http://`` or ``https://``."""
    tls: TlsFiles | None = None
    """What to show and to believe; None: no TLS."""


class Version(NamedTuple):
    name: str
    time_s: int
    """The engine's clock, whole seconds since the epoch."""


class Event(NamedTuple):
    """Something happened to a container."""

    action: str
    """``start``, ``die``, ``health_status: healthy``, …"""
    container: str
    time_ns: int


def place_problems(url: str) -> list[str]:
    """Return what is wrong with an engine's URL; nothing if it can be used."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return [f"{url!r} is not a URL: {error}"]
    if parts.scheme == "unix":
        return [] if parts.path.startswith("/") and not parts.netloc else [f"{url!r}: use unix:///PATH"]
    if parts.scheme not in ("tcp", "http", "https"):
        return [f"{url!r}: an engine is reached by unix:///PATH, tcp://HOST:PORT or https://HOST:PORT"]
    return [] if parts.hostname and port else [f"{url!r}: host and port are needed"]


def place_from_environment(environment: Mapping[str, str]) -> Place | None:
    """Return where ``DOCKER_HOST`` and its kin, or the usual sockets, say the engine is; None if nothing does."""
    host = environment.get("DOCKER_HOST", "")
    if host:
        # Any text switches it on, as for Docker itself: even `0`.
        tls = environment.get("DOCKER_TLS_VERIFY", "") != ""
        return Place(host, _docker_tls(environment) if tls else None)
    own = environment.get("XDG_RUNTIME_DIR", "")
    for path in (*SOCKETS, *([f"{own}/docker.sock", f"{own}/podman/podman.sock"] if own else [])):
        if Path(path).is_socket():
            return Place(f"unix://{path}")
    return None


def _docker_tls(environment: Mapping[str, str]) -> TlsFiles:
    directory = Path(environment.get("DOCKER_CERT_PATH") or Path(environment.get("HOME", "/")) / ".docker")
    return TlsFiles(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")


class Engine:
    """One connection to an engine, as made by `connected`."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker
        self._image_labels: dict[str, Mapping[str, str]] = {}

    async def version(self) -> Version:
        with _translated():
            info = await self._docker.system.info()
            return Version(
                f"{info.get('Name', '')} {info.get('ServerVersion', '')}".strip(),
                nanoseconds(str(info.get("SystemTime", ""))) // 1_000_000_000,
            )

    async def alive(self) -> list[str]:
        """Return the ids of all containers that run or are paused."""
        with _translated():
            return [each.id for each in await self._docker.containers.list(filters=_ALIVE)]

    async def inspect(self, container: str) -> Any | None:
        """Return what the engine knows of a container; None if there is no such container."""
        with _translated(missing_is_none=True):
            return dict((await self._docker.containers.get(container))._container)
        return None

    async def image_labels(self, image: str) -> Mapping[str, str]:
        """Return the labels an image brings; none if it is gone. An image never changes, so each is asked once."""
        if image not in self._image_labels:
            found: Any = None
            with _translated(missing_is_none=True):
                found = await self._docker.images.inspect(image)
            self._image_labels[image] = _mapping(_mapping(_mapping(found).get("Config")).get("Labels"))
        return self._image_labels[image]

    async def events(self, since_s: int) -> AsyncIterator[Event]:
        """Yield what has happened since a time by the engine's clock, and what happens, until the stream ends.

        Raises:
            EngineError: it cannot be had, or what comes is no event.
        """
        subscriber = self._docker.events.subscribe(  # type: ignore[no-untyped-call]
            since=str(since_s), filters=_EVENTS
        )
        while (event := await subscriber.get()) is not None:
            read = read_event(event)
            if read is not None:
                yield read
        task = self._docker.events.task
        if task is not None:
            with _translated():
                await task

    async def close(self) -> None:
        """End the connection; a stream of events ends with it."""
        # What ended the stream is raised here once more, and whoever read it knows.
        with contextlib.suppress(EngineError), _translated():
            await self._docker.close()


def read_event(event: Any) -> Event | None:
    """Return an event of the stream; None if it concerns no container."""
    if not isinstance(event, dict):
        return None
    actor = _mapping(event.get("Actor"))
    action = event.get("Action") or event.get("status") or ""
    container = actor.get("ID") if event.get("Type") == "container" else _connected_container(actor, action)
    if not isinstance(container, str) or not container or not isinstance(action, str):
        return None
    time_ns = event.get("timeNano")
    return Event(action, container, time_ns if isinstance(time_ns, int) else 0)


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _connected_container(actor: Mapping[str, Any], action: object) -> object:
    """Return whose network it was that changed: Docker names the container aside, Podman as the actor itself."""
    return _mapping(actor.get("Attributes")).get("container") or (
        actor.get("ID") if action in ("connect", "disconnect") else None
    )


@contextlib.asynccontextmanager
async def connected(place: Place) -> AsyncIterator[Engine]:
    """Use an engine; connections are made when something is asked. Raises `EngineError` for unusable TLS files."""
    with _translated():
        connector = _connector(place)
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=5.0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, read_bufsize=LONGEST_EVENT_BYTES
    ) as session:
        docker = Docker(_base(place), connector=connector, session=session, timeout=timeout)
        engine = Engine(docker)
        try:
            yield engine
        finally:
            await engine.close()


def _connector(place: Place) -> aiohttp.BaseConnector:
    if place.url.startswith("unix://"):
        return aiohttp.UnixConnector(place.url.removeprefix("unix://"))
    return aiohttp.TCPConnector(ssl=place.tls() if place.tls is not None else True)


def _base(place: Place) -> str:
    """Return what the API's paths are put behind: for a socket the host is for show."""
    parts = urlsplit(place.url)
    if parts.scheme == "unix":
        return "http://localhost"
    scheme = "https" if place.tls is not None or parts.scheme == "https" else "http"
    return f"{scheme}://{parts.netloc}"


@contextlib.contextmanager
def _translated(*, missing_is_none: bool = False) -> Any:
    try:
        yield
    except DockerError as error:
        if not (missing_is_none and error.status == 404):
            # 900 is no answer of the engine's, but aiodocker's word for a connection that failed.
            raise EngineError(_failure(error.__context__ or error if error.status == 900 else error)) from error
    except TimeoutError as error:
        raise EngineError("the engine did not answer in time") from error
    except (ssl.SSLError, aiohttp.ClientError, OSError, ValueError) as error:
        raise EngineError(_failure(error)) from error
    except (LookupError, TypeError, AttributeError) as error:
        # aiodocker takes for granted that whoever answers is an engine.
        raise EngineError("what answers there does not answer as an engine does") from error


def _failure(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return reason_of(error.os_error)
    if isinstance(error, aiohttp.ClientResponseError):
        # What it says instead may differ each time, and each time would be told.
        return "what answers there does not speak HTTP"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the engine ended the connection"
    return reason_of(error)


def environment_place() -> Place | None:
    """Return `place_from_environment` of this process."""
    return place_from_environment(os.environ)


async def reachable(place: Place) -> bool:
    """Whether an engine answers there within a second or two."""
    try:
        async with asyncio.timeout(2), connected(place) as engine:
            await engine.version()
    except (EngineError, TimeoutError):
        return False
    return True
