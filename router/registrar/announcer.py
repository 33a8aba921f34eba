"""Announcing routes for as long as they live: the library behind `router register`.

Owns the promise that an announced route is heard of often enough, and is taken back when its app goes; does not
own the connection (`registrar.bus`) nor the order of the day (`registrar.schedule`). One law: a route that was
withdrawn is never registered again, and if the withdrawal could not be sent it is sent as soon as it can be.

    async with Announcer(["nats://127.0.0.1:4222"]) as announcer:
        await announcer.announce(Announcement(host="10.0.0.7", port=9000, uris=["app.example.com"]))
        await serve_until_told_to_stop()

One task announces everything. 20,000 routes are 1,000 small messages a second, and take one per cent of a core.
"""

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from router.registrar.bus import Bus, server_problems
from router.registrar.rules import announcement_problems
from router.registrar.schedule import DEFAULT_INTERVAL_S, Schedule, interval_from_router
from router.wire.announcement import (
    GREET,
    REGISTER,
    START,
    UNREGISTER,
    Announcement,
    RouterStart,
    decode_start,
    encode_announcement,
)

BATCH = 500
"""Messages between two flushes: bounds both memory and what a broken connection can lose unnoticed."""

TICK_S = 0.05
"""What is due within this time is announced together, which with many routes costs a sixth."""

GREET_PATIENCE_S = 3.0
"""After this long without an answer to the greeting, `Observer.no_router_answered` is called."""

WITHDRAW_TIMEOUT_S = 5.0
"""Longest time that leaving may take, also with a NATS server that hangs."""

MOST_OWED = 100_000
"""Withdrawals remembered while NATS is away; beyond, the oldest are left to the routers' own pruning."""

MAX_PAYLOAD_BYTES = 1024 * 1024
"""What a NATS server takes unless it is configured otherwise."""


