"""A platform in miniature: routers, NATS and containers, each in a network namespace, and everybody's part in it.

Agents, emitters and operators speak through methods of `Platform`; containers through sockets that are made in
their namespace and stay in it. Routers are real processes, and so is nats-server, which has JetStream.
"""

import contextlib
import http.client
import json
import socket
import subprocess
import threading
from base64 import b64encode
from collections.abc import Mapping, Sequence
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import SSLContext
from typing import Any

from dnslib import QTYPE, RCODE, DNSRecord  # type: ignore[import-untyped]

from router.wire.identities import DROP, PUT, AddressesGone, Workload, WorkloadsSaid, encode
from tests.support.announce import Announcer
from tests.support.cell import Cell
from tests.support.nats import NatsServer
from tests.support.needs import needs
from tests.support.rawclient import BadResponse, RawClient
from tests.support.router import RunningRouter, merged
from tests.support.waiting import PATIENCE_S, wait_until

BUS = "10.254.0.9"
"""Of the namespace ``bus``, where nats-server runs; no container's."""
NETWORK = "10.255.0.0/16"
ROUTERS = {"rtr": "10.255.0.2", "rtr2": "10.255.0.3"}
CONTAINERS = {"front": "10.255.1.2", "back": "10.255.1.3", "other": "10.255.1.4", "none": "10.255.1.9"}
NAME = "backend.apps.internal"
PORT = 5000
"""What the app behind `NAME` listens on: no port that anybody would route by itself."""
API_PORT = 14002
TOKEN = "operator"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


class Service(ThreadingHTTPServer):
    """An app's instance: answers, streams on ``/stream`` without end, echoes what comes after an upgrade.

    Made in the namespace of its container.

    Attributes:
        heard: the headers of every request.
        live: streams and tunnels in progress.
    """

    def __init__(self, address: str, port: int, name: str) -> None:
        super().__init__((address, port), _Conversation)
        self.name = name
        self.heard: list[Message] = []
        self.live = 0
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join(PATIENCE_S)
        self.server_close()


