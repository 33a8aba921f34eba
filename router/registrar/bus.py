"""A NATS connection that is made anew for ever, for those who announce.

Owns connecting, noticing that the connection is gone, and subscribing again; does not own what is published.
One law: a message handed to a connection that broke is never sent over the next one. What an announcer says is
true for the moment only, and a register replayed after an unregister would bring a dead route back.

That law is why NATS' own client never reconnects here: it would keep what is pending and send it later. Every
connection is a client of its own, to one server; when it ends, the next server in turn gets a new one.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from router.registrar.reasons import reason_of

CONNECT_TIMEOUT_S = 5
FLUSH_TIMEOUT_S = 5
"""A server that does not answer a PING for this long is given up and another one tried."""
PING_INTERVAL_S = 20
LONGEST_WAIT_S = 2.0
"""Ceiling of the wait between two rounds through all servers."""
CLOSE_TIMEOUT_S = 2.0

OnMessage = Callable[[str, bytes], None]
Tls = ssl.SSLContext | Callable[[], ssl.SSLContext]
"""A context for all connections, or what makes one for each: see `registrar.tls_files`."""


class BusUnavailable(Exception):
    """No NATS server could be connected to within the time given; the text says what each one answered."""


class Bus:
    """One lasting relation to a NATS cluster; lives from `connect` to `close`.

    Args:
        servers: URLs as `server_problems` accepts them. Servers that the cluster tells of are not added.
        name: shown by the NATS server's monitoring.
        tls: context for servers that demand TLS, or what is called for one before each connection is made; the
            server's name is verified as the context says.
        subjects: subscribed to on every connection, before ``on_up`` is called.
        on_message: called with subject and payload.
        on_up: awaited after every connection made, with the server as ``host:port``.
        on_down: called when a connection was lost, with the reason.
        on_unreachable: called when no server could be connected to, with what each one answered; not again while
            the answers stay the same.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        name: str,
        subjects: Sequence[str],
        on_message: OnMessage,
        on_up: Callable[[str], Awaitable[None]],
        on_down: Callable[[str], None],
        on_unreachable: Callable[[str], None] = lambda told: None,
        tls: Tls | None = None,
    ) -> None:
        if tls is not None and not callable(tls) and not isinstance(tls, ssl.SSLContext):
            raise TypeError(f"tls: expected an ssl.SSLContext or what makes one, not {type(tls).__name__}")
        self._servers = list(servers)
        self._name = name
        self._subjects = list(subjects)
        self._on_message = on_message
        self._on_up = on_up
        self._on_down = on_down
        self._on_unreachable = on_unreachable
        self._tls = tls
        self._client: Client | None = None
        self._reason = "connection closed"
        self._lost = asyncio.Event()
        self._running_flush: asyncio.Task[bool] | None = None
        self._next_flush: asyncio.Task[bool] | None = None
        self._closing = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def connect(self, timeout_s: float | None) -> None:
        """Make the first connection, then keep one up until `close`; with None return without waiting for it.

        Raises:
            BusUnavailable: no server answered within ``timeout_s``.
        """
        problems: dict[str, str] = {}
        if timeout_s is not None and not await self._connect_within(timeout_s, problems):
            told = self._answers(problems)
            raise BusUnavailable(f"no NATS server reachable within {timeout_s:g} s: {told}")
        self._keeper = asyncio.get_running_loop().create_task(self._keep_connected())

    async def _connect_within(self, timeout_s: float, problems: dict[str, str]) -> bool:
        """Return whether a connection could be made; whoever is cancelled meanwhile leaves none behind."""
        # In a task of its own, for NATS' client may swallow a cancellation, and the caller's must not be lost.
        connecting = asyncio.get_running_loop().create_task(self._connect_somewhere(problems))
        is_up = False
        try:
            await asyncio.wait([connecting], timeout=timeout_s)
            if connecting.done():
                connecting.result()
                is_up = True
        finally:
            if not is_up:
                await self._give_up(connecting)
        return is_up

    async def _give_up(self, connecting: "asyncio.Task[None]") -> None:
        while not connecting.done():
            connecting.cancel()
            await asyncio.wait([connecting], timeout=CLOSE_TIMEOUT_S)
        await self._drop()

    async def subscribe(self, *subjects: str) -> None:
        """Subscribe to further subjects, on this connection and all that follow."""
        self._subjects += subjects
        if self._client is not None:
            try:
                await self._listen(self._client, subjects)
            except (nats.errors.Error, OSError) as error:
                self._lose(reason_of(error))

    async def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Hand a message to the connection; without one it is dropped, and `up` is false."""
        if self._client is None:
            return
        try:
            await self._client.publish(subject, payload, reply=reply)
        except (nats.errors.Error, OSError) as error:
            self._lose(reason_of(error))

    async def flush(self) -> bool:
        """Wait until the server has taken all that was published. False: the connection broke instead.

        Those who wait at one time share one exchange with the server: thousands may announce at once.
        """
        client = self._client
        if client is None:
            return False
        if self._next_flush is None:
            # What is under way may have begun before the caller's message was published.
            flushing = self._flush_after(self._running_flush)
            self._next_flush = asyncio.get_running_loop().create_task(flushing)
        return await asyncio.shield(self._next_flush) and self._client is client

    async def _flush_after(self, running: "asyncio.Task[bool] | None") -> bool:
        if running is not None:
            await asyncio.wait([running])
        self._running_flush, self._next_flush = self._next_flush, None
        client = self._client
        return client is not None and await self._flush_now(client)

    async def _flush_now(self, client: Client) -> bool:
        loop = asyncio.get_running_loop()
        # The client answers a flush with its time-out alone, also when the connection is lost meanwhile.
        flushed = loop.create_task(_flush(client))
        lost = loop.create_task(self._lost.wait())
        try:
            await asyncio.wait([flushed, lost], return_when=asyncio.FIRST_COMPLETED)
            if flushed.done():
                flushed.result()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            self._lose(reason_of(error))
        finally:
            flushed.cancel()
            lost.cancel()
        return self._client is client and not self._lost.is_set()

    async def close(self) -> None:
        """End the relation: no reconnecting any more. What was not flushed may be lost."""
        self._closing = True
        if self._keeper is not None:
            # NATS' client may swallow the cancellation, hence the flag, which then ends the task as well.
            self._keeper.cancel()
            await asyncio.wait([self._keeper], timeout=CLOSE_TIMEOUT_S)
        await self._drop()

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            # Who waits for a flush would do so for its whole time-out.
            self._lose("connection closed")
            await _close(client)

    def _lose(self, reason: str) -> None:
        self._reason = reason
        self._lost.set()

    async def _keep_connected(self) -> None:
        while not self._closing:
            if self._client is None:
                await self._connect_somewhere({})
            await self._wait_lost()
            client, self._client = self._client, None
            if client is not None:
                self._on_down(self._reason)
                await _close(client)

    async def _wait_lost(self) -> None:
        # The client's own callbacks are not called when it fails while it is flushing, hence the look each second.
        while self.up and not self._lost.is_set() and not self._closing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), 1.0)

    async def _connect_somewhere(self, problems: dict[str, str]) -> None:
        wait_s = 0.1
        told = ""
        while not self._closing:
            # In turn, and not always from the first: a server that accepts and then fails must not hold us.
            for _ in range(len(self._servers)):
                server = self._servers.pop(0)
                self._servers.append(server)
                if await self._connect_to(server, problems):
                    return
            if told != (told := self._answers(problems)):
                self._on_unreachable(told)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _answers(self, problems: dict[str, str]) -> str:
        """Say what each server answered, in an order that does not change."""
        return ", ".join(f"{redacted(each)} ({problems.get(each, 'no answer')})" for each in sorted(self._servers))

    async def _connect_to(self, server: str, problems: dict[str, str]) -> bool:
        try:
            tls = self._tls() if callable(self._tls) else self._tls
        except ValueError as error:
            problems[server] = str(error)
            return False
        client = _Client(wants_tls=tls is not None or server.startswith("tls:"))
        # Why it failed the client tells its error callback alone, and raises that there are no servers.
        told: list[Exception] = []
        try:
            await self._open(client, server, tls, told)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            problems[server] = reason_of(told[-1] if told else error)
            await _close(client)
            return False
        except BaseException:
            await _close(client)
            raise
        self._client = client
        await self._on_up(redacted(server))
        return True

    async def _open(
        self, client: Client, server: str, tls: ssl.SSLContext | None, errors: list[Exception]
    ) -> None:
        async def failed(error: Exception) -> None:
            errors.append(error)
            del errors[:-1]

        async def closed() -> None:
            if client is self._client:
                self._lose(reason_of(errors[-1]) if errors else "connection closed")

        self._lost.clear()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await client.connect(
                [redacted(server)],
                name=self._name,
                **_credentials(server),
                error_cb=failed,
                closed_cb=closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=CONNECT_TIMEOUT_S,
                ping_interval=PING_INTERVAL_S,
                tls=tls,
            )
            await self._listen(client, self._subjects)

    async def _listen(self, client: Client, subjects: Sequence[str]) -> None:
        async def received(message: Msg) -> None:
            self._on_message(message.subject, message.data)

        for subject in subjects:
            await client.subscribe(subject, cb=received)


class _Client(Client):
    """NATS' client, made to insist on TLS where it is wanted.

    By itself it goes on in clear text, password included, when the server's greeting does not ask for TLS, and
    whoever sits between the two can take that out of the greeting.
    """

    def __init__(self, *, wants_tls: bool) -> None:
        super().__init__()
        self._wants_tls = wants_tls

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if self._wants_tls and initial_connection and not info.get("tls_required"):
            if not info.get("tls_available"):
                raise nats.errors.Error("the server offers no TLS")
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)


def _credentials(server: str) -> dict[str, Any]:
    """Return the URL's user and password, or its token, for the client, which would take them percent-encoded."""
    parts = urlsplit(server)
    if parts.username is None:
        return {}
    if parts.password is None:
        return {"token": unquote(parts.username)}
    return {"user": unquote(parts.username), "password": unquote(parts.password)}


