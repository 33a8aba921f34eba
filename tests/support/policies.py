"""What tests of the policy API share: a store in memory, signed tokens, and requests that keep whole answers."""

import base64
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import aiohttp
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from msgspec import structs

from router.config import internal
from router.control.internal.hub import InternalHub
from router.control.internal.policy_api import PolicyApi
from router.control.internal.policy_checks import SpaceDirectory
from router.control.internal.policy_store import PolicyStoreError
from router.log import Logger
from router.routing.internal_records import Identity, Policy, PutIdentity
from tests.support.ports import free_port


class MemoryStore:
    """A store that keeps policies in the hub alone; ``broken`` makes every change fail."""

    def __init__(self, hub: InternalHub, *, writable: bool = True) -> None:
        self.writable = writable
        self.broken = False
        self.last_updated_ns = 0
        self.tags: dict[str, int] = {}
        self._hub = hub

    @property
    def policies(self) -> list[Policy]:
        table = self._hub.table
        return sorted(policy for source in table.sources() for policy in table.policies_of(source))

    async def add(self, policies: list[Policy]) -> None:
        self._change({*self.policies, *policies})

    async def remove(self, policies: list[Policy]) -> None:
        self._change({*self.policies} - {*policies})

    def _change(self, policies: set[Policy]) -> None:
        if self.broken:
            raise PolicyStoreError("the store is broken")
        for policy in sorted(policies):
            for app in (policy.source, policy.destination):
                self.tags.setdefault(app, len(self.tags) + 1)
        self._hub.set_policies(list(policies))
        self.last_updated_ns += 1


@cache
def signing_key(name: str, bits: int = 2048) -> RSAPrivateKey:
    """Return a private key that stays the same for this name."""
    return generate_private_key(65537, bits)


def public_pem(key: RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def jwk(key: RSAPrivateKey, **members: object) -> dict[str, object]:
    """Return a key's public part as a JWKS entry."""
    return {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "alg": "RS256", **members}


def token(key: RSAPrivateKey, *scopes: str, key_id: str | None = None, **claims: Any) -> str:
    """Return a token as the UAA signs them; a claim that is given as None is left out."""
    content = {
        "sub": "user-guid",
        "user_name": "alice",
        "scope": list(scopes),
        "aud": ["network", "cloud_controller"],
        "exp": int(time.time()) + 600,
        **claims,
    }
    headers = {} if key_id is None else {"kid": key_id}
    wanted = {name: value for name, value in content.items() if value is not None}
    return jwt.encode(wanted, key, algorithm="RS256", headers=headers)


def unsigned(header: dict[str, object], claims: dict[str, object]) -> str:
    """Return the first two parts of a token, to be signed in any way."""
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)
    )


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    headers: dict[str, str]


@dataclass(slots=True)
class Served:
    """A running policy API, and what it works with."""

    url: str
    store: MemoryStore
    hub: InternalHub
    session: aiohttp.ClientSession
    lines: list[dict[str, Any]] = field(default_factory=list)
    """Of the log."""

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Make a request; ``_`` in names of headers stands for ``-``."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else io.BytesIO(body)
        async with self.session.request(method, self.url + path, data=content, headers=given) as response:
            return Answer(response.status, await response.read(), dict(response.headers))

    async def ask_as(self, bearer: str, method: str, path: str, body: bytes | None = None) -> Answer:
        """Make a request with a token."""
        return await self.ask(method, path, body, Authorization=f"Bearer {bearer}")

    def logged(self, message: str) -> list[dict[str, Any]]:
        return [line["data"] for line in self.lines if line["message"] == message]


@asynccontextmanager
async def serving(
    config: internal.PolicyApi | None = None,
    *,
    writable: bool = True,
    ready: bool = True,
    directory: Callable[[InternalHub], SpaceDirectory] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Served]:
    """Run the external API on a free port, and a client of it."""
    hub = InternalHub(lambda: None)
    hub.set_ready(policies=ready)
    store = MemoryStore(hub, writable=writable)
    lines: list[dict[str, Any]] = []
    logger = Logger(sink=lambda line: lines.append(json.loads(line)))
    wanted = structs.replace(config or internal.PolicyApi(), port=free_port())
    api = PolicyApi(wanted, store, hub, logger, directory(hub) if directory else None, clock)
    await api.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Served(f"http://127.0.0.1:{api.port}", store, hub, session, lines)
    finally:
        await api.close()


def body_of(*policies: dict[str, Any]) -> bytes:
    return json.dumps({"policies": policies}).encode()


def v1(source: str = "a", destination: str = "b", start: int = 80, end: int | None = None) -> dict[str, Any]:
    """Return a policy for TCP as the API's v1 writes it."""
    ports = {"start": start, "end": start if end is None else end}
    return {"source": {"id": source}, "destination": {"id": destination, "protocol": "tcp", "ports": ports}}


def place(hub: InternalHub, **spaces: str) -> None:
    """Let one instance of each app run in a space."""
    for number, (app, space) in enumerate(spaces.items(), len(hub.table.identities) + 1):
        hub.put(PutIdentity(Identity(f"10.255.0.{number}", app, space, instance=f"{app}-{number}")))