class _Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Service

    def do_GET(self) -> None:
        self.server.heard.append(self.headers)
        if self.headers.get("Upgrade"):
            self._live(self._echo)
        elif self.path == "/stream":
            self._live(self._stream)
        else:
            self._answer(self.server.name.encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _live(self, act: Any) -> None:
        self.close_connection = True
        with self.server.lock:
            self.server.live += 1
        try:
            with contextlib.suppress(OSError):
                act()
        finally:
            with self.server.lock:
                self.server.live -= 1

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(10**9))
        self.end_headers()
        pause = threading.Event()
        while not pause.wait(0.01):
            self.wfile.write(b"more\n")
            self.wfile.flush()

    def _echo(self) -> None:
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.end_headers()
        self.wfile.flush()
        while octets := self.connection.recv(4096):
            self.connection.sendall(octets)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Asker:
    """A container's resolver client, with one socket. Use as a context manager."""

    def __init__(self, server: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect((server, 53))

    def __enter__(self) -> "Asker":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def exchange(self, packet: bytes) -> bytes:
        """Send a query and return the answer with its id."""
        self._socket.send(packet)
        while True:
            answer = self._socket.recv(65536)
            if answer[:2] == packet[:2]:
                return answer

    def ask(self, name: str = NAME, kind: str = "A") -> tuple[str, list[str]]:
        """Return status and addresses."""
        answer = DNSRecord.parse(self.exchange(DNSRecord.question(name, kind).pack()))
        found = [str(record.rdata) for record in answer.rr if record.rtype == getattr(QTYPE, kind)]
        return RCODE[answer.header.rcode], found


class Platform:
    """Use as a context manager: everything in it is started, and stopped without remains.

    Args:
        directory: for files of its processes.
        routers: which of `ROUTERS` run, each in a namespace of that name.
        on_host: the first router runs on the containers' host itself, in the namespace ``cell``.
        config: laid over the ``internal`` section.
        keys: further sections of the configuration.

    Attributes:
        routers: by namespace.
        services: by container; one runs in ``back`` from the start.
    """

    def __init__(
        self,
        directory: Path,
        *,
        routers: Sequence[str] = ("rtr",),
        on_host: bool = False,
        config: Mapping[str, Any] | None = None,
        keys: Mapping[str, Any] | None = None,
    ) -> None:
        self.places = ["cell"] if on_host else list(routers)
        self.addresses = dict(zip(self.places, (ROUTERS[name] for name in routers), strict=True))
        spaces = {**CONTAINERS, "bus": BUS, **({} if on_host else self.addresses)}
        self.cell = Cell(spaces, resolver=next(iter(self.addresses.values())))
        self.routers: dict[str, RunningRouter] = {}
        self.services: dict[str, Service] = {}
        self._directory = directory
        self._config = config or {}
        self._keys = keys or {}
        self._sequence = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Platform":
        with contextlib.ExitStack() as stack:
            self._stack = stack
            stack.enter_context(self.cell)
            self.serve("back")
            self._start_nats()
            for place in self.places:
                self._start_router(place)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # Parts.

    def serve(self, container: str, port: int = PORT) -> Service:
        """Let an app's instance run in a container."""
        with self.cell.inside(container):
            service = Service(CONTAINERS[container], port, container)
        self.services[container] = service
        self._stack.callback(service.close)
        return service

    def start_nats(self) -> None:
        """Start nats-server again, with what it had stored."""
        with self.cell.inside("bus"):
            self.nats.start()

    def _start_nats(self) -> None:
        store = ["--jetstream", "--store_dir", str(self._directory / "jetstream")]
        with self.cell.inside("bus"):
            # Of two addresses the last one counts.
            self.nats = NatsServer(self._directory, arguments=["--addr", "0.0.0.0", *store])
            self._stack.callback(self.nats.kill)
            self.nats.start()
            self._bus = self._stack.enter_context(Announcer(self.nats.port))

    def _start_router(self, place: str) -> None:
        address = self.addresses[place]
        if place == "cell":
            self.on_host("ip", "addr", "add", f"{address}/32", "dev", "lo")
        router = RunningRouter(self._directory / place, self.nats.port, self._configuration(address))
        self.routers[place] = router
        with self.cell.inside(place):
            self._stack.enter_context(router)

    def _configuration(self, address: str) -> dict[str, Any]:
        internal = {
            "domains": [{"name": "apps.internal"}],
            "container_networks": [NETWORK],
            "addresses": [address],
            "discovery": {"register_interval": "1s", "staleness_threshold": "10m", "warm_duration": "10ms"},
            "policy_api": {"port": API_PORT, "admin_token": TOKEN},
            "proxy": {"http_ports": [80, 8080]},
        }
        return {
            "listen_address": address,
            "port": 8888,
            "nats": {"hosts": [{"hostname": BUS, "port": self.nats.port}]},
            "internal": merged(internal, self._config),
            **self._keys,
        }

    # The host and its agent.

    def on_host(self, *command: str, text: str = "") -> str:
        """Run a command on the containers' host and return what it printed."""
        program, *arguments = command
        with self.cell.inside("cell"):
            done = subprocess.run(
                [needs(program), *arguments],
                input=text,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def identify(
        self,
        container: str,
        *ports: int,
        app: str = "",
        generation: int = 1,
        address: str = "",
        agent: str = "cell",
    ) -> None:
        """An agent says that a container runs, with the app of the same name unless told otherwise."""
        name = app or container
        workload = Workload(
            ip=address or CONTAINERS[container],
            app=name,
            space="space",
            organization="org",
            instance=f"{name}-0",
            index="0",
            generation=generation,
            ports=ports,
        )
        said = WorkloadsSaid(agent=agent, sequence=self._next(), workloads=[workload], ttl=600)
        self._bus.publish(PUT, encode(said))

    def forget(self, container: str) -> None:
        """The agent says that a container is gone."""
        gone = AddressesGone(agent="cell", sequence=self._next(), addresses=[CONTAINERS[container]])
        self._bus.publish(DROP, encode(gone))

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    # Whoever may publish.

    def announce(
        self, container: str, *names: str, verb: str = "register", app: str | None = None, host: str = ""
    ) -> None:
        """An emitter says that an instance stands behind internal names; ``app`` may be empty."""
        message = {"host": host or CONTAINERS[container], "port": 0, "uris": names}
        said = container if app is None else app
        self._bus.publish(
            f"service-discovery.{verb}", json.dumps({**message, **({"app": said} if said else {})}).encode()
        )

    def announce_in_public(self, container: str, name: str, port: int = PORT) -> None:
        self._bus.register(name, port=port, host=CONTAINERS[container])

    # Operators.

    def policy(
        self, change: str, source: str = "front", destination: str = "back", *, port: int = PORT, router: str = ""
    ) -> None:
        """Add a policy (``policies``) or take it back (``policies/delete``), through any router's API."""
        target = {"id": destination, "protocol": "tcp", "ports": {"start": port, "end": port}}
        body = {"policies": [{"source": {"id": source}, "destination": target}]}
        status, answer = self.api("POST", f"external/{change}", body, router=router)
        assert status == 200, answer

    def api(self, method: str, path: str, body: object = None, *, router: str = "") -> tuple[int, Any]:
        """Make a request to the policy API as the operator; return status and JSON."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        text = None if body is None else json.dumps(body)
        return self._request(router, API_PORT, method, f"/networking/v1/{path}", text, headers)

    def facts(self, router: str = "") -> dict[str, Any]:
        """Return what a router shows as ``/internal``."""
        port = self.routers[router or self.places[0]].routes_port
        login = {"Authorization": "Basic " + b64encode(b"admin:secret").decode()}
        status, facts = self._request(router, port, "GET", "/internal", None, login)
        assert status == 200, facts
        return dict(facts)

    def _request(
        self, router: str, port: int, method: str, path: str, body: str | None, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        with contextlib.closing(connection), self.cell.inside(router or self.places[0]):
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def log_of(self, message: str, router: str = "") -> list[dict[str, Any]]:
        """Return the data of a router's log lines with this message."""
        lines = list(self.routers[router or self.places[0]].log)
        return [line["data"] for line in lines if line.get("message") == message]

    # Containers.

    def asker(self, container: str, router: str = "") -> Asker:
        with self.cell.inside(container):
            return Asker(self.addresses[router or self.places[0]])

    def ask(self, container: str, name: str = NAME, *, router: str = "") -> tuple[str, list[str]]:
        """Return status and addresses that a container's resolver gets."""
        with self.asker(container, router) as asker:
            return asker.ask(name)

    def client(
        self, container: str, router: str = "", *, port: int = 80, tls: SSLContext | None = None, sni: str = NAME
    ) -> RawClient:
        """Connect a container to a router's internal proxy."""
        with self.cell.inside(container):
            address = self.addresses[router or self.places[0]]
            return RawClient(port, host=address, tls=tls, server_name=sni if tls else None)

    def direct(self, container: str, destination: str, port: int = PORT) -> RawClient:
        """Connect a container to another's own address, past the router."""
        with self.cell.inside(container):
            return RawClient(port, host=CONTAINERS[destination])

    def get(self, container: str, name: str = NAME, *, router: str = "", port: int = 80, headers: str = "") -> int:
        """Return the status that a container's request for a name gets, 0 if there is no answer."""
        try:
            with self.client(container, router, port=port) as client:
                return client.get(host=name, headers=headers).status
        except (OSError, BadResponse):
            return 0

    def furnish(self) -> None:
        """Let ``front`` reach ``back`` by its name, and wait until it does through every router."""
        self.identify("front")
        self.identify("back", PORT)
        self.identify("other")
        self.announce("back", NAME, f"0.{NAME}")
        self.policy("policies")
        for place in self.places:
            wait_until(lambda: self.get("front", router=place) == 200, f"{place} lets front in")  # noqa: B023
            wait_until(lambda: self.ask("front", router=place)[1], f"{place} answers front")  # noqa: B023
