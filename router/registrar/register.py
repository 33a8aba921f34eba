"""`router register`: one instance announced from the shell until it is told to stop.

Owns reading the command's arguments and what the command prints; does not own announcing (`registrar.announcer`).
"""

import asyncio
import contextlib
import ssl
import time
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple

from router.registrar.announced import AnnouncementError
from router.registrar.announcer import Announcer
from router.registrar.bus import BusUnavailable, redacted, server_problems
from router.registrar.observer import Observer
from router.registrar.rules import announcement_problems
from router.registrar.stopping import stop_on_signals, unless_stopped
from router.wire.announcement import DEFAULT_WEIGHT, MAX_WEIGHT, Announcement, PoolSettings, RouterStart

Say = Callable[[str], None]


class Arguments(NamedTuple):
    """The command line as it was typed; numbers still text, so that all mistakes can be told together."""

    uris: Sequence[str]
    port: str = ""
    tls_port: str = ""
    host: str = ""
    san: str = ""
    app: str = ""
    instance_id: str = ""
    instance_index: str = ""
    protocol: str = ""
    route_service_url: str = ""
    algorithm: str = ""
    weight: str = ""
    tags: Sequence[str] = ()
    nats: Sequence[str] = ()
    interval: str = ""


def read(arguments: Arguments, *, host: Callable[[], str], instance_id: Callable[[], str]) -> Announcement:
    """Turn the arguments into an announcement.

    Args:
        host: called for the address to announce when none was given.
        instance_id: called for an id when none was given; without one, sticky sessions cannot work.

    Raises:
        AnnouncementError: with one sentence for every mistake.
    """
    problems = [problem for server in arguments.nats for problem in server_problems(server)]
    port = _port("--port", arguments.port, problems)
    tls_port = _port("--tls-port", arguments.tls_port, problems)
    if arguments.instance_index and not arguments.instance_index.isdecimal():
        problems.append(f"--index {arguments.instance_index!r} is not a number")
    announcement = Announcement(
        host=arguments.host or host(),
        port=port,
        tls_port=tls_port,
        uris=list(arguments.uris),
        app=arguments.app,
        private_instance_id=arguments.instance_id or instance_id(),
        private_instance_index=arguments.instance_index,
        server_cert_domain_san=arguments.san,
        protocol=arguments.protocol,
        route_service_url=arguments.route_service_url,
        tags=_tags(arguments.tags, problems),
        options=PoolSettings(loadbalancing=arguments.algorithm),
        weight=_weight(arguments.weight, problems),
    )
    unread = any(problem.startswith(("--port", "--tls-port")) for problem in problems)
    found = announcement_problems(announcement)
    # A port that could not be read stands as 0 there: that it is missing as well need not be said.
    problems += [problem for problem in found if not (unread and "port or tls_port" in problem)]
    if problems:
        raise AnnouncementError(problems)
    return announcement


def read_interval(text: str) -> float | None:
    """Read ``--interval``, in seconds; None if it was not given. Raises `AnnouncementError`."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        if (seconds := float(text)) > 0:
            return seconds
    raise AnnouncementError([f"--interval {text!r} is not a number of seconds above 0"])


def _port(option: str, text: str, problems: list[str]) -> int:
    if not text:
        return 0
    if text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= 65535:
        return int(text)
    problems.append(f"{option} {text!r} is not a port number between 1 and 65535")
    return 0


def _weight(text: str, problems: list[str]) -> int:
    if not text:
        return DEFAULT_WEIGHT
    if text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) <= MAX_WEIGHT:
        return int(text)
    problems.append(f"--weight {text!r} is not a whole number from 0 to {MAX_WEIGHT}")
    return DEFAULT_WEIGHT


def _tags(texts: Sequence[str], problems: list[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            problems.append(f"--tag {text!r} is not KEY=VALUE")
        tags[key] = value
    return tags


class Telling(Observer):
    """Says what happens in lines for people."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._connections = 0

    def connected(self, server: str) -> None:
        self._connections += 1
        if self._connections > 1:
            self._tell(f"connected to {server} again; announced anew")

    def disconnected(self, reason: str) -> None:
        self._tell(f"NATS connection lost ({reason}); the router keeps the route for a while, reconnecting")

    def router_heard(self, router: RouterStart, interval_s: float) -> None:
        self._tell(f"router {router.id} at {', '.join(router.hosts)} listens; announcing every {interval_s:.3g} s")

    def no_router_answered(self) -> None:
        self._tell("no router has answered yet; one that starts later will hear of this route at once")

    def _tell(self, text: str) -> None:
        self._say(f"{time.strftime('%H:%M:%S')} {text}")


async def register(
    announcement: Announcement,
    servers: Sequence[str],
    *,
    say: Say,
    complain: Say,
    tls: ssl.SSLContext | None = None,
    interval_s: float | None = None,
    connect_timeout_s: float = 10.0,
) -> int:
    """Announce until SIGINT or SIGTERM, then unregister.

    Returns:
        0; or 1 if no NATS server could be connected to within ``connect_timeout_s``. Once connected it goes on
        whatever happens to NATS.
    """
    stop = stop_on_signals()
    announcer = Announcer(
        servers,
        name="router register",
        tls=tls,
        interval_s=interval_s,
        observer=Telling(say),
        connect_timeout_s=connect_timeout_s,
    )
    try:
        # Stopping must not have to wait for the first connection.
        if not await unless_stopped(announcer.__aenter__(), stop):
            return 0
    except BusUnavailable as error:
        complain(str(error))
        return 1
    try:
        await announcer.announce(announcement)
        _describe(announcement, servers, say)
        if not await _listens(announcement):
            say(f"note: nothing listens on {_address(announcement)} at the moment")
        await stop.wait()
    finally:
        await announcer.close()
    say(f"unregistered {', '.join(announcement.uris)}")
    return 0


def _describe(announcement: Announcement, servers: Sequence[str], say: Say) -> None:
    how = " with TLS" if announcement.tls_port else ""
    say(f"announcing {', '.join(announcement.uris)} -> {_address(announcement)}{how}")
    say(f"  to NATS at {', '.join(redacted(server) for server in servers)}")
    facts = {
        "app": announcement.app,
        "instance": announcement.private_instance_id,
        "index": announcement.private_instance_index,
        "certificate name": announcement.server_cert_domain_san,
        "protocol": announcement.protocol,
        "balancing": announcement.options.loadbalancing,
        "weight": "" if announcement.weight == DEFAULT_WEIGHT else str(announcement.weight),
        "route service": announcement.route_service_url,
        **{f"tag {key}": value for key, value in announcement.tags.items()},
    }
    say("  " + ", ".join(f"{name} {value}" for name, value in facts.items() if value))
    say("  Ctrl-C unregisters and leaves")


def _address(announcement: Announcement) -> str:
    host = f"[{announcement.host}]" if ":" in announcement.host else announcement.host
    return f"{host}:{announcement.tls_port or announcement.port}"


async def _listens(announcement: Announcement) -> bool:
    try:
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_connection(
                announcement.host, announcement.tls_port or announcement.port
            )
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def new_instance_id() -> str:
    return str(uuid.uuid4())
