"""`router register`: its arguments, and the command itself as a process."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from router.registrar.announced import AnnouncementError
from router.registrar.register import Arguments, read, read_interval
from router.wire.announcement import Announcement, PoolSettings
from tests.support.nats import NatsServer, settle
from tests.support.ports import free_port

COMMAND = [sys.executable, "-m", "router", "register"]


def read_it(**changes: Any) -> Announcement:
    arguments = Arguments(**{"uris": ["app.test"], "port": "9000", **changes})
    return read(arguments, host=lambda: "10.0.0.7", instance_id=lambda: "fresh")


def test_address_and_instance_id_are_found_when_they_are_not_given() -> None:
    assert read_it() == Announcement(host="10.0.0.7", port=9000, uris=["app.test"], private_instance_id="fresh")


def test_every_argument_reaches_the_announcement() -> None:
    read_announcement = read_it(
        uris=["a.test", "b.test/x"],
        port="",
        tls_port="9443",
        host="h.test",
        san="san",
        app="app",
        instance_id="id",
        instance_index="3",
        protocol="http2",
        route_service_url="https://r.test",
        algorithm="least-connection",
        weight="3",
        tags=["k=v", "empty=", "url=a=b"],
    )
    assert read_announcement == Announcement(
        host="h.test",
        tls_port=9443,
        uris=["a.test", "b.test/x"],
        app="app",
        private_instance_id="id",
        private_instance_index="3",
        server_cert_domain_san="san",
        protocol="http2",
        route_service_url="https://r.test",
        tags={"k": "v", "empty": "", "url": "a=b"},
        options=PoolSettings(loadbalancing="least-connection"),
        weight=3,
    )


@pytest.mark.parametrize(("text", "weight"), [("", 1), ("0", 0), ("100", 100), ("007", 7)])
def test_weight_is_read(text: str, weight: int) -> None:
    assert read_it(weight=text).weight == weight


@pytest.mark.parametrize("text", ["101", "-1", "1.5", "x", "3 ", "１", "0001", "9" * 400])
def test_number_that_is_no_weight_is_told(text: str) -> None:
    with pytest.raises(AnnouncementError, match="--weight") as caught:
        read_it(weight=text)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "80 ", "１", "9" * 400])
def test_number_that_is_no_port_is_told_once(port: str) -> None:
    with pytest.raises(AnnouncementError) as caught:
        read_it(port=port)
    (problem,) = caught.value.problems
    assert problem.startswith("--port")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(AnnouncementError) as caught:
        read_it(uris=["http://a"], port="x", instance_index="first", tags=["novalue", "=x"], nats=["http://n"])
    assert len(caught.value.problems) == 6


@pytest.mark.parametrize(("text", "seconds"), [("", None), ("5", 5.0), ("0.5", 0.5)])
def test_interval_is_read_in_seconds(text: str, seconds: float | None) -> None:
    assert read_interval(text) == seconds


@pytest.mark.parametrize("text", ["0", "-1", "5s", "nan", "x"])
def test_other_interval_is_refused(text: str) -> None:
    with pytest.raises(AnnouncementError, match="--interval"):
        read_interval(text)


@pytest.fixture
async def registrations(nats_server: NatsServer) -> AsyncIterator[Subscription]:
    client = Client()
    await client.connect(f"nats://127.0.0.1:{nats_server.port}")
    heard = await client.subscribe("router.*")
    await settle(client)
    yield heard
    await client.close()


async def next_on(subject: str, heard: Subscription) -> dict[str, Any]:
    while True:
        message = await heard.next_msg(timeout=30)
        if message.subject == subject:
            decoded: dict[str, Any] = json.loads(message.data)
            return decoded


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_command_registers_until_it_is_told_to_stop(
    number: signal.Signals, nats_server: NatsServer, registrations: Subscription
) -> None:
    options = ["--uri", "app.test", "--port", str(free_port()), "--host", "127.0.0.1", "--tag", "component=x"]
    process = start([*options, "--nats", f"nats://127.0.0.1:{nats_server.port}"])
    try:
        registered = await next_on("router.register", registrations)
        process.send_signal(number)
        assert await next_on("router.unregister", registrations) == registered
    finally:
        output, errors = end(process)
    assert (process.returncode, errors) == (0, "")
    assert registered["uris"] == ["app.test"]
    assert "announcing app.test -> 127.0.0.1:" in output
    assert "tag component x" in output
    assert "nothing listens on" in output
    assert output.endswith("unregistered app.test\n")


async def test_command_takes_nats_from_a_router_configuration(
    tmp_path: Path, nats_server: NatsServer, registrations: Subscription
) -> None:
    config = tmp_path / "router.yml"
    config.write_text(yaml.safe_dump({"nats": {"hosts": [{"hostname": "127.0.0.1", "port": nats_server.port}]}}))
    process = start(["--uri", "app.test", "--port", "1", "-c", str(config)])
    try:
        await next_on("router.register", registrations)
    finally:
        process.terminate()
        end(process)
    assert process.returncode == 0


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: "subprocess.Popen[str]") -> tuple[str, str]:
    try:
        return process.communicate(timeout=30)
    finally:
        process.kill()


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_command_ends_with_1_when_no_nats_answers() -> None:
    port = free_port()
    nats = f"nats://u:secret@127.0.0.1:{port}"
    result = run("--uri", "a.test", "--port", "1", "--nats", nats, "--connect-timeout", "2")
    assert result.returncode == 1
    assert f"no NATS server reachable within 2 s: nats://127.0.0.1:{port} (Connection refused)" in result.stderr


def test_command_tells_all_wrong_arguments_and_ends_with_2() -> None:
    result = run("--uri", "a b", "--port", "x", "--interval", "never")
    assert result.returncode == 2
    assert [line.split()[1] for line in result.stderr.splitlines()[:-1]] == ["--port", "uri", "--interval"]


def test_command_refuses_two_places_of_nats() -> None:
    result = run("--uri", "a.test", "--port", "1", "--nats", "nats://a", "-c", "x.yml")
    assert result.returncode == 2
    assert "either --nats or -c" in result.stderr


def test_command_tells_what_is_wrong_with_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "router.yml"
    config.write_text("port: 70000\nnats: 5\n")
    result = run("--uri", "a.test", "--port", "1", "-c", str(config))
    assert result.returncode == 1
    assert "port" in result.stderr
    assert "nats" in result.stderr
    assert "Traceback" not in result.stderr
