"""Which context answers which client, and what that proves: `TlsStream` and OpenSSL in memory."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from router.config.schema import Config
from router.config.sections import ClientCertificateRule, DistinguishedName, Domain, KeyPair
from router.tls import TlsError
from router.tls_front import FrontTls
from router.tls_stream import TlsStream
from tests.support.odd_certificates import dns, make
from tests.test_tls_stream import Inner, Wire

ROOT = make("CN=front root", authority=True)
SHOWN = {
    name: make(f"CN=shown for {name}", ROOT, names=dns(name)) for name in ("open.test", "one.test", "*.wild.test")
}
CA_ONE = make("CN=clients of one", authority=True)
CA_WILD = make("CN=clients of wild", authority=True)
CA_OPEN = make("CN=clients of all", authority=True)
CLIENTS = {
    "one": make("CN=client/OU=app:1", CA_ONE),
    "wild": make("CN=client/OU=app:2", CA_WILD),
    "open": make("CN=client/OU=app:3", CA_OPEN),
    # Nobody's CA, though it has the name of one.
    "impostor": make("CN=client", make("CN=clients of one", authority=True)),
}
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def config(**keys: Any) -> Config:
    pairs = [odd.pair() for odd in SHOWN.values()]
    domains = [
        Domain(name="One.test", ca_certs=CA_ONE.pem),
        Domain(name="*.wild.test", ca_certs=CA_WILD.pem),
        Domain(name="plain.wild.test", ca_certs=CA_ONE.pem),
    ]
    defaults: dict[str, Any] = {
        "tls_pem": [KeyPair(cert_chain=pair.certificate, private_key=pair.private_key) for pair in pairs],
        "max_tls_version": "TLSv1.3",
        "domains": domains,
    }
    return Config(**(defaults | keys))


@pytest.fixture(scope="module")
def front() -> FrontTls:
    return FrontTls(config())


class Visit:
    """One client's handshake with a front, over TCP that cuts as it likes."""

    def __init__(self, front: FrontTls, client: ssl.SSLContext, name: str | None, **more: Any) -> None:
        self.front = front
        self.inner = Inner()
        self.wire = Wire()
        self.failures: list[BaseException] = []
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.peer = client.wrap_bio(self._in, self._out, server_hostname=name, **more)
        self.stream = TlsStream(
            front.context,
            lambda _: self.inner,
            lambda _, error: self.failures.append(error),
            check=front.check,
            choice=front.choice(),
        )
        self.stream.connection_made(self.wire)

    def shake(self, cut: int = 1 << 20) -> "Visit":
        """Shake hands until both sides are done or one has failed. Raises what the client sees."""
        for _ in range(5):
            try:
                self.peer.do_handshake()
                self.peer.read(1)
            except ssl.SSLWantReadError:
                pass
            said = self._out.read()
            for start in range(0, len(said), cut):
                self.stream.data_received(said[start : start + cut])
            self._in.write(self.wire.written)
            self.wire.written = b""
        return self

    @property
    def domain(self) -> str:
        return self.front.domain_of(self.stream.ssl_object)

    @property
    def is_open(self) -> bool:
        return self.inner.events == ["made"]


def client(
    directory: Path, identity: str | None = None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=ROOT.pem)
    context.maximum_version = version
    if identity is not None:
        path = directory / f"{identity}.pem"
        path.write_text("".join(CLIENTS[identity].pair()))
        context.load_cert_chain(path)
    return context


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("identity", "name", "domain"),
    [
        ("one", "one.test", "One.test"),
        ("one", "ONE.test", "One.test"),
        ("one", "plain.wild.test", "plain.wild.test"),
        ("wild", "a.wild.test", "*.wild.test"),
        ("one", "open.test", ""),
        (None, "open.test", ""),
        (None, "a.b.wild.test", ""),
        (None, "wild.test", ""),
        (None, None, ""),
        ("wild", "unknown.test", ""),
    ],
)
def test_client_is_authenticated_for_the_domain_it_names(
    front: FrontTls,
    tmp_path: Path,
    version: ssl.TLSVersion,
    identity: str | None,
    name: str | None,
    domain: str,
) -> None:
    visit = Visit(front, client(tmp_path, identity, version), name).shake()

    assert visit.is_open
    assert visit.domain == domain
    assert bool(visit.stream.ssl_object.getpeercert(binary_form=True)) is bool(domain)
    assert visit.stream.server_name == (name or "")


