"""PEM text: whether certificates and keys are what they should be, before a process depends on them.

Owns the checks and their wording; does not own TLS contexts. A key pair counts as good when the OpenSSL that will
serve it takes it, which is stricter than parsing: it refuses keys too short for its security level.
"""

import contextlib
import datetime
import os
import ssl
import tempfile
from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key


class PemError(Exception):
    """The text does not hold what it should; the message says what is wrong with it."""


def certificates(text: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM text, at least one.

    Raises:
        PemError: there is none, or one is damaged.
    """
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        reason = "a certificate is damaged" if "-----BEGIN CERTIFICATE-----" in text else "no certificate found"
        raise PemError(reason) from None


def check_authorities(text: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM text that OpenSSL takes as trust anchors, at least one.

    Raises:
        PemError: there is none, or one is damaged.
    """
    found = certificates(text)
    blocks = "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in found)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=blocks)
    except ssl.SSLError as error:
        raise PemError(_reason(error)) from None
    return found


def check_key_pair(cert_chain: str, private_key: str) -> None:
    """Check that a certificate chain and a key belong together and can be served.

    Raises:
        PemError: with the reason.
    """
    leaf = certificates(cert_chain)[0]
    try:
        key = load_pem_private_key(private_key.encode(), password=None)
    except TypeError:
        raise PemError("the private key is encrypted") from None
    except Exception:
        # The parser has many ways to say no, some of them outside ValueError; none helps an operator.
        raise PemError("no usable private key found") from None
    shape = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        matches = key.public_key().public_bytes(*shape) == leaf.public_key().public_bytes(*shape)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PemError(f"the certificate's public key is unusable: {error}") from None
    if not matches:
        raise PemError("private key does not match public key")
    with key_pair_files(cert_chain, private_key) as (chain_path, key_path):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain_path, key_path)
        except ssl.SSLError as error:
            raise PemError(_reason(error)) from None


def indistinguishable(text: str) -> list[str]:
    """Return the subjects that several CAs of a PEM text have, with keys that no identifier tells apart.

    A text without usable certificates has none.
    """
    with contextlib.suppress(PemError, ValueError, UnsupportedAlgorithm):
        by_subject: dict[str, list[x509.Certificate]] = {}
        for found in certificates(text):
            by_subject.setdefault(found.subject.rfc4514_string(), []).append(found)
        return [
            subject
            for subject, same in by_subject.items()
            if len(set(map(_key_of, same))) > 1 and not all(map(_has_identifier, same))
        ]
    return []


def _key_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _has_identifier(certificate: x509.Certificate) -> bool:
    return any(isinstance(extension.value, x509.SubjectKeyIdentifier) for extension in certificate.extensions)


def has_subject_alternative_name(cert_chain: str) -> bool:
    """Tell whether the first certificate of a chain carries names that clients look at.

    Raises:
        PemError: there is no certificate.
    """
    leaf = certificates(cert_chain)[0]
    try:
        return any(isinstance(extension.value, x509.SubjectAlternativeName) for extension in leaf.extensions)
    except ValueError:
        return False


def validity(cert_chain: str) -> tuple[datetime.datetime, datetime.datetime]:
    """Return from when to when (UTC) the first certificate of a chain is valid.

    Raises:
        PemError: there is no certificate.
    """
    leaf = certificates(cert_chain)[0]
    return leaf.not_valid_before_utc, leaf.not_valid_after_utc


@contextlib.contextmanager
def key_pair_files(cert_chain: str, private_key: str) -> Iterator[tuple[str, str]]:
    """Lend paths under which both texts can be read; Python's ssl loads key pairs from files alone.

    Where the system allows, the files are in memory only, so a key never reaches a disk.
    """
    with contextlib.ExitStack() as stack:
        yield (stack.enter_context(_readable(cert_chain)), stack.enter_context(_readable(private_key)))


@contextlib.contextmanager
def _readable(text: str) -> Iterator[str]:
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("pem"), "w") as memory:
            memory.write(text)
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}"
    else:
        # NamedTemporaryFile makes files readable by their owner alone.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(text)
            file.flush()
            yield file.name


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
