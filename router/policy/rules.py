"""The nftables rules of a running router's policies: fetched, rendered, loaded.

Owns where the facts come from and the ways this can fail; does not own the rules (`routing.nft`). One law: rules
that are loaded stay as they are unless better ones are known.
"""

import ipaddress
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from router.routing.internal_records import Policy
from router.routing.nft import Facts, host_routes, render
from router.view import Source, fetch

ROUTE_TABLES = (Path("/proc/net/route"), Path("/proc/net/ipv6_route"))
NFT_S = 60.0
"""Loading some ten thousand rules takes seconds."""


class RulesError(Exception):
    """The rules cannot be made or loaded; the text says why."""


class _Workload(msgspec.Struct):
    ip: str
    app: str


class _Policy(msgspec.Struct):
    source: str
    destination: str
    protocol: str
    start: int
    end: int


class _State(msgspec.Struct):
    """What `control.internal.state` writes, as far as it matters here."""

    policies_ready: bool
    container_networks: list[str]
    addresses: list[str]
    identities: list[_Workload]
    policies: list[_Policy]
    status: dict[str, Any] = {}


class Rules(NamedTuple):
    """A rule set, and what a person should know of it."""

    text: str
    warnings: list[str]


def source_of_state(routes: Source) -> Source:
    """Return where the facts are, next to the route table."""
    return routes._replace(url=f"{routes.url.removesuffix('/routes').rstrip('/')}/internal")


def from_router(source: Source) -> Rules:
    """Return the rules for what a router decides by at present. Raises `RulesError` and `ViewError`."""
    return from_state(fetch(source))


def from_state(text: bytes, tables: tuple[Path, Path] = ROUTE_TABLES) -> Rules:
    """Return the rules for a router's state.

    Args:
        text: JSON, as the router serves it.
        tables: the kernel's IPv4 and IPv6 routes, which tell the interfaces of containers.

    Raises:
        RulesError: it is none, or policies are not known yet.
    """
    try:
        state = msgspec.json.decode(text, type=_State)
    except ValueError as error:
        raise RulesError(f"what came is not the state of internal routing: {error}") from None
    warnings = []
    if not state.policies_ready:
        if not _is_expired(state):
            raise RulesError("the router does not know the policies yet; nothing is changed")
        state.policies = []
        warnings.append("the router has lost its source of policies for too long: all is denied")
    interfaces = host_routes(*map(_contents, tables))
    networks = [ipaddress.ip_network(network) for network in state.container_networks]
    if not any(ipaddress.ip_address(each) in network for each in interfaces for network in networks):
        warnings.append(
            "no host route leads to a container address: source addresses are not checked by these rules"
        )
    return Rules(render(_facts(state, interfaces)), warnings)


def _is_expired(state: _State) -> bool:
    policies = state.status.get("policies")
    return isinstance(policies, dict) and policies.get("state") == "expired"


def _facts(state: _State, interfaces: dict[str, str]) -> Facts:
    return Facts(
        workloads={each.ip: each.app for each in state.identities},
        policies=[
            Policy(each.source, each.destination, each.protocol, each.start, each.end) for each in state.policies
        ],
        networks=state.container_networks,
        routers=state.addresses,
        interfaces=interfaces,
    )


def _contents(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        # A kernel without IPv6.
        return ""


def load(text: str) -> None:
    """Put the rules in place of those before, all at once. Raises `RulesError`; then nothing has changed."""
    try:
        result = subprocess.run(
            ["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False, timeout=NFT_S
        )
    except FileNotFoundError:
        raise RulesError("nft is not installed (Debian: apt install nftables)") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RulesError(f"nft: {error}") from None
    if result.returncode != 0:
        raise RulesError(f"nft does not take the rules: {result.stderr.strip()[:2000]}")


def keep_loaded(
    make: Callable[[], Rules],
    every_s: float,
    *,
    say: Callable[[str], None],
    complain: Callable[[str], None],
    errors: tuple[type[Exception], ...],
    sleep: Callable[[float], None],
) -> None:
    """Load the rules whenever they have changed, for ever; what fails is told once and tried again.

    Args:
        errors: what making and loading may raise.
        sleep: waits for so many seconds.
    """
    loaded = told = ""
    while True:
        try:
            rules = make()
            if rules.text != loaded:
                load(rules.text)
                loaded = rules.text
                say(summary(rules.text))
            told = _tell_once(told, "; ".join(rules.warnings), complain)
        except errors as error:
            told = _tell_once(told, str(error), complain)
        sleep(every_s)


def _tell_once(told: str, text: str, complain: Callable[[str], None]) -> str:
    if text and text != told:
        complain(text)
    return text


def summary(text: str) -> str:
    """Return what a rule set comes to, in one line."""
    allowed = sum(line.count(" . ") == 3 for line in text.splitlines() if line.startswith("\t\t\t"))
    return f"loaded: {allowed} ways from container to container are open, all others are closed"
