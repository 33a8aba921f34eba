"""Health checks against real programs, sockets and servers."""

import asyncio
import os
import signal
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from router.certs import Authority, issue, make_ca
from router.registrar import TlsFiles
from router.registrar.checks import Outcome, carry_out
from router.registrar.service_config import Check, HttpProbe, Probe, ScriptProbe, TcpProbe, TlsProbe
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.waiting import wait_until


async def outcome_of(probe: Probe, timeout_s: float = 20.0) -> Outcome:
    return await carry_out(Check(name="c", probe=probe, timeout_s=timeout_s))


def script(directory: Path, text: str) -> ScriptProbe:
    file = directory / "check.sh"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return ScriptProbe(str(file))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exit 0", ""),
        ("exit 3", "exit status 3"),
        ("echo not; echo ready >&2; exit 1", "exit status 1: not ready"),
        ("kill -9 $$", "ended by signal 9"),
        ("yes | head -c 1000000; exit 0", ""),
        ("sleep 1000 & exit 0", ""),
    ],
)
async def test_script_is_healthy_if_its_status_is_zero(tmp_path: Path, text: str, reason: str) -> None:
    outcome = await outcome_of(script(tmp_path, text))
    assert (outcome.healthy, outcome.reason) == (not reason, reason)


async def test_script_that_takes_too_long_is_killed_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    slow = script(tmp_path, f"sleep 1000 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait")
    checking = asyncio.create_task(outcome_of(slow, timeout_s=3600.0))
    await eventually(pid_file.exists, "it has started another")
    loop = asyncio.get_running_loop()
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + 3600.0)
    outcome = await checking
    assert outcome.reason == "no result within 3600 s"
    # Killed with its group, it has still to be taken off the processor.
    await asyncio.to_thread(wait_until, lambda: not is_running(pid_file.read_text().strip()), "it has ended")


def is_running(pid: str) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")
    except FileNotFoundError:
        return False


async def test_what_left_the_scripts_session_and_writes_for_ever_holds_nobody_up(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    outcome = await outcome_of(
        script(
            tmp_path,
            f"setsid sh -c 'echo $$ > {pid_file}; exec yes' & while ! test -s {pid_file}; do :; done; exit 1",
        )
    )
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    assert not outcome.healthy
    assert outcome.reason.startswith("exit status 1")


async def test_script_that_cannot_be_run_is_told(tmp_path: Path) -> None:
    assert (await outcome_of(ScriptProbe(str(tmp_path / "absent")))).reason == "No such file or directory"
    (tmp_path / "plain").write_text("")
    assert (await outcome_of(ScriptProbe(str(tmp_path / "plain")))).reason == "Permission denied"


async def test_port_is_healthy_if_it_accepts() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert (await outcome_of(TcpProbe("127.0.0.1", port))).healthy
    assert (await outcome_of(TcpProbe("127.0.0.1", port))).reason.endswith("Connection refused")


@pytest.fixture
def authority() -> Authority:
    return make_ca()


@pytest.fixture
async def server(tmp_path: Path, authority: Authority) -> AsyncIterator[tuple[int, int]]:
    """An HTTP server on two ports, plain and TLS, that answers with the status its path names."""

    async def answer(request: web.Request) -> web.Response:
        status = int(request.path[1:] or 200)
        return web.Response(status=status, headers={"Location": "/500"}, text=request.headers.get("x", ""))

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    pair = issue(authority, ["app.internal"])
    (tmp_path / "ca.pem").write_text(authority.pair.certificate)
    (tmp_path / "server.pem").write_text(pair.certificate + pair.private_key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")
    ports = free_port(), free_port()
    await web.TCPSite(runner, "127.0.0.1", ports[0]).start()
    await web.TCPSite(runner, "127.0.0.1", ports[1], ssl_context=context).start()
    yield ports
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "statuses", "reason"),
    [
        ("200", ((200, 299),), ""),
        ("204", ((200, 299),), ""),
        ("301", ((200, 299),), "status 301"),
        ("301", ((200, 200), (300, 399)), ""),
        ("503", ((200, 299),), "status 503"),
    ],
)
async def test_http_is_healthy_by_its_status(
    server: tuple[int, int], path: str, statuses: tuple[tuple[int, int], ...], reason: str
) -> None:
    outcome = await outcome_of(HttpProbe(f"http://127.0.0.1:{server[0]}/{path}", statuses))
    assert outcome.reason == reason


async def test_http_that_does_not_answer_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        outcome = await outcome_of(HttpProbe(f"http://127.0.0.1:{mute.getsockname()[1]}/"), timeout_s=0.3)
    assert outcome.reason == "no result within 0.3 s"


async def test_http_that_nobody_serves_is_told() -> None:
    outcome = await outcome_of(HttpProbe(f"http://127.0.0.1:{free_port()}/"))
    assert outcome.reason.endswith("Connection refused")


async def test_what_is_not_http_is_told(tmp_path: Path) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        outcome = await outcome_of(HttpProbe(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
    assert not outcome.healthy


@pytest.mark.parametrize(("name", "healthy"), [("app.internal", True), ("other.internal", False)])
async def test_tls_is_healthy_if_the_certificate_is_for_its_name(
    tmp_path: Path, server: tuple[int, int], name: str, healthy: bool
) -> None:
    trust = TlsFiles(ca=tmp_path / "ca.pem")
    connected = await outcome_of(TlsProbe("127.0.0.1", server[1], name, trust))
    asked = await outcome_of(HttpProbe(f"https://127.0.0.1:{server[1]}/200", server_name=name, trust=trust))
    assert (connected.healthy, asked.healthy) == (healthy, healthy)
    if not healthy:
        assert "certificate" in connected.reason
        assert "certificate" in asked.reason


async def test_tls_by_an_unknown_ca_is_not_healthy(server: tuple[int, int]) -> None:
    outcome = await outcome_of(TlsProbe("127.0.0.1", server[1], "app.internal"))
    assert "certificate verify failed" in outcome.reason
