"""The NATS section of a Gorouter configuration, used against real servers that demand what it gives."""

import ssl
from pathlib import Path

import pytest

from router.certs import Authority, issue, make_ca
from router.config.sections import Nats, NatsHost
from router.registrar.announcer import Announcer
from router.registrar.bus import BusUnavailable
from router.registrar.nats_access import servers, tls_context
from tests.support.nats import NatsServer


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


def section(server: NatsServer, authority: Authority, *, host: str = "localhost", client: bool = True) -> Nats:
    pair = issue(authority, ["router.test"], client=True, server=False)
    return Nats(
        hosts=[NatsHost(hostname=host, port=server.port)],
        tls_enabled=True,
        ca_certs=authority.pair.certificate,
        cert_chain=pair.certificate if client else "",
        private_key=pair.private_key if client else "",
    )


async def test_server_with_a_user_is_entered_with_awkward_credentials(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, user=("na:ts", "p@ss/w rd%"))
    server.start()
    try:
        settings = Nats(hosts=[NatsHost(hostname="127.0.0.1", port=server.port)], user="na:ts", pass_="p@ss/w rd%")
        async with Announcer(servers(settings)) as announcer:
            assert announcer.connected
        wrong = Nats(hosts=settings.hosts, user="na:ts", pass_="wrong")
        with pytest.raises(BusUnavailable, match="Authorization Violation"):
            async with Announcer(servers(wrong), connect_timeout_s=3):
                pass
    finally:
        server.kill()


async def test_server_with_tls_is_shown_the_client_certificate(tmp_path: Path, authority: Authority) -> None:
    server = NatsServer(tmp_path, tls=authority)
    server.start()
    try:
        settings = section(server, authority)
        async with Announcer(servers(settings), tls=tls_context(settings)) as announcer:
            assert announcer.connected
    finally:
        server.kill()


@pytest.mark.parametrize(
    # A TLS 1.3 server refuses after the handshake: its alert may or may not come before the end of the connection.
    ("names", "client", "told"),
    [
        (("other.test",), True, "mismatch"),
        (("localhost",), False, "certificate.required|connection lost|reset|broken pipe"),
    ],
)
async def test_tls_without_the_right_certificates_is_refused(
    tmp_path: Path, authority: Authority, names: tuple[str, ...], client: bool, told: str
) -> None:
    server = NatsServer(tmp_path, tls=authority, names=names)
    server.start()
    try:
        settings = section(server, authority, client=client)
        with pytest.raises(BusUnavailable, match=f"(?i){told}"):
            async with Announcer(servers(settings), tls=tls_context(settings), connect_timeout_s=3):
                pass
    finally:
        server.kill()


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_server_without_tls_gets_no_password_in_clear(
    nats_server: NatsServer, authority: Authority, scheme: str
) -> None:
    context = ssl.create_default_context(cadata=authority.pair.certificate) if scheme == "nats" else None
    with pytest.raises(BusUnavailable, match="offers no TLS"):
        async with Announcer([f"{scheme}://u:p@127.0.0.1:{nats_server.port}"], tls=context, connect_timeout_s=3):
            pass


def test_addresses_are_urls_with_the_credentials_escaped() -> None:
    settings = Nats(
        hosts=[NatsHost(hostname="a.test"), NatsHost(hostname="::1", port=5222)],
        user="u",
        pass_="p@/",
        tls_enabled=True,
    )
    assert servers(settings) == ["tls://u:p%40%2F@a.test:4222", "tls://u:p%40%2F@[::1]:5222"]


def test_section_without_tls_needs_no_context() -> None:
    assert tls_context(Nats()) is None


def test_malformed_certificate_is_an_error() -> None:
    with pytest.raises((ssl.SSLError, ValueError)):
        tls_context(Nats(tls_enabled=True, ca_certs="nonsense"))
