"""The engine's API: where it is, what its events say, and its answers over every kind of connection."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.certs import Pair, issue, make_ca
from router.docker.container import read_container
from router.docker.engine import (
    Engine,
    EngineError,
    Event,
    Place,
    connected,
    place_from_environment,
    place_problems,
    reachable,
    read_event,
)
from router.registrar import TlsFiles
from tests.support.podman import Podman
from tests.support.ports import free_port


@pytest.mark.parametrize(
    "url", ["unix:///run/docker.sock", "tcp://127.0.0.1:2375", "https://engine.test:2376", "http://[::1]:1"]
)
def test_url_of_an_engine_is_taken(url: str) -> None:
    assert place_problems(url) == []


@pytest.mark.parametrize(
    "url", ["", "unix://run/docker.sock", "ssh://host", "tcp://host", "tcp://:2375", "tcp://x:99999", "npipe://x"]
)
def test_other_urls_are_refused(url: str) -> None:
    assert len(place_problems(url)) == 1


def test_docker_host_and_its_certificates_are_heeded() -> None:
    assert place_from_environment({"DOCKER_HOST": "tcp://a:1"}) == Place("tcp://a:1")
    tls = place_from_environment(
        {"DOCKER_HOST": "tcp://a:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}
    )
    paths = [Path(f"/certs/{name}.pem") for name in ("ca", "cert", "key")]
    assert tls == Place("tcp://a:1", TlsFiles(*paths))
    assert place_from_environment({"DOCKER_HOST": "tcp://a:1", "DOCKER_TLS_VERIFY": ""}) == Place("tcp://a:1")
    # `0` is a text like any other for Docker.
    at_home = place_from_environment({"DOCKER_HOST": "tcp://a:1", "DOCKER_TLS_VERIFY": "0", "HOME": "/home/me"})
    assert at_home is not None
    assert at_home.tls is not None
    assert at_home.tls.ca == Path("/home/me/.docker/ca.pem")


@pytest.mark.parametrize(
    ("event", "read"),
    [
        ({"Type": "container", "Action": "die", "Actor": {"ID": "x"}, "timeNano": 7}, Event("die", "x", 7)),
        ({"Type": "container", "status": "start", "Actor": {"ID": "x"}}, Event("start", "x", 0)),
        (
            {"Type": "network", "Action": "connect", "Actor": {"ID": "n", "Attributes": {"container": "x"}}},
            Event("connect", "x", 0),
        ),
        # As Podman tells it.
        (
            {"Type": "network", "Action": "disconnect", "Actor": {"ID": "x", "Attributes": {"name": "web"}}},
            Event("disconnect", "x", 0),
        ),
        ({"Type": "network", "Action": "create", "Actor": {"ID": "n"}}, None),
        ({"Type": "container", "Action": 7, "Actor": {"ID": "x"}}, None),
        ({"Type": "container", "Action": "die", "Actor": None}, None),
        ({"Type": "container", "Action": "die", "Actor": ["x"]}, None),
        (
            {"Type": "network", "Action": "connect", "Actor": {"ID": "x", "Attributes": [1]}},
            Event("connect", "x", 0),
        ),
        ([], None),
    ],
)
def test_event_is_read_or_passed_over(event: Any, read: Event | None) -> None:
    assert read_event(event) == read


async def test_engine_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for url, told in (
        (f"unix://{tmp_path}/none.sock", "^No such file or directory$"),
        (f"tcp://127.0.0.1:{free_port()}", "^Connection refused$"),
    ):
        async with connected(Place(url)) as engine:
            with pytest.raises(EngineError, match=told):
                await engine.version()
            with pytest.raises(EngineError):
                async for _ in engine.events(0):
                    pass
        assert not await reachable(Place(url))


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        ("400 Bad Request", "application/json", "{}"),
        ("500 Oops", "application/json", "["),
        ("500 Oops", "text/html", "<html>"),
        ("200 OK", "application/json", "[]"),
        ("200 OK", "application/json", "null"),
        ("200 OK", "text/html", "<html>"),
    ],
)
async def test_whatever_else_answers_is_an_error(status: str, kind: str, body: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close"
        writer.write(f"{head}\r\n\r\n{body}".encode())
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        connected(Place(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")) as engine,
    ):
        for asked in (engine.version(), engine.inspect("x")):
            with pytest.raises(EngineError):
                await asked


async def test_what_is_not_http_is_an_error_that_is_always_the_same() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"INFO {id(writer)}\r\n".encode())
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        connected(Place(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")) as engine,
    ):
        with pytest.raises(EngineError, match="does not speak HTTP"):
            await engine.version()


async def test_unusable_certificate_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    place = Place("tcp://127.0.0.1:1", TlsFiles(tmp_path / "ca.pem"))
    with pytest.raises(EngineError, match=r"ca\.pem"):
        async with connected(place):
            pass


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    with Podman() as made, made.inside():
        yield made


def written(directory: Path, name: str, ca: str, pair: Pair) -> TlsFiles:
    """Write a CA, a certificate and its key, and return where they are."""
    files = [directory / f"{name}-{part}.pem" for part in ("ca", "cert", "key")]
    for file, text in zip(files, (ca, pair.certificate, pair.private_key), strict=True):
        file.write_text(text)
    return TlsFiles(*files)


@contextlib.asynccontextmanager
async def relay(podman: Podman, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    """Offer podman's socket on a TCP port, with TLS in front if there is a context."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        engine_reader, engine_writer = await asyncio.open_unix_connection(podman.socket)
        await asyncio.gather(pass_on(reader, engine_writer), pass_on(engine_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
    if connections:
        await asyncio.wait(connections, timeout=60)


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while octets := await reader.read(65536):
            writer.write(octets)
            await writer.drain()
    writer.close()


async def looks(engine: Engine, container: str) -> None:
    """Everything that is asked of an engine, for a running container."""
    version = await engine.version()
    assert version.time_s > 1_600_000_000
    assert await engine.alive() == [container]
    found = read_container(await engine.inspect(container))
    assert found.running
    assert found.tcp == (8079, 8081)
    assert await engine.image_labels(found.image) == {"router.port": "8081"}
    assert await engine.inspect("f" * 64) is None
    assert await engine.image_labels("sha256:" + "f" * 64) == {}


@pytest.mark.slow
async def test_podman_answers_over_its_socket_and_over_tcp_with_and_without_tls(
    podman: Podman, tmp_path: Path
) -> None:
    labels = {"router.port": "8081"}
    podman.make_image("localhost/labelled:1", ["/bin/sleep", "600"], ["8079", "8081"], labels=labels)
    container = podman.launch(image="localhost/labelled:1")
    async with connected(Place(podman.url)) as engine:
        await looks(engine, container)
    authority = make_ca()
    server, client = issue(authority, ["127.0.0.1"]), issue(authority, ["watcher"], client=True)
    files = written(tmp_path, "client", authority.pair.certificate, client)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    served = written(tmp_path, "server", authority.pair.certificate, server)
    context.load_cert_chain(str(served.certificate), str(served.key))
    async with relay(podman, None) as port, connected(Place(f"tcp://127.0.0.1:{port}")) as engine:
        await looks(engine, container)
    async with relay(podman, context) as port:
        async with connected(Place(f"tcp://127.0.0.1:{port}", files)) as engine:
            await looks(engine, container)
        async with connected(Place(f"tcp://127.0.0.1:{port}", TlsFiles(files.ca))) as engine:
            with pytest.raises(EngineError):
                await engine.version()


@pytest.mark.slow
async def test_events_since_a_time_come_again_and_new_ones_follow(podman: Podman) -> None:
    async with connected(Place(podman.url)) as engine:
        since = (await engine.version()).time_s
        first = podman.launch()
        seen: list[Event] = []
        async for event in engine.events(since):
            seen.append(event)
            if (event.action, event.container) == ("start", first):
                podman.run("kill", first)
            if (event.action, event.container) == ("die", first):
                break
    actions = [event.action for event in seen if event.container == first]
    assert actions.index("start") < actions.index("die")
    assert all(event.time_ns > 0 for event in seen)
