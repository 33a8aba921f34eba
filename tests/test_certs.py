"""Development certificates, judged by OpenSSL itself: real handshakes over in-memory TLS."""

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from router.certs import (
    Authority,
    Pair,
    issue,
    load_ca,
    make_ca,
    write_development_certificates,
)
from tests.support.certificates import shake_hands

NOON = datetime.datetime(2030, 6, 1, 12, 0, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


def handshake(tmp_path: Path, authority: Authority, server: Pair, name: str, client: Pair | None = None) -> None:
    """Run a whole handshake over memory buffers; raises `ssl.SSLError` where a real one would fail."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client_context = ssl.create_default_context(cadata=authority.pair.certificate)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    load_pair(server_context, tmp_path / "server.pem", server)
    if client is not None:
        load_pair(client_context, tmp_path / "client.pem", client)
        server_context.load_verify_locations(cadata=authority.pair.certificate)
        server_context.verify_mode = ssl.CERT_REQUIRED
    shake_hands(server_context, client_context, name)


def load_pair(context: ssl.SSLContext, path: Path, pair: Pair) -> None:
    path.write_text(pair.certificate + pair.private_key)
    context.load_cert_chain(path)


@pytest.mark.parametrize("rsa_key", [False, True])
@pytest.mark.parametrize("name", ["app.test", "other.test", "x.wild.test", "10.1.2.3", "fd00::1"])
def test_issued_certificate_is_accepted_for_each_of_its_names(
    tmp_path: Path, authority: Authority, name: str, rsa_key: bool
) -> None:
    pair = issue(authority, ["app.test", "other.test", "*.wild.test", "10.1.2.3", "fd00::1"], rsa_key=rsa_key)
    handshake(tmp_path, authority, pair, name)


def test_issued_certificate_is_refused_for_another_name(tmp_path: Path, authority: Authority) -> None:
    pair = issue(authority, ["app.test"])
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(tmp_path, authority, pair, "evil.test")


def test_certificate_of_another_authority_is_refused(tmp_path: Path, authority: Authority) -> None:
    pair = issue(make_ca(), ["app.test"])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, authority, pair, "app.test")


def test_negative_lifetime_makes_an_expired_certificate(tmp_path: Path, authority: Authority) -> None:
    pair = issue(authority, ["app.test"], lifetime=datetime.timedelta(seconds=-1))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(tmp_path, authority, pair, "app.test")


def test_certificate_of_the_future_is_not_valid_yet(tmp_path: Path, authority: Authority) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)
    pair = issue(authority, ["app.test"], now=later)
    with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
        handshake(tmp_path, authority, pair, "app.test")


def test_client_certificate_is_accepted_as_one(tmp_path: Path, authority: Authority) -> None:
    client = issue(authority, ["client.test"], client=True, server=False)
    handshake(tmp_path, authority, issue(authority, ["app.test"]), "app.test", client)


def test_server_certificate_is_refused_from_a_client(tmp_path: Path, authority: Authority) -> None:
    pair = issue(authority, ["app.test"])
    with pytest.raises(ssl.SSLError, match=r"(?i)purpose|unsuitable"):
        handshake(tmp_path, authority, pair, "app.test", client=pair)


def test_organizational_units_are_in_the_subject(authority: Authority) -> None:
    pair = issue(authority, ["instance"], organizational_units=["app:guid", "space:guid"])
    subject = x509.load_pem_x509_certificate(pair.certificate.encode()).subject.rfc4514_string()
    assert subject == "CN=instance,OU=space:guid,OU=app:guid"


def test_certificate_without_a_name_is_refused(authority: Authority) -> None:
    with pytest.raises(ValueError, match="at least one name"):
        issue(authority, [])


def test_loaded_authority_signs_like_the_one_that_was_made(tmp_path: Path, authority: Authority) -> None:
    loaded = load_ca(*authority.pair)
    handshake(tmp_path, authority, issue(loaded, ["app.test"]), "app.test")


def test_authority_whose_key_is_another_ones_is_refused(authority: Authority) -> None:
    with pytest.raises(ValueError, match="does not belong"):
        load_ca(authority.pair.certificate, make_ca().pair.private_key)


def test_written_keys_are_readable_by_the_owner_alone(tmp_path: Path) -> None:
    files = write_development_certificates(tmp_path / "new" / "certs")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (files.ca_key, files.server_key)}
    assert modes == {0o600}
    assert files.made


@pytest.mark.parametrize("name", ["localhost", "hello.localhost", "echo.localhost", "127.0.0.1", "::1"])
def test_development_certificate_is_accepted_for_local_names(tmp_path: Path, name: str) -> None:
    files = write_development_certificates(tmp_path / "certs")
    authority = load_ca(files.ca_certificate.read_text(), files.ca_key.read_text())
    pair = Pair(files.server_certificate.read_text(), files.server_key.read_text())
    handshake(tmp_path, authority, pair, name)


def test_good_certificates_stay_as_they_are(tmp_path: Path) -> None:
    before = contents(write_development_certificates(tmp_path)[:4])
    again = write_development_certificates(tmp_path)
    assert contents(again[:4]) == before
    assert not again.made


def test_force_makes_everything_anew(tmp_path: Path) -> None:
    before = contents(write_development_certificates(tmp_path)[:4])
    after = contents(write_development_certificates(tmp_path, force=True)[:4])
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_expiring_server_certificate_is_renewed_under_the_same_authority(tmp_path: Path) -> None:
    before = contents(write_development_certificates(tmp_path, now=NOON)[:4])
    files = write_development_certificates(tmp_path, now=NOON + datetime.timedelta(days=396, hours=12))
    after = contents(files[:4])
    assert files.made
    assert after[:2] == before[:2]
    assert after[2] != before[2]


def test_server_certificate_that_lacks_a_name_is_renewed(tmp_path: Path) -> None:
    before = contents(write_development_certificates(tmp_path, names=["localhost"])[:4])
    after = contents(write_development_certificates(tmp_path, names=["localhost", "more.localhost"])[:4])
    assert after[0] == before[0]
    assert after[2] != before[2]


@pytest.mark.parametrize("broken", ["ca.pem", "ca.key", "server.pem", "server.key"])
@pytest.mark.parametrize("content", ["", "garbage"])
def test_damaged_file_is_made_anew(tmp_path: Path, broken: str, content: str) -> None:
    write_development_certificates(tmp_path)
    (tmp_path / broken).write_text(content)
    files = write_development_certificates(tmp_path)
    authority = load_ca(files.ca_certificate.read_text(), files.ca_key.read_text())
    handshake(tmp_path, authority, Pair(files[2].read_text(), files[3].read_text()), "localhost")


def contents(paths: tuple[Path, ...]) -> list[str]:
    return [path.read_text() for path in paths]
