"""Callers with instance-identity certificates, as Diego issues them, in front of a running router."""

import base64
import contextlib
import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from router.certs import Authority, Pair, issue, make_ca
from tests.support.certificates import client_context
from tests.support.inside import CONTAINERS, Platform
from tests.support.needs import needs
from tests.support.rawclient import BadResponse, RawClient
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

ADDRESS, OFFERED, REQUIRED, ROAMING = (
    f"backend.{each}.internal" for each in ("plain", "apps", "strict", "roaming")
)
NAMES = (ADDRESS, OFFERED, REQUIRED, ROAMING)
DOMAINS = [
    {"name": "plain.internal", "identity": "ip"},
    {"name": "apps.internal"},
    {"name": "strict.internal", "identity": "ip+mtls"},
    {"name": "roaming.internal", "identity": "mtls"},
    {"name": "deep.plain.internal", "identity": "ip+mtls"},
]
FRONT = CONTAINERS["front"]
OWN = ("front-0", FRONT)
UNITS = ("organization:org", "space:space", "app:front")
NESTED = "backend.deep.plain.internal"
REFUSED = 0
"""In place of a status: there was no connection to ask on."""


class Secured:
    """A platform whose proxy speaks TLS, and those who issue certificates to its containers."""

    def __init__(self, platform: Platform, web: Authority, instances: Authority, directory: Path) -> None:
        self.platform = platform
        self.web = web
        self.instances = instances
        self._directory = directory

    def identity(
        self, *names: str, units: tuple[str, ...] = UNITS, authority: Authority | None = None, life_s: float = 3600
    ) -> ssl.SSLContext:
        """Return what a client with a certificate of its own uses; a negative life has ended long ago."""
        now = datetime.datetime.now(datetime.UTC)
        life = datetime.timedelta(seconds=life_s)
        pair = issue(
            authority or self.instances,
            names or OWN,
            client=True,
            organizational_units=units,
            now=now if life_s > 0 else now - 2 * abs(life),
            lifetime=abs(life),
        )
        return self.context(pair)

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        return client_context(self.web, identity=pair, directory=self._directory)

    def connect(self, context: ssl.SSLContext, container: str = "front", sni: str = REQUIRED) -> RawClient:
        return self.platform.client(container, port=443, tls=context, sni=sni)

    def get(self, context: ssl.SSLContext, name: str = REQUIRED, container: str = "front") -> int:
        try:
            with self.connect(context, container, name) as client:
                return client.get(host=name).status
        except (OSError, BadResponse):
            return REFUSED

    def reasons(self) -> set[str]:
        """Return why anybody was denied so far."""
        return {line["reason"] for line in self.platform.log_of("internal-request-denied")}


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    web, instances = make_ca("web"), make_ca("instances")
    shown = issue(web, [*NAMES, NESTED])
    proxy = {
        "https_ports": [443],
        "cert_chain": shown.certificate,
        "private_key": shown.private_key,
        "identity_ca_certs": instances.pair.certificate,
    }
    with Platform(tmp_path, config={"domains": DOMAINS, "proxy": proxy}) as platform:
        platform.announce("back", *NAMES, NESTED)
        platform.furnish()
        yield Secured(platform, web, instances, tmp_path)


def wait_denied(secured: Secured, reason: str) -> None:
    wait_until(lambda: reason in secured.reasons(), f"an audit line says {reason}")


def test_caller_with_its_own_certificate_is_let_in(secured: Secured) -> None:
    assert {secured.get(secured.identity(), name) for name in NAMES} == {200}


def test_curl_in_a_container_shows_its_certificate(secured: Secured, tmp_path: Path) -> None:
    pair = issue(secured.instances, OWN, client=True, organizational_units=UNITS)
    files = {"ca.pem": secured.web.pair.certificate, "own.pem": pair.certificate, "own.key": pair.private_key}
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    ca, certificate, key = (str(tmp_path / file) for file in files)
    answer = secured.platform.cell.run(
        "front",
        [needs("curl"), "-sS", "--cacert", ca, "--cert", certificate, "--key", key, f"https://{REQUIRED}/"],
    )
    assert (answer.stdout, answer.stderr) == ("back", "")


def test_caller_with_the_certificate_of_another_app_is_denied(secured: Secured) -> None:
    others = secured.identity(units=("app:other",))
    assert {secured.get(others, name) for name in (OFFERED, REQUIRED, ROAMING)} == {403}
    wait_denied(secured, "certificate-of-another-app")


def test_container_that_has_stolen_a_certificate_is_denied(secured: Secured) -> None:
    secured.platform.policy("policies", "other")
    wait_until(lambda: secured.get(secured.context(), OFFERED, "other") == 200, "other may reach back by itself")
    assert {secured.get(secured.identity(), name, "other") for name in (OFFERED, REQUIRED)} == {403}
    wait_denied(secured, "certificate-for-another-address")


def test_domain_below_another_makes_its_own_demands(secured: Secured) -> None:
    assert secured.get(secured.context(), NESTED) == 403
    wait_denied(secured, "certificate-required")
    assert secured.get(secured.identity(), NESTED) == 200


