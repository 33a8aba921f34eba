"""Podman as a container engine: with storage, network and locks of its own."""

import contextlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.engine import EXPOSED, IMAGE, WEB, ContainerEngine
from tests.support.needs import needs
from tests.support.waiting import wait_until


class Podman(ContainerEngine):
    network = "podman"

    def __init__(self) -> None:
        self._podman = needs("podman")
        needs("runc")
        super().__init__("podman")
        self._environment = {**os.environ, "CONTAINERS_CONF": str(self._settings())}

    def __enter__(self) -> "Podman":
        super().__enter__()
        return self

    def _begin(self) -> None:
        self.make_image(IMAGE, WEB, EXPOSED)
        self.start()

    def _end(self) -> None:
        self.stop()
        with contextlib.suppress(AssertionError):
            self.clear()

    def start(self) -> None:
        if self._service is not None:
            return
        with (self.directory / "service.log").open("ab") as log:
            self._service = subprocess.Popen(
                self._command("system", "service", "--time=0", self.url),
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, "podman's service")

    def stop(self) -> None:
        service, self._service = self._service, None
        if service is not None:
            service.kill()
            service.wait(10)
            self.socket.unlink(missing_ok=True)

    def run(self, *arguments: str) -> str:
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

    def clear(self) -> None:
        self.run("rm", "--all", "--force", "--time", "0")

    def remove(self, *containers: str) -> None:
        self.run("rm", "--force", "--time", "0", *containers)

    def check_health(self, container: str) -> None:
        # Without systemd nobody else does; it fails if the container is not well.
        with contextlib.suppress(AssertionError):
            self.run("healthcheck", "run", container)

    def _import(self, options: Sequence[str], archive: Path, name: str) -> None:
        self.run("import", "--quiet", *options, str(archive), name)

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
