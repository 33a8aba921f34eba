"""What a real container engine of the tests is, whichever it is: its network, its API, its images and containers.

The images are made of busybox alone; nothing is fetched. An engine has a network namespace of its own, and ports
that containers publish are on that namespace's 127.0.0.1: a test enters it with `ContainerEngine.inside`, and
everything it starts from there on lives in it.
"""

import contextlib
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.support.namespaces import inside_namespace
from tests.support.needs import needs
from tests.support.waiting import wait_until

IMAGE = "localhost/web:1"
EXPOSED = ("8081/udp", "8081/tcp", "8079/tcp", "8078/udp")
APPLETS = ("sh", "httpd", "hostname", "sleep", "test", "touch", "rm", "wget")
WEB = ["/bin/sh", "-c", "httpd -p 8081 -h /other; exec httpd -f -p 8079 -h /www"]
"""8079 answers with the container's host name, 8081 with ``other``."""

_TRIES = 5
_PROGRAM = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'; hostname\n"


class ContainerEngine(ABC):
    """Use as a context manager; leaving it ends every container and takes everything away."""

    network: str
    """The one that containers are connected to unless they say otherwise."""

    def __init__(self, prefix: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("skipped: needs root for network namespaces")
        self._ip, self._enter, self._busybox = needs("ip"), needs("nsenter"), needs("busybox")
        self._namespace = f"{prefix[0]}{uuid.uuid4().hex[:8]}"
        # Short, for the path of a socket may have 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir="/tmp"))
        self.socket = self.directory / "engine.sock"
        self._service: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ContainerEngine":
        try:
            subprocess.run([self._ip, "netns", "add", self._namespace], check=True)
            subprocess.run([self._ip, "-n", self._namespace, "link", "set", "lo", "up"], check=True)
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        subprocess.run([self._ip, "netns", "del", self._namespace], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    # What engines differ in.

    @abstractmethod
    def _begin(self) -> None:
        """Start it, with the image there."""

    @abstractmethod
    def _end(self) -> None:
        """End it with all its containers, however far it came."""

    @abstractmethod
    def start(self) -> None:
        """Start what answers the API, unless it runs, and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """End what answers the API; containers go on running."""

    @abstractmethod
    def run(self, *arguments: str) -> str:
        """Run a command of the engine's command line and return what it printed."""

    @abstractmethod
    def remove(self, *containers: str) -> None:
        """End containers at once and take them away."""

    @abstractmethod
    def check_health(self, container: str) -> None:
        """See to it that a container's health check is made soon."""

    def kill(self, container: str) -> None:
        self.run("kill", container)

    def stop_container(self, container: str) -> None:
        self.run("stop", "--time", "0", container)

    def clear(self) -> None:
        """Take all containers away."""
        if containers := self.run("ps", "--all", "--quiet").split():
            self.remove(*containers)

    def on_host(self, program: str, *arguments: str) -> None:
        """Run a command in the engine's network."""
        subprocess.run(
            [self._enter, f"--net=/run/netns/{self._namespace}", needs(program), *arguments],
            check=True,
            capture_output=True,
            timeout=20,
        )

    def inside(self) -> AbstractContextManager[None]:
        """Live in the engine's network: this thread, and all threads and processes it starts meanwhile."""
        return inside_namespace(self._namespace)

    # Images and containers.

    def make_image(
        self,
        name: str,
        command: Sequence[str],
        exposed: Sequence[str] = (),
        *,
        labels: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Import an image of busybox with this configuration."""
        archive = self.directory / "root.tar"
        if not archive.exists():
            _write_root(archive, Path(self._busybox))
        changes = [f"CMD {json.dumps(list(command))}", *(f"EXPOSE {port}" for port in exposed)]
        changes += [f"LABEL {key}={json.dumps(value)}" for key, value in (labels or {}).items()]
        changes += [f"ENV {key}={value}" for key, value in (environment or {}).items()]
        options = [option for change in changes for option in ("--change", change)]
        self._import(options, archive, name)

    def create(
        self,
        labels: Mapping[str, str] | None = None,
        *,
        image: str = IMAGE,
        name: str = "",
        publish: bool = True,
        **settings: Any,
    ) -> str:
        """Create a container by the API and return its id; further settings as in the API's body."""
        body = {"Image": image, "Labels": dict(labels or {}), **settings}
        body["HostConfig"] = {"PublishAllPorts": publish, **settings.get("HostConfig", {})}
        created = self.api("POST", f"/containers/create{f'?name={name}' if name else ''}", body)
        return str(created["Id"])

    def launch(self, labels: Mapping[str, str] | None = None, **settings: Any) -> str:
        """Create a container and start it."""
        for _ in range(_TRIES):
            container = self.create(labels, **settings)
            status, told = self._ask("POST", f"/containers/{container}/start")
            if b"address already in use" not in told:
                break
            # Podman 4.3 chooses ports for UDP by what is free for TCP.
            self.api("DELETE", f"/containers/{container}?force=true")
        assert status < HTTPStatus.BAD_REQUEST, told
        return container

    def inspect(self, container: str) -> dict[str, Any]:
        return dict(self.api("GET", f"/containers/{container}/json"))

    def address(self, container: str) -> str:
        return str(self.inspect(container)["NetworkSettings"]["IPAddress"])

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Ask the engine; its answer's JSON, or None if it has none. Fails if the engine refuses."""
        status, content = self._ask(method, path, body)
        assert status < HTTPStatus.BAD_REQUEST, content
        return json.loads(content) if content.strip() else None

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        connection = _UnixConnection(str(self.socket))
        with contextlib.closing(connection):
            text = None if body is None else json.dumps(body)
            connection.request(method, f"/v1.41{path}", text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, AssertionError, ValueError):
            return bool(self.api("GET", "/version"))
        return False

    @abstractmethod
    def _import(self, options: Sequence[str], archive: Path, name: str) -> None:
        """Make an image of a root file system."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Events:
    """Everything the engine tells from now on, with the time at which it was heard. Use as a context manager."""

    def __init__(self, engine: ContainerEngine) -> None:
        self.heard: list[tuple[str, str, float]] = []
        self._connection = _UnixConnection(str(engine.socket))
        self._connection.timeout = None
        self._connection.request("GET", "/v1.41/events")
        self._answer = self._connection.getresponse()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "Events":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._connection.close()

    def time_of(self, action: str, container: str) -> float:
        """Wait for an event, and return when it was heard, by the monotonic clock."""

        def found() -> float | None:
            return next((at for what, who, at in self.heard if (what, who) == (action, container)), None)

        return wait_until(found, f"event {action} of {container[:12]}", timeout_s=30)

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException, AttributeError):
            while line := self._answer.readline():
                event = json.loads(line)
                self.heard.append(
                    (event.get("Action", ""), event.get("Actor", {}).get("ID", ""), time.monotonic())
                )


def _write_root(archive: Path, busybox: Path) -> None:
    """Write a root file system with busybox and two web sites."""
    files = {
        "etc/passwd": (0o644, b"root:x:0:0::/:/bin/sh\n"),
        "other/index.html": (0o644, b"other\n"),
        "www/cgi-bin/name": (0o755, _PROGRAM.encode()),
        "www/index.html": (0o644, b"web\n"),
    }
    with tarfile.open(archive, "w") as tar:
        for name in ("bin", "dev", "etc", "other", "proc", "run", "sys", "tmp", "var/tmp", "www/cgi-bin"):
            _add(tar, name, 0o755, kind=tarfile.DIRTYPE)
        _add(tar, "bin/busybox", 0o755, busybox.read_bytes())
        for applet in APPLETS:
            _add(tar, f"bin/{applet}", 0o777, kind=tarfile.SYMTYPE, target="busybox")
        for name, (mode, content) in files.items():
            _add(tar, name, mode, content)


def _add(
    tar: tarfile.TarFile,
    name: str,
    mode: int,
    content: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    target: str = "",
) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.linkname, entry.size = mode, kind, target, len(content)
    tar.addfile(entry, io.BytesIO(content))
