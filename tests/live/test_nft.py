"""The rules against real packets: containers are network namespaces, and a host forwards between them."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from router.routing.internal_records import Policy
from router.routing.nft import TABLE, Facts, host_routes, render
from tests.support.bucket import policy
from tests.support.cell import Cell
from tests.support.needs import needs
from tests.support.waiting import wait_until

ADDRESSES = {"a": "10.255.1.2", "b": "10.255.1.3", "c": "10.255.1.4", "router": "10.255.1.254"}

SERVER = """
import selectors, socket
selector = selectors.DefaultSelector()
for port in (8080, 9000):
    tcp, udp = socket.create_server(("0.0.0.0", port)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", port))
    selector.register(tcp, 1, "listen")
    selector.register(udp, 1, "udp")
while True:
    for key, _ in selector.select():
        if key.data == "listen":
            selector.register(key.fileobj.accept()[0], 1, "tcp")
        elif key.data == "udp":
            key.fileobj.sendto(*key.fileobj.recvfrom(100))
        else:
            try:
                text = key.fileobj.recv(100)
            except OSError:
                text = b""
            if text: key.fileobj.send(text)
            else: selector.unregister(key.fileobj); key.fileobj.close()
"""
"""Echoes on TCP and UDP, two ports of each."""

CLIENT = """
import socket, sys
host, port, source, kind, patience_s = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], float(sys.argv[5])
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
client.settimeout(patience_s)
if source: client.bind((source, 0))
try:
    client.connect((host, port))
    for _ in sys.stdin if "hold" in sys.argv else [""]:
        client.send(b"x")
        print("ok" if client.recv(100) else "closed", flush=True)
except OSError as error:
    print(type(error).__name__, flush=True)
"""
"""One exchange; with ``hold``, one for each line of stdin, over one connection."""


TARGET = """
import select, socket
target, asked = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
target.bind(("0.0.0.0", 9100)); asked.bind(("0.0.0.0", 9101))
while target not in select.select([target, asked], [], [])[0]:
    asked.sendto(b"not hit", asked.recvfrom(100)[1])
