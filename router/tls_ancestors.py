"""Which further CAs stand above a CA that ends a verified chain.

OpenSSL ends a chain at the first certificate that it is told to trust, even if that is an intermediate one whose
issuer is trusted too. A rule about that issuer concerns the client nevertheless: Go, which looks at every chain
there is, finds it, if the client sends the intermediate certificate along. Here it is found in any case.

Owns the relation between configured CAs; does not own verifying chains.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from router.config.distinguished_name import text_of

if TYPE_CHECKING:
    from cryptography import x509


def ancestors(pem: str) -> dict[bytes, frozenset[str]]:
    """Return for each CA of a PEM text (DER) the subjects of all others that have signed it, directly or not.

    Raises `ValueError` if a certificate cannot be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    authorities = x509.load_pem_x509_certificates(pem.encode()) if pem.strip() else []
    return {
        each.public_bytes(Encoding.DER): frozenset(text_of(above.subject) for above in _above(each, authorities))
        for each in authorities
    }


def _above(start: "x509.Certificate", authorities: "list[x509.Certificate]") -> "set[x509.Certificate]":
    found: set[x509.Certificate] = set()
    waiting = [start]
    while waiting:
        for parent in _parents(waiting.pop(), authorities):
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def _parents(child: "x509.Certificate", authorities: "list[x509.Certificate]") -> "Iterator[x509.Certificate]":
    # An authority may have several certificates, of different issuers: who is above one of them is above all.
    same = [each for each in authorities if each.subject == child.subject and _key(each) == _key(child)]
    for each in same:
        yield from (parent for parent in authorities if parent != each and _has_signed(parent, each))


def _key(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _has_signed(parent: "x509.Certificate", child: "x509.Certificate") -> bool:
    from cryptography.exceptions import InvalidSignature

    if parent.subject != child.issuer:
        return False
    try:
        child.verify_directly_issued_by(parent)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
