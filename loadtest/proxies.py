"""The proxies of the comparison: the same work in each one's own configuration language.

The work: keep-alive on both sides, X-Forwarded-For, X-Forwarded-Proto and X-Request-Id set, one access log line a
request into a file, HTTP and HTTPS (TLS 1.2 and 1.3, the same P-256 certificate), one worker process or thread.
"""

import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec

from loadtest import procfs
from loadtest.broker import Broker
from loadtest.certificates import Certificate
from loadtest.errors import ProgramError
from loadtest.programs import Cores, Program, find_program, free_ports
from loadtest.router_process import RouterProcess

HOST = "bench.example.com"


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What every proxy of a comparison shares."""

    folder: Path
    """Configuration, logs; thrown away at the end."""
    cores: Cores
    certificate: Certificate
    backend_port: int


class RunningProxy(msgspec.Struct, frozen=True, kw_only=True):
    """A started proxy: where to send load and which processes to charge for it."""

    name: str
    ports: Mapping[str, int]
    """By scheme, ``http`` and ``https``; ``h2`` is the latter's, chosen by the client in its handshake."""
    data_plane: Sequence[int]
    """Process ids whose CPU time is divided by the number of requests."""
    control: Sequence[int] = ()
    """Process ids of the same proxy that carry no traffic; reported beside."""


def _nginx_main(folder: Path, name: str) -> str:
    """Return the part of an nginx configuration that keeps it inside one folder and one worker."""
    return f"""
daemon off;
user root;
worker_processes 1;
pid {folder}/{name}.pid;
error_log {folder}/{name}.error.log warn;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
"""


def _nginx_http(folder: Path, name: str) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n".join(f"{kind}_temp_path {folder}/{name}.{kind};" for kind in kinds)


def nginx_proxy_config(around: Surroundings, http_port: int, https_port: int) -> str:
    """Return nginx as a reverse proxy. Its access log is buffered, as the router's is."""
    folder = around.folder
    return f"""{_nginx_main(folder, "nginx")}
http {{
  {_nginx_http(folder, "nginx")}
  log_format bench '$host - [$time_iso8601] "$request" $status $request_length $body_bytes_sent '
    '"$http_referer" "$http_user_agent" "$remote_addr:$remote_port" "$upstream_addr" '
    'x_forwarded_for:"$proxy_add_x_forwarded_for" x_forwarded_proto:"$scheme" vcap_request_id:"$request_id" '
    'response_time:$request_time gorouter_time:$upstream_response_time';
  access_log {folder}/nginx.access.log bench buffer=64k flush=1s;
  keepalive_requests 100000000;
  upstream instances {{
    server 127.0.0.1:{around.backend_port};
    keepalive 128;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{http_port} backlog=1024;
    listen 127.0.0.1:{https_port} ssl http2 backlog=1024;
    server_name {HOST};
    ssl_certificate {around.certificate.bundle_path};
    ssl_certificate_key {around.certificate.bundle_path};
    ssl_protocols TLSv1.2 TLSv1.3;
    client_max_body_size 0;
    location / {{
      proxy_pass http://instances;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-Id $request_id;
    }}
  }}
}}
"""


def haproxy_config(around: Surroundings, http_port: int, https_port: int) -> str:
    """Return HAProxy as a reverse proxy of one thread that logs to its standard output, which is a file."""
    return f"""
global
  nbthread 1
  maxconn 4096
  log stdout format raw local0
  ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
  mode http
  log global
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always

frontend clients
  bind 127.0.0.1:{http_port} backlog 1024
  bind 127.0.0.1:{https_port} ssl crt {around.certificate.bundle_path} alpn h2,http/1.1 backlog 1024
  http-request capture req.hdr(Host) len 64
  http-request capture req.hdr(Referer) len 128
  http-request capture req.hdr(User-Agent) len 128
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }}
  option forwardfor
  log-format "[%tr] %{{+Q}}r %ST %B %hr %ci:%cp %si:%sp vcap_request_id:%ID response_time:%Ta gorouter_time:%Tr"
  default_backend instances

backend instances
  server instance 127.0.0.1:{around.backend_port} pool-max-conn 128
"""


