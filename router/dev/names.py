"""Announcing an internal name for as long as its instance serves, as Cloud Foundry's route-emitter would."""

import asyncio
import contextlib

from router.dev.inside import ANNOUNCE_S
from router.registrar.bus import Bus
from router.wire.discovery import REGISTER, START, UNREGISTER, NameRegistration, encode_registration

CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0


class NameAnnouncer:
    """Announces one instance on entering, every `ANNOUNCE_S` and when a router asks; takes it back on leaving.

    Entering raises `BusUnavailable` if no server answers.

    Args:
        server: URL of a NATS server.
        name: shown by the NATS server's monitoring.
    """

    def __init__(self, server: str, registration: NameRegistration, *, name: str) -> None:
        self._payload = encode_registration(registration)
        self._due = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._bus = Bus(
            [server],
            name=name,
            subjects=[START],
            on_message=lambda subject, payload: self._due.set(),
            on_up=self._up,
            on_down=lambda reason: None,
        )

    async def __aenter__(self) -> "NameAnnouncer":
        await self._bus.connect(CONNECT_TIMEOUT_S)
        self._task = asyncio.get_running_loop().create_task(self._announce_for_ever())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._due.set()
        if self._task is not None:
            # Not by cancelling: NATS' client swallows a cancellation that meets it while it flushes.
            await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT_S)
            self._task.cancel()
        await self._bus.publish(UNREGISTER, self._payload)
        await self._bus.flush()
        await self._bus.close()

    async def _up(self, _: str) -> None:
        self._due.set()

    async def _announce_for_ever(self) -> None:
        while not self._closing:
            self._due.clear()
            await self._bus.publish(REGISTER, self._payload)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCE_S):
                    await self._due.wait()