class AnnouncementError(ValueError):
    """What was to be announced is malformed; ``problems`` has one sentence for each mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


class Observer:
    """Is told what happens; override what is of interest. The methods must neither block nor raise."""

    def connected(self, server: str) -> None:
        """A connection was made, the first one or a further one. The URL carries no credentials."""

    def disconnected(self, reason: str) -> None:
        """The connection was lost; another one is being looked for."""

    def router_heard(self, router: RouterStart, interval_s: float) -> None:
        """A router started or answered the greeting; routes are announced every ``interval_s`` from now on."""

    def no_router_answered(self) -> None:
        """Nobody answered the greeting within `GREET_PATIENCE_S`; routes are announced nevertheless."""


class Announced:
    """One route that is being announced, from `Announcer.announce` to `Announcer.withdraw`. Opaque to callers."""

    __slots__ = ("announcement", "payload")

    def __init__(self, announcement: Announcement) -> None:
        self.announcement = announcement
        # Encoded once: the router knows a heartbeat by its bytes.
        self.payload = encode_announcement(announcement)


class Announcer:
    """Announces routes over one NATS connection; lives as long as its ``async with`` block.

    On entering it connects, and raises `BusUnavailable` if no server answers in time; from then on it reconnects
    for ever, and after each time announces everything again. On leaving it withdraws every route and waits until
    the server has taken that.

    Args:
        servers: NATS URLs, ``nats://[user:pass@]host[:port]``, or ``tls://``; used in turn.
        interval_s: seconds between two announcements of a route; None does as the routers say, by default 20.
        tls: context for servers that demand TLS.
        name: shown by the NATS server's monitoring.
        observer: is told what happens.
        connect_timeout_s: how long entering may try.
        rng: spreads announcements over the interval.
        wall_clock_ns: stamps announcements (``endpoint_updated_at_ns``) unless they have a stamp. With it a router
            tells a late message of a past instance from those of the present one.

    Raises:
        AnnouncementError: a server URL is malformed or the interval is not above 0.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        interval_s: float | None = None,
        tls: ssl.SSLContext | None = None,
        name: str = "router-announcer",
        observer: Observer | None = None,
        connect_timeout_s: float = 10.0,
        rng: random.Random | None = None,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        problems = [problem for server in servers for problem in server_problems(server)]
        problems += [] if servers else ["no NATS server given"]
        problems += [] if interval_s is None or interval_s > 0 else ["the interval must be above 0 seconds"]
        if problems:
            raise AnnouncementError(problems)
        self._observer = observer or Observer()
        self._fixed_interval = interval_s is not None
        self._schedule: Schedule[Announced] = Schedule(interval_s or DEFAULT_INTERVAL_S, rng or random.Random())
        self._connect_timeout_s = connect_timeout_s
        self._wall_clock_ns = wall_clock_ns
        self._answers = f"_INBOX.announcer.{(rng or random.SystemRandom()).getrandbits(96):024x}"
        self._bus = Bus(
            servers,
            name=name,
            tls=tls,
            subjects=[START, self._answers],
            on_message=self._message,
            on_up=self._up,
            on_down=self._observer.disconnected,
        )
        self._owed: dict[bytes, None] = {}
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "Announcer":
        await self._bus.connect(self._connect_timeout_s)
        self._task = asyncio.get_running_loop().create_task(self._announce_for_ever())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        return self._bus.up

    @property
    def interval_s(self) -> float:
        """Seconds within which every route is announced again."""
        return self._schedule.interval_s

    @property
    def announced(self) -> list[Announcement]:
        """All that is being announced now."""
        return [each.announcement for each in self._schedule.items()]

    async def announce(self, announcement: Announcement) -> Announced:
        """Announce a route now, and again and again until it is withdrawn.

        Returns once the NATS server has the message, or at once while there is no connection: then the route is
        announced as soon as there is one.

        Raises:
            AnnouncementError: it is malformed; nothing was sent.
        """
        return (await self.announce_all([announcement]))[0]

    async def announce_all(self, announcements: Iterable[Announcement]) -> list[Announced]:
        """Announce many routes, as `announce` does; if one is malformed, none is announced."""
        accepted = self._accept(announcements)
        now = asyncio.get_running_loop().time()
        for each in accepted:
            self._owed.pop(each.payload, None)
            self._schedule.add(each, self._schedule.again(now))
        # The task may be asleep until a time that was right before these came.
        self._wake.set()
        await self._publish(REGISTER, accepted)
        return accepted

    async def withdraw(self, *announced: Announced) -> None:
        """Unregister routes and stop announcing them; what is withdrawn already is passed over.

        Returns once the NATS server has the messages. Without a connection they are sent when there is one again,
        as long as this announcer lives.
        """
        gone = [each for each in announced if self._schedule.remove(each)]
        if not await self._publish(UNREGISTER, gone):
            for each in gone:
                self._owed[each.payload] = None
            while len(self._owed) > MOST_OWED:
                del self._owed[next(iter(self._owed))]

    async def close(self) -> None:
        """Withdraw everything and end the connection, within `WITHDRAW_TIMEOUT_S` and a little."""
        if self._patience is not None:
            self._patience.cancel()
        self._closing = True
        self._wake.set()
        if self._task is not None:
            # Not by cancelling: NATS' client swallows a cancellation that meets it while it flushes.
            await asyncio.wait([self._task], timeout=WITHDRAW_TIMEOUT_S)
            self._task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WITHDRAW_TIMEOUT_S):
                await self.withdraw(*self._schedule.items())
        await self._bus.close()

    def _accept(self, announcements: Iterable[Announcement]) -> list[Announced]:
        problems: list[str] = []
        accepted: list[Announced] = []
        stamp = self._wall_clock_ns()
        for each in announcements:
            found = announcement_problems(each)
            problems += found
            if not found:
                updated_at_ns = each.endpoint_updated_at_ns or stamp
                accepted.append(Announced(msgspec.structs.replace(each, endpoint_updated_at_ns=updated_at_ns)))
                if len(accepted[-1].payload) > MAX_PAYLOAD_BYTES:
                    problems.append(f"the announcement of {each.uris[0]} and others is too large: split its uris")
        if problems:
            raise AnnouncementError(problems)
        return accepted

    async def _publish(self, subject: str, announced: Sequence[Announced]) -> bool:
        """Send in batches, each taken by the server before the next. False if the connection was lost."""
        for start in range(0, len(announced), BATCH):
            if not self._bus.up:
                return False
            for each in announced[start : start + BATCH]:
                # It may have been withdrawn while an earlier batch was on its way.
                if subject == UNREGISTER or each in self._schedule:
                    await self._bus.publish(subject, each.payload)
            if not await self._bus.flush():
                return False
        return True

    async def _announce_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            self._wake.clear()
            due = self._schedule.take_due(loop.time() + TICK_S, BATCH) if self._bus.up else []
            await self._publish(REGISTER, due)
            if len(due) < BATCH and not self._closing:
                await self._sleep_until_due()

    async def _sleep_until_due(self) -> None:
        next_due = self._schedule.next_due() if self._bus.up else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(next_due):
                await self._wake.wait()

    async def _up(self, server: str) -> None:
        self._observer.connected(server)
        for payload in list(self._owed):
            await self._bus.publish(UNREGISTER, payload)
        if await self._bus.flush():
            self._owed.clear()
        self._announce_everything()
        self._await_answer()
        await self._bus.publish(GREET, b"", reply=self._answers)

    def _await_answer(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(GREET_PATIENCE_S, self._observer.no_router_answered)

    def _announce_everything(self) -> None:
        self._schedule.bring_forward(asyncio.get_running_loop().time())
        self._wake.set()

    def _message(self, subject: str, payload: bytes) -> None:
        try:
            router = decode_start(payload)
        except ValueError:
            # Anybody may publish anything there; what is not a router's word concerns nobody.
            return
        if self._patience is not None:
            self._patience.cancel()
        self._obey(router)
        if subject == START:
            self._announce_everything()

    def _obey(self, router: RouterStart) -> None:
        if not self._fixed_interval:
            wanted_s = interval_from_router(router.minimum_register_interval_s, router.prune_threshold_s)
            self._schedule.set_interval(wanted_s, asyncio.get_running_loop().time())
            self._wake.set()
        self._observer.router_heard(router, self.interval_s)
