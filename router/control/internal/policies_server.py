"""Policies of a Cloud Foundry policy server, asked for over its internal API as the agents on cells do.

Owns asking; does not own what becomes of the answers. One law: that the server says nothing has changed is
believed only while the last full set is known to be good; in doubt the whole set is fetched.
"""

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Annotated

import aiohttp
import msgspec
from msgspec import Meta, Struct

from router.config.internal import InternalPolicies, PolicyServerSource
from router.config.sections import Nats
from router.control.client_errors import describe
from router.control.internal.hub import InternalHub
from router.control.internal.policies_read_only import ReadOnlyPolicies
from router.control.nats_link import LinkError, client_tls
from router.log import Logger
from router.routing.access import TCP, UDP
from router.routing.internal_records import Policy
from router.routing.policy_book import TagsExhausted
from router.tls import TlsError

BASE = "/networking/v1/internal"
REQUEST_S = 10.0
MAX_BODY_BYTES = 256 * 1024 * 1024
"""Some hundred times what the largest platforms have."""


class PolicyServerError(Exception):
    """The policy server gives no usable answer; the text says why."""


_Port = Annotated[int, Meta(ge=1, le=65535)]
_Id = Annotated[str, Meta(min_length=1)]


class _Ports(Struct):
    start: _Port
    end: _Port


class _Source(Struct):
    id: _Id
    tag: str = ""


class _Destination(Struct):
    id: _Id
    protocol: str
    ports: _Ports
    tag: str = ""


class _Policy(Struct):
    source: _Source
    destination: _Destination


class _Policies(Struct):
    policies: list[_Policy]


_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{1,4}")
_decode_number = msgspec.json.Decoder(int).decode
_decode_policies = msgspec.json.Decoder(_Policies).decode


class PolicyServer(ReadOnlyPolicies):
    """The store; lives as long as control.

    Args:
        config: ``policy_server`` and ``keep`` are used.
        hub: gets the policies.
        logger: parent of this component's logger.

    Raises:
        TlsError: a certificate cannot be used.
    """

    def __init__(self, config: InternalPolicies, hub: InternalHub, logger: Logger) -> None:
        server = config.policy_server
        source, place = f"policy server {server.url}", f"by the policy server at {server.url}"
        super().__init__(source, place, hub, config.keep, logger)
        self._poll_interval_s = server.poll_interval
        self._url = server.url.rstrip("/") + BASE
        self._tls = client_context(server)
        self._tags: dict[str, int] = {}
        self._must_fetch = True

    @property
    def tags(self) -> Mapping[str, int]:
        """Those the server gives out: agents that ask it and agents that ask us must agree."""
        return self._tags

    async def _read_for_ever(self) -> None:
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        connector = aiohttp.TCPConnector(ssl=self._tls)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                try:
                    await self._poll(session)
                except (PolicyServerError, TagsExhausted) as error:
                    self._must_fetch = True
                    self._freshness.lost(str(error))
                except Exception as error:
                    # The root of the task: the server must not go unasked for ever.
                    self._must_fetch = True
                    self._freshness.lost(f"internal error: {error!r}")
                await asyncio.sleep(self._poll_interval_s)

    async def _poll(self, session: aiohttp.ClientSession) -> None:
        """Ask whether there is anything new, and for all of it if so. Raises `PolicyServerError`."""
        updated_ns: int | None = None
        with contextlib.suppress(PolicyServerError):
            # The set itself may well be had if this cannot.
            updated_ns = _number(await self._get(session, "policies_last_updated"))
        if not self._must_fetch and updated_ns == self.last_updated_ns:
            self._freshness.read()
            return
        self._take(_policies(await self._get(session, "policies")))
        # The date from before the set: what changes in between is fetched again.
        self.last_updated_ns = self.last_updated_ns if updated_ns is None else updated_ns
        self._must_fetch = updated_ns is None
        self._freshness.read()

    async def _get(self, session: aiohttp.ClientSession, path: str) -> bytes:
        url = f"{self._url}/{path}"
        try:
            async with session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise PolicyServerError(f"{url} answers {response.status}")
                body = bytearray()
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > MAX_BODY_BYTES:
                        raise PolicyServerError(f"{url}: an answer of more than {MAX_BODY_BYTES} bytes")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise PolicyServerError(f"{url}: {describe(error)}") from error
        return bytes(body)

    def _take(self, found: list[_Policy]) -> None:
        usable = [each for each in found if _is_usable(each)]
        if len(usable) < len(found):
            left_out = len(found) - len(usable)
            self._logger.warn("policies-left-out", count=left_out, reason="neither tcp nor udp, or no port range")
        self._keeper.replace([_policy(each) for each in usable], time.time_ns())
        self._tags = _tags(usable)


def client_context(config: PolicyServerSource) -> ssl.SSLContext:
    """Return the context of connections to the server: both sides show certificates. Raises `TlsError`."""
    settings = Nats(
        tls_enabled=True,
        ca_certs=config.ca_certs,
        cert_chain=config.cert_chain,
        private_key=config.private_key,
    )
    try:
        context = client_tls(settings)
    except LinkError as error:
        raise TlsError(f"internal.policies.policy_server: {str(error).partition(': ')[2]}") from error
    assert context is not None
    return context


def _number(body: bytes) -> int:
    try:
        return _decode_number(body)
    except ValueError as error:
        raise PolicyServerError(f"not a date of the last change: {error}") from error


def _policies(body: bytes) -> list[_Policy]:
    try:
        return _decode_policies(body).policies
    except (ValueError, RecursionError) as error:
        raise PolicyServerError(f"not a list of policies: {error}") from error


def _is_usable(found: _Policy) -> bool:
    ports = found.destination.ports
    return found.destination.protocol in (TCP, UDP) and ports.start <= ports.end


def _policy(found: _Policy) -> Policy:
    destination = found.destination
    ports = destination.ports
    return Policy(found.source.id, destination.id, destination.protocol, ports.start, ports.end)


def _tags(found: Sequence[_Policy]) -> dict[str, int]:
    """Return the numbers behind the tags, which are hexadecimal text; what is none is left out."""
    texts = {side.id: side.tag for each in found for side in (each.source, each.destination)}
    return {app: int(text, 16) for app, text in texts.items() if _HEXADECIMAL.fullmatch(text)}