def test_app_is_shown_the_certificate_that_was_verified_and_no_other(secured: Secured) -> None:
    context = secured.identity()
    with secured.connect(context) as client:
        for _ in range(2):
            client.get(host=REQUIRED, headers="X-Forwarded-Client-Cert: forged\r\nX-Forwarded-Proto: http\r\n")
    for heard in secured.platform.services["back"].heard[-2:]:
        (shown,) = heard.get_all("X-Forwarded-Client-Cert", [])
        certificate = x509.load_der_x509_certificate(base64.b64decode(shown))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [OWN[0]]
        assert heard.get_all("X-Forwarded-Proto") == ["https"]


def test_expired_certificate_is_refused_in_the_handshake(secured: Secured) -> None:
    assert {secured.get(secured.identity(life_s=-3600), name) for name in NAMES} == {REFUSED}
    assert secured.get(secured.identity()) == 200


def test_certificate_of_another_authority_is_refused_in_the_handshake(secured: Secured) -> None:
    for authority in (make_ca("instances"), secured.web):
        assert {secured.get(secured.identity(authority=authority), name) for name in NAMES} == {REFUSED}


def test_caller_without_a_certificate_is_denied_where_one_is_required(secured: Secured) -> None:
    for name in (REQUIRED, ROAMING):
        assert secured.get(secured.context(), name) == 403
        assert secured.platform.get("front", name) == 403, "nor without TLS"
    wait_denied(secured, "certificate-required")


def test_caller_without_a_certificate_is_let_in_where_none_is_required(secured: Secured) -> None:
    assert {secured.get(secured.context(), name) for name in (ADDRESS, OFFERED)} == {200}


DOUBTFUL: list[tuple[tuple[str, ...], tuple[str, ...], str]] = [
    (OWN, ("organization:org",), "certificate-without-app"),
    (OWN, ("app:front", "app:other"), "certificate-without-app"),
    (("front-1", FRONT), UNITS, "certificate-of-another-instance"),
    (("front-0",), UNITS, "certificate-for-another-address"),
]


def test_certificate_that_does_not_say_who_calls_is_denied(secured: Secured) -> None:
    for names, units, reason in DOUBTFUL:
        assert secured.get(secured.identity(*names, units=units)) == 403, reason
        wait_denied(secured, reason)


def test_certificate_of_a_gone_instance_is_worth_nothing_from_then_on(secured: Secured) -> None:
    own = secured.identity()
    with secured.connect(own, sni=ROAMING) as client:
        assert client.get(host=ROAMING).status == 200
        secured.platform.forget("front")
        wait_until(lambda: secured.get(own, ROAMING) == 403, "new connections are denied")
        assert client.get(host=ROAMING).status == 403
    wait_denied(secured, "instance-not-live")


def test_certificate_that_expires_on_an_open_connection_ends_what_it_permitted(secured: Secured) -> None:
    with secured.connect(secured.identity(life_s=8)) as client:
        assert client.get(host=REQUIRED).status == 200
        wait_until(lambda: client.get(host=REQUIRED).status == 403, "the certificate expires", every_s=0.1)
    wait_denied(secured, "certificate-expired")


# INTERNAL.md §4.6: "SNI ≠ Host, h2 coalescing, TLS resumption across SNI" and "Wrong CA".


def test_pitfall_server_name_and_host_that_differ_are_judged_by_the_host(secured: Secured) -> None:
    with secured.connect(secured.context(), sni=OFFERED) as client:
        assert client.get(host=OFFERED).status == 200
        assert client.get(host=REQUIRED).status == 403


def test_pitfall_resumed_session_gives_no_more_than_the_one_it_resumes(secured: Secured) -> None:
    context = secured.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with secured.connect(context, sni=OFFERED) as client:
        session = as_tls(client).session
        assert client.get(host=OFFERED).status == 200
    assert session is not None
    with resumed(secured, context, session, "front", REQUIRED) as client:
        assert as_tls(client).session_reused
        assert client.get(host=REQUIRED).status == 403


def test_pitfall_stolen_session_is_as_little_worth_as_a_stolen_certificate(secured: Secured) -> None:
    context = secured.identity()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with secured.connect(context) as client:
        session = as_tls(client).session
        assert client.get(host=REQUIRED).status == 200
    assert session is not None
    secured.platform.policy("policies", "other")
    wait_until(lambda: secured.get(secured.context(), OFFERED, "other") == 200, "other may reach back by itself")
    with resumed(secured, context, session, "other", REQUIRED) as client:
        assert client.get(host=REQUIRED).status == 403


def test_pitfall_certificate_for_the_containers_own_listener_passes_for_its_app_and_no_other(
    secured: Secured,
) -> None:
    """The platform issues those by the same authority, with the instance's names and without its address."""
    listener = ("front-0", "front.roaming.internal")
    assert secured.get(secured.identity(*listener), ROAMING) == 200
    assert secured.get(secured.identity(*listener, units=("app:other",)), ROAMING) == 403
    assert secured.get(secured.identity(*listener), REQUIRED) == 403, "the address is part of the proof here"


def as_tls(client: RawClient) -> ssl.SSLSocket:
    assert isinstance(client.socket, ssl.SSLSocket)
    return client.socket


@contextlib.contextmanager
def resumed(
    secured: Secured, context: ssl.SSLContext, session: ssl.SSLSession, container: str, sni: str
) -> Iterator[RawClient]:
    """Connect with a session from before."""
    with secured.platform.client(container, port=443) as client:
        client.socket = context.wrap_socket(client.socket, server_hostname=sni, session=session)
        yield client
