"""Certificates in files that are replaced, against a NATS server that verifies its clients."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from router.certs import Authority, issue, make_ca
from router.registrar import Announcer, BusUnavailable, TlsFiles
from router.registrar.identity_agent import IdentityAgent
from tests.registrar.test_announcer import Recording
from tests.support.eventually import eventually
from tests.support.nats import NatsServer


def written(directory: Path, authority: Authority, issuer: Authority) -> TlsFiles:
    """Write the CA that servers have, and a certificate of the announcer's by some issuer."""
    pair = issue(issuer, ["announcer.test"], client=True, server=False)
    files = TlsFiles(*(directory / name for name in ("ca.pem", "own.pem", "own.key")))
    texts = {"ca.pem": authority.pair.certificate, "own.pem": pair.certificate, "own.key": pair.private_key}
    for name, text in texts.items():
        (directory / name).write_text(text)
    return files


async def test_files_replaced_meanwhile_are_shown_on_the_next_connection(tmp_path: Path) -> None:
    first, second = make_ca("first"), make_ca("second")
    server, successor = (NatsServer(_new(tmp_path / name), tls=ca) for name, ca in [("1", first), ("2", second)])
    server.start()
    files = written(tmp_path, first, first)
    urls = [f"tls://localhost:{each.port}" for each in (server, successor)]
    seen = Recording()
    try:
        async with Announcer(urls, tls=files, observer=seen) as announcer:
            written(tmp_path, second, second)
            successor.start()
            server.kill()
            await seen.until("connected", 2)
            assert announcer.connected
    finally:
        server.kill()
        successor.kill()


async def test_file_that_cannot_be_read_is_named_and_waited_for(tmp_path: Path) -> None:
    authority = make_ca()
    server = NatsServer(tmp_path, tls=authority)
    server.start()
    files = written(tmp_path, authority, authority)
    absent, present = replace(files, certificate=tmp_path / "later.pem"), str(files.certificate)
    seen = Recording()
    try:
        async with Announcer(
            f"tls://localhost:{server.port}", tls=absent, observer=seen, connect_timeout_s=None
        ) as announcer:
            await seen.until("unreachable")
            assert not announcer.connected
            os.rename(present, tmp_path / "later.pem")
            await seen.until("connected")
    finally:
        server.kill()
    assert "later.pem" in seen.events[0]
    assert "No such file" in seen.events[0]


async def test_identity_agent_waits_for_files_too(tmp_path: Path) -> None:
    authority = make_ca()
    server = NatsServer(tmp_path, tls=authority)
    server.start()
    files = written(tmp_path, authority, authority)
    absent, present = replace(files, certificate=tmp_path / "later.pem"), str(files.certificate)
    urls = [f"tls://localhost:{server.port}"]
    try:
        async with IdentityAgent(urls, agent_id="cell-7", tls=absent, connect_timeout_s=None) as agent:
            assert not agent.connected
            os.rename(present, tmp_path / "later.pem")
            await eventually(lambda: agent.connected, "the agent is connected")
    finally:
        server.kill()


@pytest.mark.parametrize(("name", "text"), [("ca.pem", ""), ("own.pem", "no PEM"), ("own.key", "")])
async def test_damaged_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    files = written(tmp_path, make_ca(), make_ca())
    (tmp_path / name).write_text(text)
    with pytest.raises(BusUnavailable, match=name):
        async with Announcer("tls://127.0.0.1:1", tls=files, connect_timeout_s=0.3):
            pass


def _new(directory: Path) -> Path:
    directory.mkdir()
    return directory
