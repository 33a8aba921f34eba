"""Certificates that `router.certs` would not make: without the extensions of a careful CA, with any subject."""

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from router.certs import Pair

_DAY = datetime.timedelta(days=1)
_OIDS = {
    "CN": "2.5.4.3",
    "SERIALNUMBER": "2.5.4.5",
    "C": "2.5.4.6",
    "L": "2.5.4.7",
    "ST": "2.5.4.8",
    "STREET": "2.5.4.9",
    "O": "2.5.4.10",
    "OU": "2.5.4.11",
    "POSTALCODE": "2.5.4.17",
    "EMAIL": "1.2.840.113549.1.9.1",
    "UID": "0.9.2342.19200300.100.1.1",
}


class Odd(NamedTuple):
    """A certificate with its key; hand it to `make` as issuer."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def pair(self, *chain: "Odd") -> Pair:
        key = self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pair(self.pem + "".join(each.pem for each in chain), key.decode())


def name_of(subject: str) -> x509.Name:
    """Return the name of a text such as ``C=DE/OU=a+OU=b/CN=x``, in this order; ``+`` joins one part."""
    parts = [[pair.split("=", 1) for pair in part.split("+")] for part in subject.split("/") if part]
    return x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(x509.ObjectIdentifier(_OIDS[kind]), value) for kind, value in part]
            )
            for part in parts
        ]
    )


def make(
    subject: str,
    issuer: Odd | None = None,
    *,
    authority: bool = False,
    names: Sequence[x509.GeneralName] = (),
    identifiers: bool = False,
) -> Odd:
    """Make a certificate without key usages; self-signed without an issuer.

    Args:
        authority: it may sign others.
        names: subject alternative names; no such extension without any.
        identifiers: subject and authority key identifiers.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    signer = issuer.private_key if issuer else key
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(issuer.certificate.subject if issuer else name_of(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if identifiers:
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        known = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(known, critical=False)
    return Odd(builder.sign(signer, hashes.SHA256()), key)


def dns(*names: str) -> list[x509.GeneralName]:
    """Return DNS names for `make`."""
    return [x509.DNSName(name) for name in names]
