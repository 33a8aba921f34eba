"""HTTP/2 clients of a whole router at domains with mutual TLS, and on routes with a service in front."""

import subprocess
from pathlib import Path

import pytest

from router.certs import issue
from tests.live.conftest import Live, StartLive
from tests.live.https import https_config
from tests.live.test_mtls_domains import CA_APPS, CALLER, DOMAIN
from tests.live.test_route_services_router import Platform, bind, passes_on, url_of
from tests.support.needs import needs
from tests.support.recorder import MakeBackend, RecordingBackend

OPEN = "open.test"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return Platform(tmp_path_factory.mktemp("platform"))


@pytest.fixture(scope="module")
def live(start_live: StartLive, platform: Platform) -> Live:
    needs("curl")
    domains = [{"name": DOMAIN, "ca_certs": CA_APPS.pem}]
    pair = issue(platform.authority, [OPEN, DOMAIN])
    return start_live(https_config([pair], **platform.keys(domains=domains, route_services_hairpinning=True)))


@pytest.fixture
def identity(tmp_path: Path) -> tuple[str, str]:
    """Arguments with which curl shows the caller's certificate."""
    pair = CALLER.pair()
    path = tmp_path / "identity.pem"
    path.write_text(pair.certificate + pair.private_key)
    return "--cert", str(path)


def ask(live: Live, host: str, *options: str, server_name: str = OPEN) -> str:
    """Return version, status and body of an answer over HTTP/2, empty if there is none."""
    port = live.router.ssl_port
    command = ["curl", "-sk", "--http2", "-m", "10", "-w", " HTTP/%{http_version} %{http_code}"]
    command += ["--resolve", f"{server_name}:{port}:127.0.0.1", "-H", f"Host: {host}", *options]
    done = subprocess.run(
        [*command, f"https://{server_name}:{port}/x"], capture_output=True, text=True, timeout=20, check=False
    )
    return done.stdout if done.returncode == 0 else ""


def test_caller_of_a_domain_gets_in_and_is_judged_by_the_policy(
    live: Live, backend: RecordingBackend, identity: tuple[str, str]
) -> None:
    for name, sources, expected in (
        ("in.identity.test", "cf:app:app-1", "ok HTTP/2 200"),
        ("out.identity.test", "cf:app:app-2", "403 Forbidden: Access denied by route policy\n HTTP/2 403"),
    ):
        options = {"route_policy_scope": "any", "route_policy_sources": sources}
        live.route(backend, host=name, options=options)
        assert ask(live, name, *identity, server_name=name) == expected
        assert ask(live, name, server_name=name) == "", "nobody gets past the handshake without a certificate"
    assert len(backend.requests) == 1
    assert 'caller_cf_app:"app-1"' in live.router.wait_access_line("in.identity.test")


def test_stream_for_another_domain_on_one_connection_is_misdirected(
    live: Live, backend: RecordingBackend, identity: tuple[str, str]
) -> None:
    """Clients of HTTP/2 use a connection for every host of its certificate, unless they are told not to."""
    live.route(backend, host="mine.identity.test")
    live.route(backend, host=OPEN)
    assert ask(live, "mine.identity.test") == " HTTP/2 421"
    assert ask(live, OPEN, *identity, server_name="mine.identity.test") == " HTTP/2 421"
    assert ask(live, OPEN) == "ok HTTP/2 200"


@pytest.mark.parametrize("options", [(), ("-d", "hello" * 20_000)], ids=["GET", "POST"])
@pytest.mark.parametrize("hairpin", [False, True])
def test_request_goes_by_a_service_to_the_app(
    live: Live,
    platform: Platform,
    make_backend: MakeBackend,
    backend: RecordingBackend,
    options: tuple[str, ...],
    hairpin: bool,
) -> None:
    if hairpin:
        service = make_backend(passes_on(live.client))
        url = f"https://{live.route(service, host=live.host('gate'))}/"
    else:
        service = make_backend(passes_on(live.client), tls=platform.context)
        url = url_of(service)
    host = bind(live, backend, url)
    assert ask(live, host, *options) == "ok HTTP/2 200"
    assert service.requests[0].body == (options[1].encode() if options else b"")
    assert service.requests[0].header("X-CF-Forwarded-Url") == f"https://{host}/x"
    assert len(backend.requests) == 1
