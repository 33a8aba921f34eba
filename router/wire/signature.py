"""Signatures of route services (GOROUTER.md §7.1): who was sent to a service, when, and that it was us who did it.

AES-128-GCM over a small JSON text, interoperable with Gorouter's in both directions. Owns its parts and the
reasons why a signature is no good, in the words that clients and operators know from Go (those of JSON and of
times are `wire.go_json`'s and `wire.go_time`'s); does not own what follows from them. One law: whatever is in the
two headers, the outcome is a `Signed` or a `SignatureError`.
"""

import base64
import hashlib
import re
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from router.wire.go_json import JsonError, is_string, quoted, read_object, text_of
from router.wire.go_time import YEAR_ONE_NS, TimeError, format_time, parse_time

NONCE_BYTES = 12
_KEY_BYTES = 16
_KEY_ROUNDS = 100_001


class SignatureError(Exception):
    """The headers are not a signature of ours.

    Attributes:
        reason: what Gorouter would say (GOROUTER.md §7.4).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Signed(NamedTuple):
    """What a valid signature says."""

    url: str
    """The URL the client asked for."""
    requested_ns: int
    """When, in nanoseconds since the epoch."""


class Signer:
    """Signs with one secret; opens what was signed with it or with the one before it.

    Args:
        secret: ``route_services_secret``; not empty.
        old_secret: ``route_services_secret_decrypt_only``; may be empty.

    Deriving a key takes some 30 ms, on purpose: make one and keep it.
    """

    def __init__(self, secret: str, old_secret: str) -> None:
        self._key = AESGCM(derive_key(secret))
        self._old_key = AESGCM(derive_key(old_secret)) if old_secret else None

    def sign(self, url: str, requested_ns: int, nonce: bytes) -> tuple[bytes, bytes]:
        """Return the values of X-CF-Proxy-Signature and X-CF-Proxy-Metadata.

        Args:
            requested_ns: nanoseconds since the epoch.
            nonce: `NONCE_BYTES` random bytes, never used before with this secret.
        """
        text = f'{{"forwarded_url":{quoted(url)},"requested_time":"{format_time(requested_ns)}"}}'
        sealed = self._key.encrypt(nonce, text.encode(), None)
        metadata = b'{"nonce":"%b"}' % base64.b64encode(nonce)
        return base64.urlsafe_b64encode(sealed), base64.urlsafe_b64encode(metadata)

    def open(self, signature: bytes, metadata: bytes) -> Signed:
        """Verify and read a signature. Raises `SignatureError`; if neither key fits, with the old one's reason."""
        try:
            return _open(self._key, signature, metadata)
        except SignatureError:
            if self._old_key is None:
                raise
        return _open(self._old_key, signature, metadata)


def derive_key(secret: str) -> bytes:
    """Return the AES key that Gorouter derives of the same secret: both must open what either has sealed."""
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), b"", _KEY_ROUNDS, _KEY_BYTES)


def _open(key: AESGCM, signature: bytes, metadata: bytes) -> Signed:
    if not metadata:
        raise SignatureError("No metadata found")
    try:
        return _read_signed(_unseal(key, signature, metadata))
    except (JsonError, TimeError) as error:
        raise SignatureError(str(error)) from None


def _unseal(key: AESGCM, signature: bytes, metadata: bytes) -> bytes:
    fields = read_object(_decode(metadata, _URL_ALPHABET, b"-_"), "routeservice.Metadata")
    nonce = _decode(text_of(fields, "nonce", "Metadata.nonce", "[]uint8").encode(), _STD_ALPHABET, b"+/")
    sealed = _decode(signature, _URL_ALPHABET, b"-_")
    if len(nonce) != NONCE_BYTES:
        raise SignatureError("incorrect nonce length")
    try:
        return key.decrypt(nonce, sealed, None)
    except InvalidTag:
        raise SignatureError("cipher: message authentication failed") from None


def _read_signed(plain: bytes) -> Signed:
    fields = read_object(plain, "routeservice.Signature")
    requested = fields.get("requested_time")
    if requested is not None and not is_string(requested):
        raise SignatureError("Time.UnmarshalJSON: input is not a JSON string")
    requested_ns = YEAR_ONE_NS if requested is None else parse_time(requested)
    return Signed(text_of(fields, "forwarded_url", "Signature.forwarded_url", "string"), requested_ns)


# Base64.

_URL_ALPHABET = re.compile(rb"[A-Za-z0-9\-_]*+")
_STD_ALPHABET = re.compile(rb"[A-Za-z0-9+/]*+")


def _decode(text: bytes, alphabet: re.Pattern[bytes], last_two: bytes) -> bytes:
    """Decode padded base64. Line ends are read over, as Go does; they do not count in the place of an error."""
    text = text.replace(b"\r", b"").replace(b"\n", b"")
    match = alphabet.match(text)
    assert match is not None
    valid = match.end()
    padding = text[valid:]
    if len(text) % 4 or padding not in (b"", b"=", b"=="):
        raise SignatureError(f"illegal base64 data at input byte {_fault(valid, padding)}")
    return base64.b64decode(text, last_two)


def _fault(valid: int, padding: bytes) -> int:
    """Return where Go's decoder gives up on ``valid`` good characters followed by ``padding``."""
    place = valid % 4
    if not padding:
        return valid - place
    if padding[:1] != b"=" or place < 2:
        return valid
    if place == 3:
        return valid + 1
    if len(padding) == 1:
        return valid + 1
    return valid + 2 if padding[1:2] == b"=" else valid
