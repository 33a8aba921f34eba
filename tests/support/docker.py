"""Docker as a container engine: a daemon with storage, network and containerd of its own."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.engine import EXPOSED, IMAGE, WEB, ContainerEngine
from tests.support.needs import needs
from tests.support.waiting import wait_until


class Docker(ContainerEngine):
    """Containers outlive the daemon."""

    network = "bridge"

    def __init__(self) -> None:
        # Beside Podman, which has all of what matters, it is welcome and not demanded.
        if shutil.which("dockerd") is None or shutil.which("docker") is None:
            pytest.skip("skipped: needs dockerd and docker")
        needs("runc")
        super().__init__("docker")
        self._config = self.directory / "daemon.json"
        self._config.write_text("{}")
        self._environment = {**os.environ, "DOCKER_HOST": self.url, "DOCKER_CONFIG": str(self.directory)}

    def __enter__(self) -> "Docker":
        super().__enter__()
        return self

    def _begin(self) -> None:
        try:
            self.start()
        except AssertionError:
            # What a daemon asks of a kernel not every machine has.
            log = (self.directory / "service.log").read_text(errors="replace").strip().rpartition("\n")[2]
            pytest.skip(f"skipped: needs a machine on which dockerd starts; it says {log}")
        self.make_image(IMAGE, WEB, EXPOSED)

    def _end(self) -> None:
        with contextlib.suppress(AssertionError):
            self.start()
            self.clear()
        self.stop()
        # A daemon that containers may outlive leaves these behind.
        for mount in ("data-root", "exec-root/netns/default"):
            subprocess.run(["umount", "--lazy", self.directory / mount], check=False, capture_output=True)

    def start(self) -> None:
        if self._service is not None:
            return
        enter = [self._enter, f"--net=/run/netns/{self._namespace}"]
        state = [f"--{name}={self.directory}/{name}" for name in ("data-root", "exec-root", "pidfile")]
        # Docker's own proxies would end with the daemon, though the containers go on.
        options = [
            "--userland-proxy=false",
            "--storage-driver=vfs",
            "--bip=10.88.0.1/16",
            "--live-restore",
            f"--config-file={self._config}",
        ]
        with (self.directory / "service.log").open("ab") as log:
            self._service = subprocess.Popen(
                [*enter, "dockerd", f"--host={self.url}", *state, *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, "docker's daemon", timeout_s=30)

    def stop(self) -> None:
        service, self._service = self._service, None
        if service is not None:
            # Not killed: its containerd would stay.
            service.terminate()
            service.wait(30)

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [needs("docker"), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def remove(self, *containers: str) -> None:
        self.run("rm", "--force", *containers)

    def check_health(self, container: str) -> None:
        """Nothing: the daemon does."""

    def _import(self, options: Sequence[str], archive: Path, name: str) -> None:
        self.run("import", *options, str(archive), name)