@pytest.mark.parametrize(
    ("version", "identity", "name", "alert"),
    [
        (VERSIONS[0], None, "one.test", "ALERT_HANDSHAKE_FAILURE"),
        (VERSIONS[1], None, "one.test", "ALERT_CERTIFICATE_REQUIRED"),
        (VERSIONS[0], "wild", "one.test", "ALERT_UNKNOWN_CA"),
        (VERSIONS[1], "wild", "one.test", "ALERT_UNKNOWN_CA"),
        (VERSIONS[1], "one", "a.wild.test", "ALERT_UNKNOWN_CA"),
        (VERSIONS[1], "wild", "plain.wild.test", "ALERT_UNKNOWN_CA"),
        (VERSIONS[0], "open", "one.test", "ALERT_UNKNOWN_CA"),
        (VERSIONS[0], "impostor", "one.test", "ALERT"),
        (VERSIONS[1], "impostor", "one.test", "ALERT"),
    ],
)
def test_client_that_cannot_prove_itself_gets_an_alert(
    front: FrontTls, tmp_path: Path, version: ssl.TLSVersion, identity: str | None, name: str, alert: str
) -> None:
    visit = Visit(front, client(tmp_path, identity, version), name)
    with pytest.raises(ssl.SSLError, match=alert):
        visit.shake()

    assert visit.wire.eof
    assert len(visit.failures) == 1
    assert visit.inner.events == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", [1, 5, 6, 100])
def test_hello_may_come_in_pieces(front: FrontTls, tmp_path: Path, version: ssl.TLSVersion, cut: int) -> None:
    visit = Visit(front, client(tmp_path, "one", version), "one.test").shake(cut)

    assert (visit.is_open, visit.domain) == (True, "One.test")


@pytest.mark.parametrize(
    ("name", "common_name"),
    [
        ("one.test", "shown for one.test"),
        ("a.wild.test", "shown for *.wild.test"),
        ("open.test", "shown for open.test"),
        ("unknown.test", "shown for open.test"),
    ],
)
def test_domains_show_the_certificate_of_their_name(
    front: FrontTls, tmp_path: Path, name: str, common_name: str
) -> None:
    visit = Visit(front, client(tmp_path, "wild" if "wild" in name else "one"), name).shake()
    shown = visit.peer.getpeercert()

    assert shown is not None
    assert shown["subject"] == ((("commonName", common_name),),)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("first", "then"),
    [("one.test", "plain.wild.test"), ("one.test", "open.test"), ("open.test", "one.test")],
)
def test_session_carries_no_identity_into_another_domain(
    front: FrontTls, tmp_path: Path, version: ssl.TLSVersion, first: str, then: str
) -> None:
    context = client(tmp_path, "one", version)
    before = Visit(front, context, first).shake()
    again = Visit(front, context, then, session=before.peer.session).shake()

    assert again.is_open
    assert not again.stream.ssl_object.session_reused
    assert bool(again.stream.ssl_object.getpeercert(binary_form=True)) is bool(again.domain)


def test_session_of_the_open_front_does_not_stand_in_for_a_certificate(front: FrontTls, tmp_path: Path) -> None:
    for version in VERSIONS:
        context = client(tmp_path, None, version)
        before = Visit(front, context, "open.test").shake()
        with pytest.raises(ssl.SSLError, match="ALERT"):
            Visit(front, context, "one.test", session=before.peer.session).shake()


@pytest.mark.parametrize("version", VERSIONS)
def test_open_front_resumes_sessions(front: FrontTls, tmp_path: Path, version: ssl.TLSVersion) -> None:
    context = client(tmp_path, None, version)
    before = Visit(front, context, "open.test").shake()
    again = Visit(front, context, "open.test", session=before.peer.session).shake()

    assert again.stream.ssl_object.session_reused


