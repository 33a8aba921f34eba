"""What `router dev` shows: what runs, where it answers, and lines to paste."""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.dev.child import Child
from router.dev.containers import DOMAIN, engine_found, recipe
from router.dev.inside import BACKEND, CALLERS, FRONT, NAME, OTHER, ROUTER, Inside
from router.dev.plan import Plan
from router.dev.samples import hostname
from router.dev.stack import APPS, Stack

READY = "Ctrl-C stops everything."
"""The last line printed before one can use what runs."""

ABOUT = {
    "hello": "a page that shows which instance answers",
    "echo": "the request as the app sees it",
}


class ConsoleScreen:
    """Prints on a terminal, or plainly into a pipe."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def starting(self, what: str) -> None:
        self._console.print(f"starting {what} …", style="dim")

    def event(self, text: str) -> None:
        line = Text(f"{time.strftime('%H:%M:%S')} ", style="dim").append(text, style="yellow not dim")
        self._console.print(line, soft_wrap=True)

    def log_lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._console.print(Text(line, style="dim"), soft_wrap=True)

    def problems(self, problems: Sequence[str]) -> None:
        for problem in problems:
            self._console.print(Text("router dev: ", style="bold red").append(problem, style="not bold default"))

    def ready(self, stack: Stack) -> None:
        """Print what runs and what to do with it."""
        self._console.print()
        for app in APPS:
            self._console.print(_addresses(stack.plan, app), soft_wrap=True)
        self._console.print()
        self._console.print(_processes(stack), soft_wrap=True)
        self._console.print()
        self._recipes(recipes(stack))
        plan = stack.plan
        if plan.inside is not None:
            title = f"Inside: {NAME}, for containers alone. One is whose address it calls from."
            self._console.print(Text(title, style="bold"), soft_wrap=True)
            self._recipes(inside_recipes(plan, plan.inside))
        else:
            self._console.print(
                Text(f"No internal routing: {plan.inside_left_out}.\n", style="dim"), soft_wrap=True
            )
        if not plan.options.docker and (engine := engine_found()):
            offer = f"There is a container engine at {engine}: --docker gives its containers routes."
            self._console.print(Text(offer, style="dim"), soft_wrap=True)
        logs = f"Logs: {shown(plan.log('router'))} (component log), {shown(plan.access_log)} (one line a request)"
        self._console.print(Text(logs, style="dim"), soft_wrap=True)
        self._console.print(Text(READY, style="bold"))

    def _recipes(self, lines: Sequence[tuple[str, str]]) -> None:
        for comment, line in lines:
            self._console.print(Text(f"# {comment}", style="green"), soft_wrap=True)
            self._console.print(Text(line), soft_wrap=True)
        self._console.print()

    def stopping(self) -> None:
        self._console.print("stopping …", style="dim")

    def stopped(self) -> None:
        self._console.print("everything is stopped", style="dim")


def _addresses(plan: Plan, app: str) -> Text:
    http, https = urls(plan, app)
    width = max(len(urls(plan, each)[1]) for each in APPS)
    line = Text().append(f"{http:{width}} ", style="bold cyan").append(f"{https:{width}}   ", style="cyan")
    return line.append(ABOUT[app], style="dim")


def urls(plan: Plan, app: str) -> tuple[str, str]:
    """Return the addresses of an app, over HTTP and over HTTPS."""
    host = hostname(app)
    return f"http://{host}:{plan.options.http_port}/", f"https://{host}:{plan.options.https_port}/"


def _processes(stack: Stack) -> Table:
    plan, options = stack.plan, stack.plan.options
    table = Table("running", "pid", "at", box=None, header_style="bold", pad_edge=False)
    ports = f"http 127.0.0.1:{options.http_port}, https 127.0.0.1:{options.https_port}"
    workers = f"{options.workers} worker{'' if options.workers == 1 else 's'}"
    table.add_row("router", _pid(stack.router), f"{ports}, {workers}")
    store = f", JetStream in {shown(plan.state / 'nats')}" if stack.nats else ""
    table.add_row("nats-server", _pid(stack.nats), f"{plan.nats_shown}{store}")
    if stack.docker is not None:
        at = f"containers become http://APP.{DOMAIN}:{options.http_port}/, or what label router.uris says"
        table.add_row("router docker", _pid(stack.docker), at)
    if plan.inside is not None:
        table.add_row("cell", _pid(stack.cell), "tells the router whose container addresses are whose")
    for instance in stack.instances:
        table.add_row(instance.child.name, str(instance.child.pid), instance.address)
    return table


def _pid(child: Child | None) -> str:
    return str(child.pid) if child else "-"


def recipes(stack: Stack) -> list[tuple[str, str]]:
    """Return lines to paste into another terminal, each with what it shows."""
    plan = stack.plan
    http, https = urls(plan, "hello")
    echo, _ = urls(plan, "echo")
    victim = next(instance for instance in stack.instances if instance.app == "hello")
    router = own_command()
    nats = "" if plan.nats_url == "nats://127.0.0.1:4222" else f" --nats {plan.nats_shown}"
    mine = f"http://mine.localhost:{plan.options.http_port}/"
    return [
        ("a request over HTTP", f"curl {http}"),
        (
            "a request over HTTPS, trusting the development CA",
            f"curl --cacert {shown(plan.ca_certificate)} {https}",
        ),
        ("what the app behind the router sees of a request", f"curl '{echo}some/path?x=1'"),
        (
            "kill an instance: the other one takes over with the next request",
            f"kill -9 {victim.child.pid}; for i in 1 2 3 4 5 6; do curl -s {http}; done",
        ),
        (
            "the route table; the killed instance leaves it within 25 s",
            f"{router} routes -c {shown(plan.config_file)}",
        ),
        (
            "an app of your own: serve it, announce it, look at it",
            f"python3 -m http.server 9000 --bind 127.0.0.1 &\n"
            f"{router} register --uri mine.localhost --port 9000 --host 127.0.0.1{nats} &\n"
            f"sleep 1; curl {mine}",
        ),
        *([recipe(plan.options.http_port)] if plan.options.docker else []),
    ]


def inside_recipes(plan: Plan, inside: Inside) -> list[tuple[str, str]]:
    """Return lines that show what containers can and cannot do; the address one calls from says which one is."""
    router, config = own_command(), shown(plan.config_file)
    policy = f"{FRONT} {BACKEND} --port {inside.app_port} -c {config}"
    front, other = (call_line(inside, app) for app in (FRONT, OTHER))
    return [
        (
            f"app {FRONT} looks the name up and learns where the router is",
            lookup_line(inside, FRONT),
        ),
        (f"app {OTHER} has no policy: for it there is no such name, and no answer", lookup_line(inside, OTHER)),
        (f"{FRONT} calls, on a port that is not {BACKEND}'s own; {BACKEND} is told who it is", front),
        (f"{OTHER} gets 403, although it knows name and address", other),
        ("who may reach whom", f"{router} policy list -c {config}"),
        (
            f"take the policy back: {FRONT} gets 403 within a second",
            f"{router} policy remove {policy}; sleep 1; {front}",
        ),
        ("and give it again", f"{router} policy add {policy}; sleep 1; {front}"),
    ]


def lookup_line(inside: Inside, app: str) -> str:
    """Return how a container of an app looks the internal name up."""
    return f"dig +short -b {CALLERS[app]} @{ROUTER} -p {inside.dns_port} {NAME}"


def call_line(inside: Inside, app: str) -> str:
    """Return how a container of an app calls the internal name."""
    return f"curl -i --interface {CALLERS[app]} --connect-to ::{ROUTER}: http://{NAME}:{inside.http_port}/"


def own_command() -> str:
    """Return how this `router` is called in another terminal."""
    own = Path(sys.argv[0]).absolute()
    found = shutil.which("router")
    if found is not None and Path(found).absolute() == own:
        return "router"
    return shown(own) if own.name == "router" else f"{shown(Path(sys.executable))} -m router"


def shown(path: Path) -> str:
    """Return a path as short as it can be typed from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("../..") and len(relative) < len(str(path)) else str(path)
