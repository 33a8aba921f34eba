"""A real container engine: Podman with storage, network and locks of its own, in a network namespace of its own.

The images are made of busybox alone; nothing is fetched. Ports that containers publish are on the namespace's
127.0.0.1: a test enters it with `Podman.inside`, and everything it starts from there on lives in it.
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


class Podman:
    """Use as a context manager; leaving it ends every container and takes everything away."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            pytest.skip("skipped: needs root for network namespaces")
        self._podman, self._ip, self._enter = needs("podman"), needs("ip"), needs("nsenter")
        needs("runc")
        self._busybox = needs("busybox")
        self._namespace = f"p{uuid.uuid4().hex[:8]}"
        # Short, for the path of a socket may have 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="podman-", dir="/tmp"))
        self.socket = self.directory / "engine.sock"
        self._service: subprocess.Popen[bytes] | None = None
        self._environment = {**os.environ, "CONTAINERS_CONF": str(self._settings())}

    def __enter__(self) -> "Podman":
        try:
            subprocess.run([self._ip, "netns", "add", self._namespace], check=True)
            subprocess.run([self._ip, "-n", self._namespace, "link", "set", "lo", "up"], check=True)
            self.make_image(IMAGE, WEB, EXPOSED)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        with contextlib.suppress(AssertionError):
            self.run("rm", "--all", "--force", "--time", "0")
        subprocess.run([self._ip, "netns", "del", self._namespace], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    # The engine.

    def start(self, *addresses: str) -> None:
        """Start the API service, unless it runs, and wait until it answers."""
        if self._service is not None:
            return
        where = addresses or (self.url,)
        with (self.directory / "service.log").open("ab") as log:
            self._service = subprocess.Popen(
                self._command("system", "service", "--time=0", *where),
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if not addresses:
            wait_until(self._answers, "podman's service")

    def stop(self) -> None:
        """End the API service; containers go on running."""
        service, self._service = self._service, None
        if service is not None:
            service.kill()
            service.wait(10)
            self.socket.unlink(missing_ok=True)

    def run(self, *arguments: str) -> str:
        """Run a command of podman's and return what it printed."""
        done = subprocess.run(
            self._command(*arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

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
        self.run("import", "--quiet", *options, str(archive), name)

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

    def clear(self) -> None:
        """Take all containers away."""
        self.run("rm", "--all", "--force", "--time", "0")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, AssertionError, ValueError):
            return bool(self.api("GET", "/version"))
        return False

    def _command(self, *arguments: str) -> list[str]:
        storage = [f"--root={self.directory}/root", f"--runroot={self.directory}/run", "--storage-driver=vfs"]
        return [
            self._enter,
            f"--net=/run/netns/{self._namespace}",
            self._podman,
            *storage,
            "--log-level=error",
            *arguments,
        ]

    def _settings(self) -> Path:
        file = self.directory / "containers.conf"
        # Low limits, and runc, for machines where root lacks CAP_SYS_RESOURCE or the cgroups are hybrid ones.
        file.write_text(f"""[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{self.directory}/libpod"
volume_path = "{self.directory}/volumes"
[network]
network_backend = "netavark"
network_config_dir = "{self.directory}/networks"
""")
        return file


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

    def __init__(self, podman: Podman) -> None:
        self.heard: list[tuple[str, str, float]] = []
        self._connection = _UnixConnection(str(podman.socket))
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