def test_client_with_an_old_version_is_told(front: FrontTls, tmp_path: Path) -> None:
    only_1_3 = FrontTls(config(min_tls_version="TLSv1.3"))
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        Visit(only_1_3, client(tmp_path, "one", ssl.TLSVersion.TLSv1_2), "one.test").shake()


def test_what_is_not_tls_is_refused_as_ever(front: FrontTls, tmp_path: Path) -> None:
    for octets, answer in (
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.0 400"),
        (b"\x16\x03\x01\x00\x05hello", b"\x15\x03"),
    ):
        visit = Visit(front, client(tmp_path), "one.test")
        visit.stream.data_received(octets)
        assert visit.wire.written.startswith(answer)
        assert visit.wire.eof
        assert len(visit.failures) == 1


def test_without_domains_there_is_no_choice(tmp_path: Path) -> None:
    front = FrontTls(config(domains=[]))
    assert (front.choice(), front.check) == (None, None)
    assert Visit(front, client(tmp_path), "one.test").shake().is_open


@pytest.mark.parametrize("ca_certs", ["", "no PEM"])
def test_unusable_authority_of_a_domain_is_named(ca_certs: str) -> None:
    with pytest.raises(TlsError, match=r"domains\[1\].ca_certs: "):
        FrontTls(config(domains=[Domain(name="a", ca_certs=CA_ONE.pem), Domain(name="b.test", ca_certs=ca_certs)]))


def ruled(common_name: str, **keys: Any) -> FrontTls:
    rule = ClientCertificateRule(
        issuer_in_chain=DistinguishedName(common_name="clients of all"),
        valid_cert_subjects=[DistinguishedName(common_name=common_name, organizational_unit=["app:3"])],
    )
    return FrontTls(
        config(
            client_cert_validation="request",
            client_ca_certs=CA_OPEN.pem,
            only_trust_client_ca_certs=True,
            enable_verify_client_certificate_metadata=True,
            verify_client_certificate_metadata=[rule],
            **keys,
        )
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("domains", [True, False])
def test_subject_that_satisfies_its_rule_is_served(tmp_path: Path, version: ssl.TLSVersion, domains: bool) -> None:
    front = ruled("client", **({} if domains else {"domains": []}))
    visit = Visit(front, client(tmp_path, "open", version), "open.test").shake()

    assert visit.is_open
    visit.stream.write(b"answer")
    assert visit.wire.written


def test_subject_against_its_rule_gets_an_alert_before_the_handshake_is_done(tmp_path: Path) -> None:
    context = client(tmp_path, "open", ssl.TLSVersion.TLSv1_2)
    visit = Visit(ruled("someone else"), context, "open.test")
    with pytest.raises(ssl.SSLError, match="ALERT_BAD_CERTIFICATE"):
        visit.shake()

    assert visit.inner.events == []
    assert visit.wire.eof
    assert "which no rule allows" in str(visit.failures[0])


def test_subject_against_its_rule_gets_nothing_over_tls_1_3(tmp_path: Path) -> None:
    visit = Visit(ruled("someone else"), client(tmp_path, "open"), "open.test").shake()

    assert visit.inner.events == []
    assert visit.wire.eof
    assert "which no rule allows" in str(visit.failures[0])


def test_refused_session_is_not_resumed(tmp_path: Path) -> None:
    front = ruled("someone else")
    context = client(tmp_path, "open", ssl.TLSVersion.TLSv1_2)
    for _ in range(2):
        visit = Visit(front, context, "open.test")
        with pytest.raises(ssl.SSLError, match="ALERT"):
            visit.shake()
        assert visit.inner.events == []


async def test_pieces_after_a_refusal_do_nothing(tmp_path: Path) -> None:
    visit = Visit(ruled("someone else"), client(tmp_path, "open"), "open.test").shake()
    visit.peer.write(b"GET / HTTP/1.1\r\n\r\n")
    visit.stream.data_received(visit._out.read())
    visit.stream.connection_lost(None)
    await asyncio.sleep(0)

    assert visit.inner.events == []
    assert len(visit.failures) == 1
