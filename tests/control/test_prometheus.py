"""The metrics listener, asked over real sockets."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.certs import Authority, Pair, issue, make_ca
from router.config.sections import Meters, Prometheus
from router.control.listeners import ListenError
from router.control.prometheus import MetricsServer, metrics_context
from router.tls import TlsError
from tests.control.reporting import Reporting
from tests.support.certificates import client_context

TYPE = "text/plain; version=0.0.4; charset=utf-8"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


def write(directory: Path, name: str, pair: Pair, authority: Authority) -> dict[str, Any]:
    """Write a certificate, its key and the CA; return the settings that name them."""
    texts = {"cert": pair.certificate, "key": pair.private_key, "ca": authority.pair.certificate}
    for kind, text in texts.items():
        (directory / f"{name}.{kind}").write_text(text)
    return {f"{kind}_path": str(directory / f"{name}.{kind}") for kind in texts}


@asynccontextmanager
async def serving(reporting: Reporting, **settings: Any) -> AsyncIterator[tuple[MetricsServer, int]]:
    server = MetricsServer(reporting.figures, reporting.logger)
    try:
        yield server, await server.start(Prometheus(enabled=True, **settings))
    finally:
        await server.close()


async def get(url: str, context: ssl.SSLContext | None = None) -> tuple[int, str, bytes]:
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context or False) as response:
        return response.status, response.headers["Content-Type"], await response.read()


async def test_metrics_are_served_on_a_random_port_that_is_logged() -> None:
    reporting = Reporting()
    reporting.worker(1, {"bad_gateways": 3})
    async with serving(reporting) as (_, port):
        status, kind, text = await get(f"http://127.0.0.1:{port}/metrics")

    assert (status, kind) == (200, TYPE)
    assert b"\nbad_gateways 3\n" in text
    assert b"# TYPE process_resident_memory_bytes gauge\n" in text
    [line] = [line for line in reporting.log if line["message"] == "prometheus-started"]
    assert line["data"] == {"address": f"127.0.0.1:{port}", "tls": False}


async def test_other_paths_are_not_there() -> None:
    async with serving(Reporting()) as (_, port):
        status, _, text = await get(f"http://127.0.0.1:{port}/")

    assert (status, text) == (404, b"404 page not found\n")


async def test_source_that_fails_is_counted_in_the_same_answer() -> None:
    def broken() -> dict[str, float]:
        raise OSError("gone")

    async with serving(Reporting(gauges=(broken,))) as (_, port):
        status, _, text = await get(f"http://127.0.0.1:{port}/metrics")

    assert status == 200
    assert b'promhttp_metric_handler_errors_total{cause="gathering"} 1\n' in text


async def test_port_in_use_is_named_with_its_key() -> None:
    async with serving(Reporting()) as (_, port):
        with pytest.raises(ListenError, match=r"prometheus\.port"):
            await MetricsServer(Reporting().figures, Reporting().logger).start(Prometheus(port=port))


async def test_with_certificates_only_who_shows_one_may_read(tmp_path: Path, authority: Authority) -> None:
    settings = write(tmp_path, "server", issue(authority, ["localhost"]), authority)
    reader = client_context(authority, identity=issue(authority, ["reader.test"], client=True), directory=tmp_path)
    stranger = client_context(authority)
    async with serving(Reporting(), **settings) as (_, port):
        status, _, _ = await get(f"https://localhost:{port}/metrics", reader)
        with pytest.raises(aiohttp.ClientError):
            await get(f"https://localhost:{port}/metrics", stranger)
        with pytest.raises(aiohttp.ClientError):
            await get(f"http://localhost:{port}/metrics")

    assert status == 200


async def test_reload_shows_another_certificate_and_other_buckets(tmp_path: Path, authority: Authority) -> None:
    old = write(tmp_path, "old", issue(authority, ["localhost"]), authority)
    new = write(tmp_path, "new", issue(authority, ["renewed.test"]), authority)
    reader = client_context(authority, identity=issue(authority, ["reader.test"], client=True), directory=tmp_path)
    async with serving(Reporting(), **old) as (server, port):
        meters = Meters(route_lookup_time_histogram_buckets=[7.0])
        server.reload(Prometheus(enabled=True, meters=meters, **new))
        with pytest.raises(aiohttp.ClientConnectorCertificateError, match="localhost"):
            await get(f"https://localhost:{port}/metrics", reader)
        assert b'route_lookup_time_bucket{le="7"} 0\n' in server.text()


async def test_reload_with_a_bad_certificate_changes_nothing(tmp_path: Path, authority: Authority) -> None:
    settings = write(tmp_path, "server", issue(authority, ["localhost"]), authority)
    reader = client_context(authority, identity=issue(authority, ["reader.test"], client=True), directory=tmp_path)
    async with serving(Reporting(), **settings) as (server, port):
        with pytest.raises(TlsError):
            server.reload(Prometheus(**{**settings, "key_path": str(tmp_path / "none")}))
        status, _, _ = await get(f"https://localhost:{port}/metrics", reader)

    assert status == 200


@pytest.mark.parametrize("key", ["cert_path", "key_path", "ca_path"])
def test_file_that_cannot_be_used_is_named_with_its_key(tmp_path: Path, authority: Authority, key: str) -> None:
    settings = write(tmp_path, "server", issue(authority, ["localhost"]), authority)
    Path(settings[key]).write_text("nonsense")

    with pytest.raises(TlsError, match=f"prometheus.{key}") as raised:
        metrics_context(Prometheus(**settings))
    assert settings[key] in str(raised.value)
