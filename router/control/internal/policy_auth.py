"""Who calls the policy API: bearer tokens as Cloud Foundry's UAA signs them, or one static token.

Owns what makes a caller known; does not own the keys (`policy_keys`), nor what a caller may do (`policy_checks`).
One law: nothing about a token is believed before its signature has been verified with a configured RSA key by
RS256. The algorithm is ours to choose, never the token's, so neither ``none`` nor an HMAC made with a public key
can pass (RFC 8725 §2.1, §3.1).

Tokens are verified here, without asking the UAA: one that was revoked holds until it expires.
"""

import hmac
import ipaddress
from collections.abc import Mapping
from typing import Any

import jwt
from msgspec import Struct

from router.config import internal
from router.control.internal.policy_keys import TokenKeys

ADMIN = "network.admin"
WRITE = "network.write"
LEEWAY_S = 30
"""How far the clocks of the UAA and of this machine may differ."""


class AuthenticationError(Exception):
    """The caller is not known.

    Attributes:
        status: of the answer.
    """

    def __init__(self, text: str, status: int = 401) -> None:
        super().__init__(text)
        self.status = status


class Caller(Struct, frozen=True):
    """Whose request it is."""

    subject: str
    scopes: tuple[str, ...]
    spaces: frozenset[str] = frozenset()
    """GUIDs of the spaces in which the caller is Space Developer."""

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.scopes


class Authenticator:
    """Tells callers from their requests' headers.

    Without any key and token the API is open to whoever reaches its loopback address; a browser on the same
    machine does that on behalf of any page, so requests that come from a page, or were led here by a name, are
    refused then.

    Args:
        config: ``audience``, ``issuer``, ``admin_token`` and ``allowed_cors_domains`` are used.
        keys: those that sign tokens.
    """

    def __init__(self, config: internal.PolicyApi, keys: TokenKeys) -> None:
        self._config = config
        self._keys = keys
        self._is_open = not (config.jwt_keys or config.jwks_file or config.admin_token)

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller. Raises `AuthenticationError`."""
        if self._is_open:
            self._refuse_pages(headers)
            return Caller("loopback", (ADMIN,))
        if "Authorization" not in headers:
            raise AuthenticationError("missing authorization header")
        token = headers["Authorization"]
        token = token.removeprefix("Bearer ") if token.startswith("Bearer ") else token.removeprefix("bearer ")
        if self._is_admin_token(token):
            return Caller("admin-token", (ADMIN,))
        claims = self._verified(token)
        if claims is None:
            raise AuthenticationError("failed to verify token with uaa")
        return _caller(claims)

    def _refuse_pages(self, headers: Mapping[str, str]) -> None:
        allowed = self._config.allowed_cors_domains
        origin = headers.get("Origin")
        if origin is not None and origin not in allowed and "*" not in allowed:
            raise AuthenticationError("without authentication, web pages may not call this API", 403)
        if not _names_loopback(headers.get("Host", "")):
            raise AuthenticationError("without authentication, this API must be called by a loopback address", 403)

    def _is_admin_token(self, token: str) -> bool:
        expected = self._config.admin_token
        return bool(expected) and hmac.compare_digest(token.encode(errors="replace"), expected.encode())

    def _verified(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a token that is signed by one of the keys and holds now."""
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            for key in self._keys.candidates(key_id if isinstance(key_id, str) else None):
                try:
                    return self._claims(token, key)
                except jwt.InvalidSignatureError:
                    continue
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
            # The latter come from the JSON inside a token, which may be anything.
            pass
        return None

    def _claims(self, token: str, key: Any) -> dict[str, Any] | None:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            audience=self._config.audience or None,
            issuer=self._config.issuer or None,
            leeway=LEEWAY_S,
            options={"require": ["exp"], "verify_aud": bool(self._config.audience)},
        )
        # The UAA signs refresh tokens with the same key; they are for it alone, and end so.
        return None if str(claims.get("jti", "")).endswith("-r") else claims


def _caller(claims: Mapping[str, Any]) -> Caller:
    """Return whose the claims are. Claims of an unexpected type count as absent."""
    subject = claims.get("user_name") or claims.get("sub") or ""
    scopes = claims.get("scope")
    # A list in the UAA's tokens, text with spaces between in others (RFC 8693 §4.2).
    scopes = scopes.split() if isinstance(scopes, str) else _texts(scopes)
    return Caller(str(subject), tuple(scopes), frozenset(_texts(claims.get("spaces"))))


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _names_loopback(host: str) -> bool:
    """Whether a Host header names this machine without asking the DNS, which others may write."""
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
