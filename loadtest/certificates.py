"""One self-signed ECDSA P-256 certificate for every proxy of a comparison."""

import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificate(NamedTuple):
    """PEM texts, and where they lie as one file, key last, which is what HAProxy reads."""

    chain: str
    key: str
    bundle_path: Path


def make_certificate(name: str, folder: Path, now: datetime.datetime) -> Certificate:
    """Make a certificate for the name, valid for a week around ``now``, and write its bundle into the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=6))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    chain_pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    bundle_path = folder / "bundle.pem"
    bundle_path.write_text(chain_pem + key_pem)
    return Certificate(chain_pem, key_pem, bundle_path)
