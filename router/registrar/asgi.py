"""Announcing an ASGI app for as long as it serves, by the lifespan protocol.

    app = Announcing(app, "nats://127.0.0.1:4222", [Route(host=own_address(), port=9000, uris=["a.test"])])

Whatever runs it, uvicorn for one, must have lifespan switched on. The app need not support lifespan itself.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from types import FrameType
from typing import Any

from router.registrar.announced import AnyRoute
from router.registrar.bus import Tls
from router.registrar.observer import Observer
from router.registrar.presence import Presence

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Step = Callable[[], Awaitable[None]]


class Announcing:
    """An ASGI app around another one; all but the server's start and end passes through untouched.

    The routes are announced as soon as their ports accept connections, and the app starts and runs without NATS as
    well.

    Args:
        app: the app itself.
        drain_s: on SIGTERM the routes are withdrawn first and the app serves on for so many seconds, then the
            server gets the signal. For servers that take signals by `signal.signal`, as uvicorn does; with another
            the start fails. None leaves signals alone; then the routes are withdrawn when the server ends the
            lifespan, which is after it stopped to listen, and routers meet a closed port for a moment.
        nats, routes, tls, observer: as for `Presence`.

    Raises:
        AnnouncementError: a route or a server URL is malformed.
    """

    def __init__(
        self,
        app: App,
        nats: str | Sequence[str],
        routes: Sequence[AnyRoute],
        *,
        drain_s: float | None = None,
        tls: Tls | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._app = app
        self._drain_s = drain_s
        self._presence = Presence(nats, routes, tls=tls, observer=observer)
        self._draining: asyncio.Task[None] | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, _Lifespan(receive, send, self._begin, self._end))
        else:
            await self._app(scope, receive, send)

    async def _live(self, scope: Message, lifespan: "_Lifespan") -> None:
        try:
            await self._app(scope, lifespan.receive, lifespan.send)
        except Exception:
            # An app that knows no lifespan raises before it has heard a word of it; servers take it for just that.
            if lifespan.heard:
                # Without a pause if nothing began: hypercorn looks only once whether its start has failed.
                if lifespan.begun:
                    await self._end()
                raise
        if not lifespan.heard:
            await lifespan.alone()

    async def _begin(self) -> None:
        # First, for it may refuse: then nothing is announced.
        if self._drain_s is not None:
            self._drain_on_sigterm(self._drain_s)
        await self._presence.__aenter__()

    async def _end(self) -> None:
        await self._presence.__aexit__()

    def _drain_on_sigterm(self, drain_s: float) -> None:
        loop = asyncio.get_running_loop()
        servers_own = signal.getsignal(signal.SIGTERM)
        # The event loops put a handler without effect there, and keep the real one to themselves.
        if not callable(servers_own) or servers_own.__module__.startswith(("asyncio", "uvloop")):
            raise RuntimeError(
                "drain_s: this server takes no signals by signal.signal, so they cannot be held back"
            )

        def told(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(begin, number)

        def begin(number: int) -> None:
            if self._draining is None:
                self._draining = loop.create_task(self._presence.drain(drain_s))
                self._draining.add_done_callback(lambda task: servers_own(number, None))

        signal.signal(signal.SIGTERM, told)


class _Lifespan:
    """What an app hears and says of its start and end, with ours between: announced once it has started, withdrawn
    before it hears that it is over."""

    def __init__(self, receive: Receive, send: Send, begin: Step, end: Step) -> None:
        self.heard = False
        self.begun = False
        self._receive = receive
        self._send = send
        self._begin = begin
        self._end = end

    async def receive(self) -> Message:
        self.heard = True
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            await self._end()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            try:
                await self._begin()
            except Exception as error:
                # By the exception alone servers would believe that there is no lifespan, and go on.
                await self._send({"type": "lifespan.startup.failed", "message": str(error)})
                raise
            self.begun = True
        await self._send(message)

    async def alone(self) -> None:
        """Answer in the place of an app that does not."""
        await self.receive()
        await self.send({"type": "lifespan.startup.complete"})
        await self.receive()
        await self.send({"type": "lifespan.shutdown.complete"})
