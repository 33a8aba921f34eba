"""Certificates for development and tests: a small CA, and server and client certificates signed by it.

Owns making and writing them; does not own how TLS is configured. One law: nothing made here is fit for
production. The CA's key lies on the disk beside its certificate, and everything expires within the limits that
browsers set for publicly trusted certificates.

Times are arguments, so that a test can make a certificate that is expired or not valid yet.
"""

import datetime
import ipaddress
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DEVELOPMENT_NAMES = (
    "localhost",
    "*.localhost",
    # Many TLS libraries, Chrome's among them, refuse a wildcard right below a top-level domain: the names in use
    # are therefore listed one by one as well.
    "hello.localhost",
    "echo.localhost",
    "127.0.0.1",
    "::1",
)
"""Subject alternative names of the certificate that `write_development_certificates` makes."""

CA_LIFETIME = datetime.timedelta(days=3650)
LEAF_LIFETIME = datetime.timedelta(days=397)
"""Apple's and Chrome's ceiling for one certificate is 398 days."""

_BACKDATED = datetime.timedelta(hours=1)
"""How far ``not_before`` lies in the past, for clients whose clock is a little slow."""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Pair(NamedTuple):
    """A certificate and its private key, both PEM text; the key is unencrypted PKCS#8."""

    certificate: str
    private_key: str


class Authority(NamedTuple):
    """A CA that can sign: hand it to `issue`. Its own PEM texts are in ``pair``."""

    certificate: x509.Certificate
    private_key: PrivateKey
    pair: Pair


def make_ca(common_name: str = "router development CA", *, now: datetime.datetime | None = None) -> Authority:
    """Make a self-signed CA (EC P-256, path length 0) that is valid for ten years from ``now`` (UTC)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    start = now or _utc_now()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key, start, start + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key, Pair(_certificate_pem(certificate), _key_pem(key)))


def issue(
    authority: Authority,
    names: Sequence[str],
    *,
    client: bool = False,
    server: bool = True,
    organizational_units: Iterable[str] = (),
    rsa_key: bool = False,
    now: datetime.datetime | None = None,
    lifetime: datetime.timedelta = LEAF_LIFETIME,
) -> Pair:
    """Issue a certificate for ``names``, signed by the authority, with a fresh key.

    Args:
        authority: the CA, from `make_ca` or `load_ca`.
        names: DNS names and IP addresses as text; the first is the common name, all are alternative names.
        client: allow use as a client certificate.
        server: allow use as a server certificate.
        organizational_units: ``OU`` entries of the subject, such as ``app:GUID`` of an instance identity.
        rsa_key: make an RSA key of 2048 bits in place of EC P-256, for clients or suites that know RSA alone.
        now: start of validity (UTC), by default the current time; it is set back by an hour.
        lifetime: validity from ``now``; negative makes a certificate that has expired.

    Raises:
        ValueError: there is no name, or the common name is longer than the 64 characters X.520 allows.
    """
    if not names:
        raise ValueError("a certificate needs at least one name")
    key: PrivateKey = rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
    start = now or _utc_now()
    end = start + lifetime
    certificate = (
        _builder(_subject(names[0], organizational_units), authority.certificate.subject, key, start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_purposes(client=client, server=server)), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_authority_identifier(authority), critical=False)
        .sign(authority.private_key, hashes.SHA256())
    )
    return Pair(_certificate_pem(certificate), _key_pem(key))


def load_ca(certificate: str, private_key: str) -> Authority:
    """Read back a CA from its PEM texts. Raises `ValueError` if they are none or do not belong together."""
    parsed = x509.load_pem_x509_certificate(certificate.encode())
    key = serialization.load_pem_private_key(private_key.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("the CA's key is neither EC nor RSA")
    if key.public_key() != parsed.public_key():
        raise ValueError("the CA's key does not belong to its certificate")
    return Authority(parsed, key, Pair(certificate, private_key))


class DevelopmentFiles(NamedTuple):
    """Where the development certificates are, and whether this call made them."""

    ca_certificate: Path
    ca_key: Path
    server_certificate: Path
    server_key: Path
    made: bool


def development_files(directory: Path, *, made: bool = False) -> DevelopmentFiles:
    """Return the paths of the development certificates in a directory, whether they are there or not."""
    return DevelopmentFiles(
        directory / "ca.pem", directory / "ca.key", directory / "server.pem", directory / "server.key", made
    )


def write_development_certificates(
    directory: Path,
    *,
    force: bool = False,
    names: Sequence[str] = DEVELOPMENT_NAMES,
    now: datetime.datetime | None = None,
) -> DevelopmentFiles:
    """Make sure that ``directory`` holds a CA and a server certificate that will hold for another day.

    What is there and still good stays. A CA that is there is kept even when the server certificate is renewed,
    so that a browser that was told to trust it goes on doing so. Keys get mode 0600.

    Args:
        directory: made if missing.
        force: make everything anew, the CA too.
        names: alternative names of the server certificate; one that lacks some of them is made anew.
        now: current time (UTC).

    Raises:
        OSError: the directory or a file cannot be written.
    """
    files = development_files(directory)
    moment = now or _utc_now()
    authority = None if force else _read_ca(files, moment)
    if authority is not None and _server_is_good(files, authority, names, moment):
        return files
    directory.mkdir(parents=True, exist_ok=True)
    if authority is None:
        authority = make_ca(now=moment)
        _write_pair(authority.pair, files.ca_certificate, files.ca_key)
    # The chain ends with the CA so that `openssl s_client -showcerts` shows all there is; clients ignore it.
    server = issue(authority, names, now=moment)
    _write_pair(server, files.server_certificate, files.server_key, chain=authority.pair.certificate)
    return development_files(directory, made=True)


def _read_ca(files: DevelopmentFiles, now: datetime.datetime) -> Authority | None:
    try:
        authority = load_ca(files.ca_certificate.read_text(), files.ca_key.read_text())
    except (OSError, ValueError, TypeError):
        return None
    return authority if _holds(authority.certificate, now) else None


def _server_is_good(
    files: DevelopmentFiles, authority: Authority, names: Sequence[str], now: datetime.datetime
) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(files.server_certificate.read_bytes())
        key = serialization.load_pem_private_key(files.server_key.read_bytes(), password=None)
        certificate.verify_directly_issued_by(authority.certificate)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:
        # Whatever is wrong with files that somebody edited or cut short, the answer is to make them anew.
        return False
    missing = {_general_name(name) for name in names} - set(found)
    return not missing and key.public_key() == certificate.public_key() and _holds(certificate, now)


def _holds(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    tomorrow = now + datetime.timedelta(days=1)
    return certificate.not_valid_before_utc <= now and certificate.not_valid_after_utc > tomorrow


def _write_pair(pair: Pair, certificate: Path, key: Path, *, chain: str = "") -> None:
    write_private(key, pair.private_key)
    certificate.write_text(pair.certificate + chain)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it is never there with wider permissions, nor half written."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    unfinished.replace(path)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, start: datetime.datetime, end: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(start, end) - _BACKDATED)
        .not_valid_after(end)
    )


def _subject(common_name: str, organizational_units: Iterable[str]) -> x509.Name:
    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in organizational_units]
    return x509.Name([*units, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(*, client: bool, server: bool) -> list[x509.ObjectIdentifier]:
    wanted = [(client, ExtendedKeyUsageOID.CLIENT_AUTH), (server, ExtendedKeyUsageOID.SERVER_AUTH)]
    return [purpose for chosen, purpose in wanted if chosen]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _authority_identifier(authority: Authority) -> x509.AuthorityKeyIdentifier:
    identifier = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
