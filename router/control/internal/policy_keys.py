"""The RSA public keys that sign tokens: those of the configuration, and those of a JWKS file (RFC 7517).

Owns reading them, and reading the file again when it changes; does not own tokens. One law: a file that cannot be
used leaves the keys as they were, and is told of once.

The file may be what a UAA answers on ``/token_keys``. Keys of it that are not for RS256 signatures are left out.
"""

import os

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Struct

from router.config import internal
from router.log import Logger

MIN_KEY_BITS = 2048
"""RFC 7518 §3.3."""

Fingerprint = tuple[int, int, int]
"""Of a file: what changes with it."""


class TokenKeyError(Exception):
    """Keys cannot be used; the text names the key of the configuration."""


class _Document(Struct):
    keys: list[dict[str, object]]


class TokenKeys:
    """The keys at present.

    Args:
        config: ``jwt_keys`` and ``jwks_file`` are used.
        logger: hears of changes of the file.

    Raises:
        TokenKeyError: a key, or the file, cannot be used.
    """

    def __init__(self, config: internal.PolicyApi, logger: Logger) -> None:
        self._logger = logger
        self._configured = [
            _pem_key(f"internal.policy_api.jwt_keys[{index}]", pem) for index, pem in enumerate(config.jwt_keys)
        ]
        self._path = config.jwks_file
        self._seen: Fingerprint | None = None
        self._named: dict[str, RSAPublicKey] = {}
        self._unnamed: list[RSAPublicKey] = []
        if self._path:
            self._seen = _fingerprint(self._path)
            self._read()

    def candidates(self, key_id: str | None) -> list[RSAPublicKey]:
        """Return the keys that a token may be signed with: the one it names, or all without a name.

        A token that names none may be signed with any key.
        """
        self._refresh()
        if key_id in self._named:
            return [self._named[key_id]]
        unnamed = [*self._configured, *self._unnamed]
        return unnamed if key_id is not None else [*unnamed, *self._named.values()]

    def _refresh(self) -> None:
        if not self._path:
            return
        seen = _fingerprint(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._read()
        except TokenKeyError as error:
            self._logger.error("token-keys-not-read", error=str(error), kept=self._count())
        else:
            self._logger.info("token-keys-read", keys=self._count())

    def _count(self) -> int:
        return len(self._configured) + len(self._unnamed) + len(self._named)

    def _read(self) -> None:
        named, unnamed = _jwks_keys(self._path)
        self._named, self._unnamed = named, unnamed


def _fingerprint(path: str) -> Fingerprint | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _jwks_keys(path: str) -> tuple[dict[str, RSAPublicKey], list[RSAPublicKey]]:
    where = f"internal.policy_api.jwks_file: {path}"
    try:
        with open(path, "rb") as file:
            document = msgspec.json.decode(file.read(), type=_Document)
    except (OSError, ValueError, RecursionError) as error:
        raise TokenKeyError(f"{where}: {error}") from error
    named: dict[str, RSAPublicKey] = {}
    unnamed: list[RSAPublicKey] = []
    for index, entry in enumerate(document.keys):
        if entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig" or entry.get("alg", "RS256") != "RS256":
            continue
        key = _jwk_key(f"{where}: keys[{index}]", entry)
        key_id = entry.get("kid")
        if isinstance(key_id, str):
            named[key_id] = key
        else:
            unnamed.append(key)
    if not (named or unnamed):
        raise TokenKeyError(f"{where}: no RSA key for RS256 signatures")
    return named, unnamed


def _pem_key(where: str, pem: str) -> RSAPublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError as error:
        raise TokenKeyError(f"{where}: not a public key in PEM: {error}") from error
    return _checked(where, key)


def _jwk_key(where: str, entry: dict[str, object]) -> RSAPublicKey:
    # Whatever else is in the entry, and a private key should never be, is not looked at.
    public = {name: entry.get(name) for name in ("kty", "n", "e")}
    try:
        key = jwt.PyJWK.from_dict(public, algorithm="RS256").key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise TokenKeyError(f"{where}: not an RSA key: {error}") from error
    return _checked(where, key)


def _checked(where: str, key: object) -> RSAPublicKey:
    if not isinstance(key, RSAPublicKey):
        raise TokenKeyError(f"{where}: not an RSA key")
    if key.key_size < MIN_KEY_BITS:
        raise TokenKeyError(f"{where}: {key.key_size} bits, must be at least {MIN_KEY_BITS}")
    return key
