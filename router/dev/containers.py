"""The containers of this machine in `router dev`: whether there is an engine, and the watcher that announces them.

The watcher is `router docker` itself. Containers without labels are named too: what is started to be looked at
must show up.
"""

import asyncio
import sys
from pathlib import Path

DOMAIN = "localhost"
EXTRA = "router[docker]"


def engine_found() -> str:
    """Return the URL of the engine that the environment or the usual sockets name; empty if there is none."""
    try:
        from router.docker.engine import environment_place
    except ModuleNotFoundError:
        return ""
    place = environment_place()
    return place.url if place is not None else ""


def engine_problems() -> list[str]:
    """Return why there can be no watcher; nothing if there can."""
    try:
        from router.docker.settings import Settings, SettingsError
    except ModuleNotFoundError as error:
        return [f"--docker needs {error.name}: pip install '{EXTRA}'"]
    try:
        Settings().place()
    except SettingsError as error:
        return [f"--docker: {problem}" for problem in error.problems]
    return []


def control_socket(state: Path) -> Path:
    """Return where the watcher takes commands."""
    return state / "docker.sock"


def docker_command(nats_url: str, host: str, state: Path) -> list[str]:
    """Return the watcher's command line; it finds the engine as any `router docker` does."""
    return [
        *(sys.executable, "-m", "router", "docker"),
        *("--nats", nats_url),
        *("--host", host),
        *("--domain", DOMAIN),
        *("--control-socket", str(control_socket(state))),
    ]


async def watcher_is_ready(state: Path) -> bool:
    """Whether it has looked at all containers and reaches NATS."""
    from router.docker.switch import SwitchError, ask

    try:
        answer = await asyncio.to_thread(ask, str(control_socket(state)), "status")
    except SwitchError:
        return False
    return bool(answer["engine"] and answer["nats"])


def recipe(http_port: int) -> tuple[str, str]:
    """Return a line to paste that starts a container, and what it shows."""
    run = "docker run --rm -d -P --name whoami docker.io/traefik/whoami"
    return "a container of your own", f"{run}; sleep 1; curl http://whoami.{DOMAIN}:{http_port}/"
