"""One connection to one NATS server, from the dial to its loss.

Owns dialling, TLS and a bounded close; does not own reconnecting, which is the subscriber's: nats-py's own
reconnecting gives up on authorization errors, retries a dead first server for ever and replays what it had
buffered. One law: a link that is lost stays lost, and nothing of it survives `close`.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from router.config.sections import Nats, NatsHost
from router.control.client_tls import ClientTlsError, client_context

CONNECT_TIMEOUT_S = 2.0
"""For TCP, TLS and the NATS greeting together, as in the Go client."""

CLOSE_TIMEOUT_S = 0.5
NEVER_S = 365 * 86400.0

PENDING_MESSAGES = 131072
PENDING_BYTES = 134217728
"""What may wait for being handled before the client drops messages; Gorouter's figures."""


class LinkError(Exception):
    """A server could not be reached, or refused us; the text says which and why."""


class LinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for every server of the cluster."""

    user: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None
    ping_interval_s: float = 20.0
    """Three pings without an answer and the link is lost; 0 for no pings."""


class LinkUser(Protocol):
    """A part of control that uses the router's one connection to NATS beside the subscriber."""

    async def begin(self, link: "Link") -> None:
        """Subscribe on a fresh link, the first and every later one. May raise `LinkError`."""

    def lost(self) -> None:
        """The link is gone; the next `begin` brings another."""


class Link:
    """An established connection. Made by `dial`; belongs to whoever called that, who must `close` it."""

    def __init__(self, address: str, client: Client, lost: asyncio.Event) -> None:
        self.address = address
        """``host:port`` as configured."""
        self._client = client
        self._lost = lost
        self._subscriptions: list[Subscription] = []

    @property
    def is_up(self) -> bool:
        return bool(self._client.is_connected)

    @property
    def pending_messages(self) -> int:
        """Messages that have arrived and were not handled yet."""
        return sum(subscription.pending_msgs for subscription in self._subscriptions)

    @property
    def client(self) -> Client:
        """The library's client, for JetStream and requests; it is of no use once the link is lost."""
        return self._client

    @property
    def last_error(self) -> str:
        error = self._client.last_error
        return "" if error is None else _reason(error)

    async def wait_lost(self, timeout_s: float) -> None:
        """Return when the connection is lost, or after the time-out."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._lost.wait(), timeout_s)

    async def subscribe(
        self, subject: str, handle: Callable[[Msg], Awaitable[None]], pending_messages: int = PENDING_MESSAGES
    ) -> None:
        """Have every message on the subject handled, one at a time in order. Raises `LinkError`."""
        with _link_errors(self.address):
            subscription = await self._client.subscribe(
                subject, cb=handle, pending_msgs_limit=pending_messages, pending_bytes_limit=PENDING_BYTES
            )
        self._subscriptions.append(subscription)

    async def publish(self, subject: str, payload: bytes) -> None:
        """Hand a message to the connection; it leaves soon. Raises `LinkError` if the link is lost."""
        with _link_errors(self.address):
            await self._client.publish(subject, payload)

    async def close(self) -> None:
        """End the connection and everything that belongs to it, a dead server notwithstanding."""
        # AssertionError is how the client says that it never got as far as having anything to close.
        with contextlib.suppress(TimeoutError, OSError, nats.errors.Error, AssertionError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._client.close()


async def dial(host: NatsHost, options: LinkOptions, on_error: Callable[[Exception], None]) -> Link:
    """Connect to a server.

    Args:
        host: name or address, and port; with TLS the certificate must carry this name.
        options: credentials and the like.
        on_error: told of what goes wrong while the link is up, except its loss.

    Raises:
        LinkError: no connection within `CONNECT_TIMEOUT_S`.
    """
    address = f"{host.hostname}:{host.port}"
    client = _Client(options.tls is not None)
    lost = asyncio.Event()
    failures: list[Exception] = []

    async def lose() -> None:
        lost.set()

    async def note(error: Exception) -> None:
        if not client.is_connected:
            failures.append(error)
        elif not isinstance(error, nats.errors.UnexpectedEOF | OSError):
            on_error(error)

    link = Link(address, client, lost)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await client.connect(**_arguments(host, options), error_cb=note, closed_cb=lose)
    except TimeoutError as error:
        await link.close()
        raise LinkError(f"{address}: no connection within {CONNECT_TIMEOUT_S:g} s") from error
    except (OSError, ValueError, nats.errors.Error) as error:
        await link.close()
        raise LinkError(f"{address}: {_reason(failures[-1] if failures else error)}") from error
    except BaseException:
        await link.close()
        raise
    if not link.is_up:
        # The library takes the end of the connection for an answer to its first PING.
        await link.close()
        raise LinkError(f"{address}: the server closed the connection")
    return link


def client_tls(settings: Nats) -> ssl.SSLContext | None:
    """Return the TLS context for connections to NATS (our certificate, its CAs, TLS 1.2 or later), if configured.

    Raises:
        LinkError: a certificate or key cannot be used.
    """
    if not settings.tls_enabled:
        return None
    try:
        return client_context(settings.ca_certs, settings.cert_chain, settings.private_key)
    except ClientTlsError as error:
        raise LinkError(f"nats certificates: {error}") from error


def _arguments(host: NatsHost, options: LinkOptions) -> dict[str, Any]:
    name = f"[{host.hostname}]" if ":" in host.hostname else host.hostname
    return {
        "servers": [f"nats://{name}:{host.port}"],
        "user": options.user or None,
        "password": options.password if options.user else None,
        "tls": options.tls,
        "ping_interval": options.ping_interval_s or NEVER_S,
        "max_outstanding_pings": 2,
        "allow_reconnect": False,
        # Without reconnecting, nats-py still tries a refused server again unless it is bounded, and 0 is no bound.
        "max_reconnect_attempts": 1,
        "reconnect_time_wait": 0,
    }


class _Client(Client):
    """nats-py's client, except that TLS is not optional when it is configured.

    As it is, that client goes on in clear text, credentials included, with a server that asks for no TLS: anyone
    between the two could make it so.
    """

    def __init__(self, wants_tls: bool) -> None:
        super().__init__()
        self._wants_tls = wants_tls

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if self._wants_tls and initial_connection:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise nats.errors.Error("the server does not offer TLS")
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)


@contextlib.contextmanager
def _link_errors(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, nats.errors.Error) as error:
        raise LinkError(f"{address}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
