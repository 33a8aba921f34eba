"""Tokens from UAA for talking to the routing API: OAuth 2 client credentials (RFC 6749 §4.4).

Owns asking, trying again and how long a token is used; does not own what it is used for. One law: secrets and
tokens are in no log line and no error.
"""

import asyncio
import base64
import ssl
import time
from collections.abc import Callable
from typing import Protocol

import aiohttp
import msgspec

from router.config.schema import Config
from router.config.sections import OAuth
from router.control.client_errors import describe
from router.log import Logger

REQUEST_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1024 * 1024


class UaaError(Exception):
    """There is no token; the text says why, without secrets."""


class UaaRefusal(UaaError):
    """UAA does not want to give us one; asking again will not change that."""


class Tokens(Protocol):
    """Where the bearer token of a request comes from.

    Attributes:
        errors: times that no token could be had; one for all the attempts at it.
    """

    errors: int

    async def token(self, stale: str = "") -> str:
        """Return a token, empty for none; not the stale one, which was refused. Raises `UaaError`."""


class NoTokens:
    """For a routing API that asks for none (``routing_api.auth_disabled``)."""

    errors = 0

    async def token(self, stale: str = "") -> str:
        return ""


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: float = 0.0
    """Seconds."""


class UaaTokens:
    """Keeps one token. Lives as long as control; holds no connection between requests.

    Args:
        config: ``oauth`` and ``token_fetcher_*``.
        logger: hears of attempts that failed but will be repeated.
        clock: monotonic seconds.

    Attributes:
        errors: times that no token could be had; one for all the attempts at it.

    Raises:
        UaaError: the settings of ``oauth`` cannot be used.
    """

    def __init__(self, config: Config, logger: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        oauth = config.oauth
        # Gorouter's words. Its configuration marks a UAA without TLS by the port -1, later 0.
        if oauth.port <= 0:
            raise UaaError("tls-not-enabled: UAA client requires TLS enabled")
        self.errors = 0
        self._url = f"https://{_url_host(oauth.token_endpoint)}:{oauth.port}/oauth/token"
        self._headers = {"Accept": "application/json", "Authorization": _authorization(oauth)}
        self._tls = _context(oauth)
        self._attempts = max(config.token_fetcher_max_retries, 1)
        self._pause_s = config.token_fetcher_retry_interval
        self._margin_s = config.token_fetcher_expiration_buffer_time
        self._logger = logger
        self._clock = clock
        self._token = ""
        self._good_until = 0.0
        self._fetching = asyncio.Lock()

    async def token(self, stale: str = "") -> str:
        """Return the token at hand, or a new one if it expires soon or is the stale one. Raises `UaaError`."""
        async with self._fetching:
            if not self._token or self._token == stale or self._clock() >= self._good_until:
                await self._renew()
            return self._token

    async def _renew(self) -> None:
        self._token = ""
        try:
            asked_at, answer = await self._ask_repeatedly()
        except UaaError:
            self.errors += 1
            raise
        self._token = answer.access_token
        self._good_until = asked_at + answer.expires_in - self._margin_s

    async def _ask_repeatedly(self) -> tuple[float, _Answer]:
        for left in reversed(range(self._attempts)):
            asked_at = self._clock()
            try:
                return asked_at, await self._ask()
            except UaaRefusal:
                raise
            except UaaError as error:
                if not left:
                    raise
                self._logger.warn("token-fetch-failed", error=str(error), attempts_left=left)
            await asyncio.sleep(self._pause_s)
        raise AssertionError("the last attempt returns or raises")

    async def _ask(self) -> _Answer:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    self._url,
                    data={"grant_type": "client_credentials"},
                    headers=self._headers,
                    ssl=self._tls,
                    # Credentials go to whom they are meant for, and nowhere that an answer points to.
                    allow_redirects=False,
                ) as response,
            ):
                return _checked(response.status, await _body(response), self._url)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UaaError(f"{self._url}: {describe(error)}") from error


async def _body(response: aiohttp.ClientResponse) -> bytes:
    pieces = bytearray()
    async for piece in response.content.iter_chunked(65536):
        pieces += piece
        if len(pieces) > MAX_ANSWER_BYTES:
            raise ValueError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(pieces)


def _checked(status: int, body: bytes, url: str) -> _Answer:
    if status != 200:
        kind = UaaRefusal if 300 <= status < 500 and status not in (408, 429) else UaaError
        raise kind(f"{url}: status {status}: {body[:200].decode('utf-8', 'replace')}")
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (ValueError, RecursionError) as error:
        raise UaaError(f"{url}: no token in the answer: {error}") from error
    if not answer.access_token.isascii() or not answer.access_token.isprintable() or not answer.access_token:
        raise UaaError(f"{url}: the token in the answer is not one")
    return answer


def _authorization(oauth: OAuth) -> str:
    if ":" in oauth.client_name:
        raise UaaError("oauth.client_name: a colon cannot be sent")
    return "Basic " + base64.b64encode(f"{oauth.client_name}:{oauth.client_secret}".encode()).decode()


def _context(oauth: OAuth) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if oauth.skip_ssl_validation:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif oauth.ca_certs:
        try:
            context.load_verify_locations(cafile=oauth.ca_certs)
        except OSError as error:
            raise UaaError(f"oauth.ca_certs: {oauth.ca_certs}: {error.strerror}") from error
    else:
        context.load_default_certs()
    return context


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