async def _close(client: Client) -> None:
    # A client that failed may fail once more while it closes; the connection is gone in every case.
    with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
        await asyncio.wait_for(client.close(), CLOSE_TIMEOUT_S)


def server_problems(server: str) -> list[str]:
    """Return what is wrong with a NATS URL; nothing if it is ``nats://`` or ``tls://[user:pass@]host[:port]``."""
    if not isinstance(server, str):
        return [f"a NATS URL is text, not {type(server).__name__}"]
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError:
        # The error's own words may quote a password with a `/` in it.
        return [
            f"{redacted(server)!r} is not a URL with a host and a port; `/` and `#` in a password are %2F and %23"
        ]
    if parts.scheme not in ("nats", "tls") or not parts.hostname:
        return [f"{redacted(server)!r}: a NATS URL looks like nats://127.0.0.1:4222 or tls://user:pass@host:4222"]
    if port == 0:
        return [f"{redacted(server)!r}: port 0 cannot be connected to"]
    if parts.path.strip("/") or parts.query:
        return [f"{redacted(server)!r}: nothing may follow the port"]
    return []


def redacted(server: str) -> str:
    """Return the URL without its user name and password, for people and logs."""
    scheme, separator, rest = server.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else server.rpartition("@")[2]


async def _flush(client: Client) -> None:
    # nats-py writes a flush's PING before what it still holds back; only that of a second one comes after it.
    await client.flush(FLUSH_TIMEOUT_S)
    await client.flush(FLUSH_TIMEOUT_S)
