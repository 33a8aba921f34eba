"""A host with containers, made of network namespaces: each container has its own address and interface.

The containers' host ends lie in one namespace, the cell, which forwards between them as a platform's host does.
One more namespace on it is where the router runs. A test enters that one with
`Cell.inside`: everything it starts from there on (nats-server, router, threads) lives in it.
No packet leaves the namespaces made here.
"""

import os
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.namespaces import inside_namespace
from tests.support.needs import needs
from tests.support.waiting import PATIENCE_S

_GATEWAY = "169.254.0.1"
_SETTINGS = Path("/etc/netns")


class Cell:
    """Use as a context manager; leaving it takes all namespaces away.

    Args:
        containers: name and address of each container; one of them is to be the router's.
        resolver: address of the DNS server that all containers ask.
    """

    def __init__(self, containers: dict[str, str], resolver: str = "") -> None:
        self.containers = containers
        self._resolver = resolver
        self._ip = needs("ip")
        self._prefix = f"t{uuid.uuid4().hex[:6]}"
        if os.geteuid() != 0:
            pytest.skip("skipped: needs root for network namespaces")

    def __enter__(self) -> "Cell":
        try:
            self._make_cell()
            for name, address in self.containers.items():
                self._add(name, address)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self.containers, "cell"]:
            shutil.rmtree(_SETTINGS / self.namespace(name), ignore_errors=True)
            subprocess.run([self._ip, "netns", "del", self.namespace(name)], check=False, capture_output=True)

    def namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def run(
        self, container: str, command: Sequence[str], *, timeout_s: float = PATIENCE_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in a container and return what it said."""
        return subprocess.run(
            [self._ip, "netns", "exec", self.namespace(container), *command],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, container: str, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start a process in a container; it is the caller's to end."""
        return subprocess.Popen([self._ip, "netns", "exec", self.namespace(container), *command])

    def inside(self, container: str) -> AbstractContextManager[None]:
        """Live in a container's network: this thread, and all threads and processes it starts meanwhile."""
        return inside_namespace(self.namespace(container))

    def _make_cell(self) -> None:
        self._do("netns", "add", self.namespace("cell"))
        self._in("cell", "link", "set", "lo", "up")
        for setting in ("ip_forward=1", "conf.all.rp_filter=1", "conf.default.rp_filter=1"):
            command = [needs("sysctl"), "-qw", f"net.ipv4.{setting}"]
            assert self.run("cell", command).returncode == 0

    def _add(self, name: str, address: str) -> None:
        space, cell, outer = self.namespace(name), self.namespace("cell"), f"s-{name}"
        self._do("netns", "add", space)
        if self._resolver:
            # `ip netns exec` lays this over /etc/resolv.conf.
            (_SETTINGS / space).mkdir(parents=True)
            (_SETTINGS / space / "resolv.conf").write_text(f"nameserver {self._resolver}\n")
        self._in(name, "link", "set", "lo", "up")
        self._do(
            "link", "add", "name", "eth0", "netns", space, "type", "veth", "peer", "name", outer, "netns", cell
        )
        self._in(name, "addr", "add", f"{address}/32", "dev", "eth0")
        self._in(name, "link", "set", "eth0", "up")
        self._in("cell", "addr", "add", f"{_GATEWAY}/32", "dev", outer)
        self._in("cell", "link", "set", outer, "up")
        self._in("cell", "route", "add", f"{address}/32", "dev", outer, "scope", "link")
        self._in(name, "route", "add", f"{_GATEWAY}/32", "dev", "eth0", "scope", "link")
        self._in(name, "route", "add", "default", "via", _GATEWAY, "dev", "eth0")

    def _in(self, name: str, *arguments: str) -> None:
        self._do("-n", self.namespace(name), *arguments)

    def _do(self, *arguments: str) -> None:
        subprocess.run([self._ip, *arguments], check=True, capture_output=True, text=True)
