"""Announcing routes for as long as they live: the library behind `router register`.

Owns the promise that an announced route is heard of often enough, and is taken back when its app goes; does not
own the connection (`registrar.bus`) nor the order of the day (`registrar.schedule`). One law: a route that was
withdrawn is never registered again, and if the withdrawal could not be sent, or a router could not hear it, it is
sent as soon as that is possible (`registrar.debts`).

    async with Announcer(nats="nats://127.0.0.1:4222") as announcer:
        await announcer.announce(Route(host="10.0.0.7", port=9000, uris=["app.example.com"]))
        await serve_until_told_to_stop()

One task announces everything: no timer and no task a route.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Sequence

from router.registrar.announced import Announced, AnnouncementError, AnyRoute, expect_announced, left_behind
from router.registrar.bus import Bus, Tls, server_problems
from router.registrar.debts import Debts
from router.registrar.dialect import INTERNAL, PUBLIC, Dialect
from router.registrar.observer import GREET_PATIENCE_S, Observer
from router.registrar.schedule import Schedule
from router.wire.announcement import RouterStart

BATCH = 500
"""Messages between two flushes: bounds both memory and what a broken connection can lose unnoticed."""

TICK_S = 0.05
"""What is due within this time is announced together, which with many routes costs a sixth."""

WITHDRAW_TIMEOUT_S = 5.0
"""Longest time that leaving may take, also with a NATS server that hangs."""


class Announcer:
    """Announces routes over one NATS connection; lives as long as its ``async with`` block.

    On entering it connects, and raises `BusUnavailable` if no server answers in time; from then on it reconnects
    for ever, and after each time announces everything again. On leaving it withdraws every route and waits until
    the server has taken that.

    Args:
        nats: URL of a NATS server, ``nats://[user:pass@]host[:port]`` or ``tls://``, or several, used in turn.
        interval_s: seconds between two announcements of a route; None does as the routers say, by default 20, and
            60 for internal routes.
        tls: context for servers that demand TLS, or what makes one before each connection, such as `TlsFiles`.
        name: shown by the NATS server's monitoring.
        observer: is told what happens.
        connect_timeout_s: how long entering may try; None enters at once and connects as soon as it can.
        rng: spreads announcements over the interval.
        wall_clock_ns: stamps announcements (``endpoint_updated_at_ns``) unless they have a stamp. With it a router
            tells a late message of a past instance from those of the present one.

    Raises:
        AnnouncementError: a server URL is malformed or the interval is not above 0.
        RuntimeError: it is entered a second time, or something is announced before it was entered or after it was
            closed.
        TypeError: what is to be updated or withdrawn is not what `announce` returned.
    """

    def __init__(
        self,
        nats: str | Sequence[str],
        *,
        interval_s: float | None = None,
        tls: Tls | None = None,
        name: str = "router-announcer",
        observer: Observer | None = None,
        connect_timeout_s: float | None = 10.0,
        rng: random.Random | None = None,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        servers = [nats] if isinstance(nats, str) else nats
        problems = [problem for server in servers for problem in server_problems(server)]
        problems += [] if servers else ["no NATS server given"]
        problems += [] if interval_s is None or interval_s > 0 else ["the interval must be above 0 seconds"]
        if problems:
            raise AnnouncementError(problems)
        self._observer = observer or Observer()
        answers = f"_INBOX.announcer.{(rng or random.SystemRandom()).getrandbits(96):024x}"
        self._public = Dialect(PUBLIC, f"{answers}-public", interval_s)
        self._internal = Dialect(INTERNAL, f"{answers}-internal", interval_s)
        self._public.spoken = True
        self._schedule: Schedule[Announced] = Schedule(_interval_of, rng or random.Random())
        self._connect_timeout_s = connect_timeout_s
        self._wall_clock_ns = wall_clock_ns
        self._bus = Bus(
            servers,
            name=name,
            tls=tls,
            subjects=[self._public.subjects.start, self._public.answers],
            on_message=self._message,
            on_up=self._up,
            on_down=self._observer.disconnected,
            on_unreachable=self._observer.unreachable,
        )
        self._debts = Debts()
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "Announcer":
        self._refuse_if_closed()
        if self._task is not None:
            raise RuntimeError("the announcer was entered already")
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
        """Seconds within which every public route is announced again, unless it has an interval of its own."""
        return self._public.interval_s

    @property
    def announced(self) -> list[AnyRoute]:
        """All that is being announced now."""
        return [each.route for each in self._schedule.items()]

    async def announce(self, route: AnyRoute, *, interval_s: float | None = None) -> Announced:
        """Announce a route now, and again and again until it is withdrawn.

        Returns once the NATS server has the message, or at once while there is no connection: then the route is
        announced as soon as there is one.

        Args:
            interval_s: seconds between two announcements of this route, whatever routers and the announcer's own
                interval say.

        Raises:
            AnnouncementError: it is malformed; nothing was sent.
        """
        return (await self.announce_all([route], interval_s=interval_s))[0]

    async def announce_all(
        self, routes: Iterable[AnyRoute], *, interval_s: float | None = None
    ) -> list[Announced]:
        """Announce many routes, as `announce` does; if one is malformed, none is announced."""
        self._refuse_unless_open()
        accepted = self._accept(routes, interval_s)
        await self._begin(accepted)
        return accepted

    async def update(self, announced: Announced, route: AnyRoute, *, interval_s: float | None = None) -> Announced:
        """Announce a route in the place of another, with no moment in which neither is.

        The new one is registered first; then what it does not cover of the old one is unregistered: uris or names
        that are gone, or everything if the address is another. The old one counts as withdrawn. Returns, raises
        and treats a lost connection as `announce` and `withdraw` do; one that was withdrawn already is no reason
        not to announce the new. Without an interval of its own the new one has that of the old.
        """
        self._refuse_unless_open()
        expect_announced(announced)
        (accepted,) = self._accept([route], interval_s or announced.own_interval_s)
        was_announced = self._schedule.remove(announced)
        await self._begin([accepted], left_behind(announced, accepted) if was_announced else [])
        return accepted

    async def withdraw(self, *announced: Announced) -> None:
        """Unregister routes and stop announcing them; what is withdrawn already is passed over.

        Returns once the NATS server has the messages. Without a connection they are sent when there is one again,
        as long as this announcer lives.
        """
        expect_announced(*announced)
        await self._unregister([each for each in announced if self._schedule.remove(each)])

    async def deny(self, *routes: AnyRoute) -> bool:
        """Unregister routes that are not announced here, such as those a predecessor left behind.

        Returns true once the NATS server has the messages; false, with nothing owed, if there is no connection.

        Raises:
            AnnouncementError: one is malformed; nothing was sent.
        """
        return await self._publish([(each.unregister, each.payload) for each in self._accept(routes)])

    async def close(self, *, withdraw: bool = True) -> None:
        """Withdraw everything and end the connection, within `WITHDRAW_TIMEOUT_S` and a little.

        Whoever is cancelled while waiting for this leaves it to be done while the event loop runs on.

        Args:
            withdraw: false leaves the routes to a successor that announces them soon; those it does not announce
                stay until routers prune them.
        """
        if self._ending is None:
            self._closing = True
            self._ending = asyncio.get_running_loop().create_task(self._end(withdraw))
        await asyncio.shield(self._ending)

    async def _end(self, withdraw: bool) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._wake.set()
        try:
            if self._task is not None:
                # Not by cancelling: NATS' client swallows a cancellation that meets it while it flushes.
                await asyncio.wait([self._task], timeout=WITHDRAW_TIMEOUT_S)
                self._task.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WITHDRAW_TIMEOUT_S):
                    # What was cancelled a moment ago is owed still.
                    await self._pay()
                    await self.withdraw(*(self._schedule.items() if withdraw else ()))
        finally:
            await self._bus.close()

    def _refuse_if_closed(self) -> None:
        if self._closing:
            raise RuntimeError("the announcer is closed: nothing is announced any more")

    def _refuse_unless_open(self) -> None:
        self._refuse_if_closed()
        if self._task is None:
            raise RuntimeError("the announcer was not entered: use it in `async with`")

    def _accept(self, routes: Iterable[AnyRoute], interval_s: float | None = None) -> list[Announced]:
        return Announced.all_of(routes, self._wall_clock_ns(), self._public, self._internal, interval_s)

    async def _begin(self, accepted: Sequence[Announced], left: Sequence[Announced] = ()) -> None:
        """Register routes, then unregister what is left of those they replace."""
        self._enter(accepted)
        try:
            await self._speak_what_is_needed(accepted)
            await self._register(accepted)
            await self._unregister(left)
        except asyncio.CancelledError:
            # The caller will not get to hold what could withdraw them.
            self._owe([*left, *(each for each in accepted if self._schedule.remove(each))])
            raise

    def _enter(self, accepted: Iterable[Announced]) -> None:
        now = asyncio.get_running_loop().time()
        for each in accepted:
            self._debts.forgive(each)
            self._schedule.add(each, self._schedule.again(each, now))
        # The task may be asleep until a time that was right before these came.
        self._wake.set()

    async def _speak_what_is_needed(self, accepted: Iterable[Announced]) -> None:
        internal = self._internal
        if not internal.spoken and any(each.dialect is internal for each in accepted):
            internal.spoken = True
            await self._bus.subscribe(internal.subjects.start, internal.answers)
            await self._bus.publish(internal.subjects.greet, b"", reply=internal.answers)

    async def _register(self, announced: Sequence[Announced]) -> None:
        """Send in batches, each taken by the server before the next, until the connection is lost."""
        for start in range(0, len(announced), BATCH):
            for each in announced[start : start + BATCH]:
                # It may have been withdrawn while an earlier batch was on its way.
                if self._bus.up and each in self._schedule:
                    await self._bus.publish(each.register, each.payload)
            if not (self._bus.up and await self._bus.flush()):
                return

    async def _unregister(self, announced: Sequence[Announced]) -> None:
        self._debts.begin(announced)
        await self._send(announced)

    def _owe(self, announced: Sequence[Announced]) -> None:
        """Have routes unregistered as soon as it can be done."""
        self._debts.begin(announced)
        self._debts.owe(announced)
        self._wake.set()

    async def _pay(self) -> None:
        if self._bus.up:
            await self._send(self._debts.take_owed())

    async def _send(self, withdrawals: Sequence[Announced]) -> None:
        """Send withdrawals that were begun; those the server does not take are owed."""
        sent = 0
        try:
            while sent < len(withdrawals):
                batch = self._debts.still_due(withdrawals[sent : sent + BATCH])
                self._debts.send(batch, asyncio.get_running_loop().time())
                if not await self._publish([(each.unregister, each.payload) for each in batch]):
                    break
                sent += BATCH
        finally:
            if withdrawals[sent:]:
                self._debts.owe(withdrawals[sent:])
                self._wake.set()

    async def _publish(self, messages: Sequence[tuple[str, bytes]]) -> bool:
        """Send in batches, each taken by the server before the next. False if the connection was lost."""
        for start in range(0, len(messages), BATCH):
            if not self._bus.up:
                return False
            for subject, payload in messages[start : start + BATCH]:
                await self._bus.publish(subject, payload)
            if not await self._bus.flush():
                return False
        return True

    async def _announce_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            self._wake.clear()
            await self._pay()
            due = self._schedule.take_due(loop.time() + TICK_S, BATCH) if self._bus.up else []
            await self._register(due)
            if len(due) < BATCH and not self._closing:
                await self._sleep_until_due()

    async def _sleep_until_due(self) -> None:
        next_due = self._schedule.next_due() if self._bus.up else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(next_due):
                await self._wake.wait()

    async def _up(self, server: str) -> None:
        self._observer.connected(server)
        await self._pay()
        # Flushed though nothing may be owed: from here on no router's word is missed.
        await self._bus.flush()
        self._announce_everything(lambda announced: True)
        self._await_answer()
        for dialect in self._dialects():
            await self._bus.publish(dialect.subjects.greet, b"", reply=dialect.answers)

    def _dialects(self) -> list[Dialect]:
        return [dialect for dialect in (self._public, self._internal) if dialect.spoken]

    def _await_answer(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(GREET_PATIENCE_S, self._observer.no_router_answered)

    def _announce_everything(self, which: Callable[[Announced], bool]) -> None:
        self._schedule.bring_forward(asyncio.get_running_loop().time(), which)
        self._wake.set()

    def _message(self, subject: str, payload: bytes) -> None:
        dialect = next(each for each in self._dialects() if subject in (each.subjects.start, each.answers))
        try:
            router = dialect.subjects.decode_start(payload)
        except ValueError:
            # Anybody may publish anything there; what is not a router's word concerns nobody.
            return
        if self._patience is not None:
            self._patience.cancel()
        self._obey(dialect, router)
        if subject == dialect.subjects.start:
            self._debts.recall(dialect, asyncio.get_running_loop().time())
            self._announce_everything(lambda announced: announced.dialect is dialect)

    def _obey(self, dialect: Dialect, router: RouterStart) -> None:
        before_s = dialect.interval_s
        dialect.obey(router)
        if dialect.interval_s < before_s:
            self._schedule.intervals_shortened(asyncio.get_running_loop().time())
            self._wake.set()
        self._observer.router_heard(router, dialect.interval_s)


def _interval_of(announced: Announced) -> float:
    return announced.interval_s
