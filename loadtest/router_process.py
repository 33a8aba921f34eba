"""The router under load: started from its own command line, seen only from outside."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from loadtest import procfs
from loadtest.certificates import Certificate
from loadtest.probe import Probe
from loadtest.programs import Program, free_ports


class Ports:
    """The ports one router listens on; all free when this is made."""

    def __init__(self) -> None:
        self.http, self.https, self.status, self.status_tls, self.routes = free_ports(5)


def configuration(
    ports: Ports, *, nats_port: int, workers: int, access_log: Path, certificate: Certificate | None
) -> dict[str, object]:
    """Return a Gorouter configuration as plain values; written as JSON it is YAML too."""
    keys: dict[str, object] = {
        "port": ports.http,
        "listen_address": "127.0.0.1",
        "workers": workers,
        "status": {
            "port": ports.status,
            "routes": {"port": ports.routes},
            "user": "loadtest",
            "pass": "loadtest",
        },
        "nats": {"hosts": [{"hostname": "127.0.0.1", "port": nats_port}]},
        "start_response_delay_interval": "0s",
        # Gorouter's own defaults close the connection to an instance after each request and log at debug level;
        # operators who care for speed set these.
        "disable_keep_alives": False,
        "max_idle_conns": 1000,
        "max_idle_conns_per_host": 200,
        "logging": {"level": "info"},
        "access_log": {"file": str(access_log)},
    }
    if certificate is not None:
        keys |= {
            "enable_ssl": True,
            "ssl_port": ports.https,
            "tls_pem": [{"cert_chain": certificate.chain, "private_key": certificate.key}],
            "client_cert_validation": "none",
            "min_tls_version": "TLSv1.2",
            "max_tls_version": "TLSv1.3",
            "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384",
        }
    return keys


class RouterProcess:
    """A running router: its ports, its control process and its workers."""

    def __init__(self, program: Program, ports: Ports) -> None:
        self._program = program
        self.ports = ports

    @classmethod
    @contextlib.contextmanager
    def started(
        cls,
        folder: Path,
        cores: list[int],
        *,
        nats_port: int,
        workers: int,
        certificate: Certificate | None = None,
    ) -> Iterator[Self]:
        """Start ``router run`` with its configuration and logs in the folder; stop it at the end."""
        ports = Ports()
        config_file = folder / "router.yml"
        config_file.write_text(
            json.dumps(
                configuration(
                    ports,
                    nats_port=nats_port,
                    workers=workers,
                    access_log=folder / "router.access.log",
                    certificate=certificate,
                )
            )
        )
        command = [sys.executable, "-m", "router", "run", "-c", str(config_file)]
        with Program("router", command, cores=cores, log_folder=folder) as program:
            yield cls(program, ports)

    async def ready(self) -> Self:
        """Return once it says that it has started. Raises `ProgramError` if it does not."""
        await self._program.wait_until_logged('"gorouter.started"')
        return self

    @property
    def control(self) -> int:
        """Process id of the control process."""
        return self._program.pid

    @property
    def workers(self) -> list[int]:
        """Process ids of the workers that live now."""
        below = procfs.descendants(self.control)
        return sorted(pid for pid in below if "worker" in procfs.command_line(pid))

    async def wait_until_routed(self, host: str) -> Probe:
        """Return a connection on which the host answered 200; until then it asks again and again."""
        probe = await Probe.open(self.ports.http)
        async for _ in self._program.polls(f"no route for {host}"):
            if await probe.status(host) == 200:
                break
        return probe