select.select([], [], [])
"""
"""Answers on one UDP port, until it is hit on another."""


@dataclass
class Host:
    """The host of the containers, and what it enforces."""

    cell: Cell
    python: str
    held: list["subprocess.Popen[str]"] = field(default_factory=list)

    def enforce(self, *policies: Policy) -> None:
        """Load the rules for these policies; each container's app is called as itself."""
        tables = [self.cell.run("cell", ["cat", f"/proc/net/{name}"]).stdout for name in ("route", "ipv6_route")]
        workloads = {address: name for name, address in ADDRESSES.items() if name != "router"}
        facts = Facts(workloads, policies, ["10.255.0.0/16"], [ADDRESSES["router"]], host_routes(*tables))
        assert set(facts.interfaces) == set(ADDRESSES.values())
        loaded = subprocess.run(
            ["ip", "netns", "exec", self.cell.namespace("cell"), needs("nft"), "-f", "-"],
            input=render(facts),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (loaded.returncode, loaded.stderr) == (0, "")

    def ask(
        self, client: str, server: str, port: int, *, kind: str = "tcp", source: str = "", patience_s: float = 30.0
    ) -> str:
        """Return how one exchange went: ``ok``, or the name of the error."""
        command = [self.python, "-c", CLIENT, ADDRESSES[server], str(port), source, kind, str(patience_s)]
        return self.cell.run(client, command).stdout.strip()

    def hold(self, client: str, server: str, port: int) -> "subprocess.Popen[str]":
        """Return a client that stays connected."""
        command = [self.python, "-c", CLIENT, ADDRESSES[server], str(port), "", "tcp", "30", "hold"]
        held = subprocess.Popen(
            ["ip", "netns", "exec", self.cell.namespace(client), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.held.append(held)
        return held


def exchange(held: "subprocess.Popen[str]") -> str:
    """Return how one more exchange over the connection went."""
    assert held.stdin is not None
    assert held.stdout is not None
    held.stdin.write("\n")
    held.stdin.flush()
    return held.stdout.readline().strip()


@pytest.fixture
def host() -> Iterator[Host]:
    needs("nft")
    python = needs("python3")
    with Cell(ADDRESSES) as cell:
        host = Host(cell, python)
        servers = [cell.start(name, [python, "-c", SERVER]) for name in ("a", "b", "c")]
        try:
            for name in ("a", "b", "c"):
                wait_until(lambda: host.ask("router", name, 9000) == "ok", f"the server in {name}")  # noqa: B023
            yield host
        finally:
            processes: list[subprocess.Popen[Any]] = [*servers, *host.held]
            for process in processes:
                process.kill()
                process.wait()
                for stream in (process.stdin, process.stdout):
                    if stream is not None:
                        stream.close()


def test_only_what_a_policy_allows_passes(host: Host) -> None:
    host.enforce(policy("a", "b", 8080), policy("b", "c", 8000, 9000, "udp"))
    assert host.ask("a", "b", 8080) == "ok"
    assert host.ask("a", "b", 9000) == "ConnectionRefusedError"
    assert host.ask("b", "a", 8080) == "ConnectionRefusedError"
    assert host.ask("c", "b", 8080) == "ConnectionRefusedError"
    assert host.ask("a", "b", 8080, kind="udp") == "ConnectionRefusedError"
    assert host.ask("b", "c", 8080, kind="udp") == "ok"
    assert host.ask("b", "c", 8080) == "ConnectionRefusedError"


def test_the_router_is_not_held_up_in_either_direction(host: Host) -> None:
    host.enforce()
    assert host.ask("a", "b", 8080) == "ConnectionRefusedError"
    assert host.ask("router", "b", 8080) == "ok"
    assert host.ask("router", "b", 9000, kind="udp") == "ok"
    listening = host.cell.start("router", [host.python, "-c", SERVER])
    try:
        wait_until(lambda: host.ask("a", "router", 9000) == "ok", "the server in router")
    finally:
        listening.kill()
        listening.wait()


def test_a_removed_policy_cuts_the_connections_it_permitted(host: Host) -> None:
    host.enforce(policy("a", "b", 8080), policy("c", "b", 8080))
    going, staying = host.hold("a", "b", 8080), host.hold("c", "b", 8080)
    assert (exchange(going), exchange(staying)) == ("ok", "ok")
    host.enforce(policy("c", "b", 8080))
    assert exchange(going) == "ConnectionResetError"
    assert exchange(staying) == "ok"
    assert host.ask("a", "b", 8080) == "ConnectionRefusedError"


def test_rules_that_are_loaded_again_cut_nothing(host: Host) -> None:
    host.enforce(policy("a", "b", 8080))
    held = host.hold("a", "b", 8080)
    assert exchange(held) == "ok"
    host.enforce(policy("a", "b", 8080), policy("c", "b", 8080))
    assert exchange(held) == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["a", "router"])
def test_an_address_of_another_container_gets_nowhere(host: Host, victim: str) -> None:
    """Without the kernel's own check, which would drop it anyway."""
    for setting in ("all", "default", "s-a", "s-b", "s-c", "s-router"):
        set_to = [needs("sysctl"), "-qw", f"net.ipv4.conf.{setting}.rp_filter=0"]
        assert host.cell.run("cell", set_to).returncode == 0
    assert host.cell.run("c", ["ip", "addr", "add", f"{ADDRESSES[victim]}/32", "dev", "eth0"]).returncode == 0
    target = host.cell.start("b", [host.python, "-c", TARGET])
    try:
        wait_until(lambda: host.ask("router", "b", 9101, kind="udp") == "ok", "the target")
        host.enforce(policy("a", "b", 9100, protocol="udp"))
        unheard = host.ask("c", "b", 9100, kind="udp", source=ADDRESSES[victim], patience_s=1)
        assert unheard == "TimeoutError"
        assert host.ask("router", "b", 9101, kind="udp") == "ok", "it was hit"
        # That it would be hit without the rules shows that the above means something.
        assert host.cell.run("cell", [needs("nft"), "delete", "table", "inet", TABLE]).returncode == 0
        host.ask("c", "b", 9100, kind="udp", source=ADDRESSES[victim], patience_s=1)
        assert host.ask("router", "b", 9101, kind="udp", patience_s=1) == "TimeoutError"
    finally:
        target.kill()
        target.wait()