@asynccontextmanager
async def run_nginx(around: Surroundings) -> AsyncIterator[RunningProxy]:
    """Run nginx. Its master does nothing under load, but is charged for it all the same."""
    http_port, https_port = free_ports(2)
    config = around.folder / "nginx.conf"
    config.write_text(nginx_proxy_config(around, http_port, https_port))
    command = [required("nginx"), "-c", str(config)]
    with Program("nginx", command, cores=around.cores.tested, log_folder=around.folder) as program:
        await program.wait_until_accepting(http_port, https_port)
        # The master listens before it has forked, and the kernel accepts for it.
        async for _ in program.polls("it has no worker"):
            if workers := procfs.descendants(program.pid):
                break
        ports = {"http": http_port, "https": https_port}
        yield RunningProxy(name="nginx", ports=ports, data_plane=[program.pid, *workers])


@asynccontextmanager
async def run_haproxy(around: Surroundings) -> AsyncIterator[RunningProxy]:
    """Run HAProxy as one process of one thread."""
    http_port, https_port = free_ports(2)
    config = around.folder / "haproxy.cfg"
    config.write_text(haproxy_config(around, http_port, https_port))
    command = [required("haproxy"), "-db", "-f", str(config)]
    with Program("haproxy", command, cores=around.cores.tested, log_folder=around.folder) as program:
        await program.wait_until_accepting(http_port, https_port)
        ports = {"http": http_port, "https": https_port}
        yield RunningProxy(name="haproxy", ports=ports, data_plane=[program.pid])


@asynccontextmanager
async def run_router(around: Surroundings) -> AsyncIterator[RunningProxy]:
    """Run the router with one worker; its route comes over a NATS server, which is not charged to it."""
    folder, cores = around.folder, around.cores
    async with Broker.started(folder, cores.load) as broker:
        with RouterProcess.started(
            folder, cores.tested, nats_port=broker.port, workers=1, certificate=around.certificate
        ) as router:
            await router.ready()
            async with broker.announcing(HOST, around.backend_port):
                (await router.wait_until_routed(HOST)).close()
                yield RunningProxy(
                    name="router",
                    ports={"http": router.ports.http, "https": router.ports.https},
                    data_plane=router.workers,
                    control=[router.control],
                )


PROXIES: Mapping[str, Callable[[Surroundings], AbstractAsyncContextManager[RunningProxy]]] = {
    "nginx": run_nginx,
    "haproxy": run_haproxy,
    "router": run_router,
}
"""Every proxy that can be compared, in the order of the report."""


def required(name: str) -> str:
    """Return a program's path. Raises `ProgramError` if it is not installed."""
    path = find_program(name)
    if path is None:
        raise ProgramError(f"needs {name}")
    return path


def missing_program(proxy: str) -> str | None:
    """Return what a proxy needs and is not installed, None if it can run."""
    return proxy if proxy != "router" and find_program(proxy) is None else None


def backend_command(folder: Path, port: int) -> list[str]:
    """Return what runs the instance behind the proxies: nginx, or our own one where there is no nginx."""
    nginx = find_program("nginx")
    if nginx is None:
        return [sys.executable, "-m", "loadtest.backend", str(port)]
    config = folder / "backend.conf"
    config.write_text(nginx_backend_config(folder, port))
    return [nginx, "-c", str(config)]


def nginx_backend_config(folder: Path, port: int) -> str:
    """Return nginx as an instance that answers every request with the same small text."""
    return f"""{_nginx_main(folder, "backend")}
http {{
  {_nginx_http(folder, "backend")}
  access_log off;
  keepalive_requests 100000000;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ default_type text/plain; return 200 "Hello from the load test's backend.\\n"; }}
  }}
}}
"""
