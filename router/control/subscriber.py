"""Hears announcements over NATS and lives through NATS going away.

Owns the subscription, the router's own announcements and reconnecting; does not own the table, which stays as it
is while nothing can be heard. One law: messages are taken one at a time in order, and a bad one harms nobody.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from uuid import uuid4

import nats.errors
from nats.aio.msg import Msg

from router.config.schema import Config
from router.control import active_apps
from router.control.address import source_address
from router.control.nats_link import (
    CLOSE_TIMEOUT_S,
    PENDING_MESSAGES,
    Link,
    LinkError,
    LinkOptions,
    LinkUser,
    client_tls,
    dial,
)
from router.control.nats_monitor import NatsMonitor
from router.log import Logger
from router.log_limit import LogLimit
from router.routing.registry import Registry
from router.wire.announcement import GREET, MAX_WEIGHT, REGISTER, START, UNREGISTER, RouterStart, encode_start
from router.wire.registration import Registration, RegistrationError, decode_registration

SUBJECTS = "router.*"

CONNECT_ATTEMPTS = 3
CONNECT_PAUSE_S = 0.1

RECONNECT_PAUSE_S = (0.25, 0.75)
"""Between rounds through all servers, at random so that many routers do not come back at one moment."""

LOGGED_CHARS = 512
"""How much of a bad payload or uri the log shows."""


class NatsUnavailable(Exception):
    """No NATS server could be reached at the start; the text says why, server by server."""


class Subscriber:
    """Keeps one registry up to date. Lives from `connect` to `close`, as long as control.

    Args:
        config: servers and credentials, intervals to announce.
        registry: told of every registration; nobody else may call it from another thread.
        logger: parent of this component's logger.
        on_changes: called after each message that changed the table.
        clock: monotonic seconds.
        router_ip: the address to announce; found out if empty.
        rng: for the order of servers and the pauses between attempts.
        pending_messages: how many messages may wait before the client drops some.
        users: others that subscribe on each new link, and are told of its loss.

    Attributes:
        id: what this router calls itself towards agents.
        monitor: tells of the connection, in lines and figures.
    """

    def __init__(
        self,
        config: Config,
        registry: Registry,
        logger: Logger,
        *,
        on_changes: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        router_ip: str = "",
        rng: random.Random | None = None,
        pending_messages: int = PENDING_MESSAGES,
        users: Sequence[LinkUser] = (),
    ) -> None:
        self.id = f"{config.index}-{uuid4()}"
        self.monitor = NatsMonitor(logger, lambda: self.buffered_messages, clock)
        self._registry = registry
        self._logger = logger.child("subscriber")
        self._on_changes = on_changes
        self._clock = clock
        self._rng = rng or random.Random()
        self._pending_messages = pending_messages
        self._users = tuple(users)
        self._config = config.nats
        self._ping_interval_s = config.nats_client_ping_interval
        self._hosts = list(config.nats.hosts)
        self._rng.shuffle(self._hosts)
        self._start_interval_s = config.start_response_delay_interval
        self._router_ip = router_ip or source_address()
        self._start = encode_start(_router_start(self.id, self._router_ip, config))
        self._options = LinkOptions()
        self._link: Link | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._bad_messages = LogLimit()
        self._must_ask_again = False
        self._asked_at = 0.0

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.is_up

    @property
    def dropped_messages(self) -> int:
        """Messages lost since the start because too many waited."""
        return self.monitor.dropped_messages

    @property
    def buffered_messages(self) -> int:
        """Messages that have arrived and were not handled yet."""
        return 0 if self._link is None else self._link.pending_messages

    def figures(self) -> Mapping[str, int]:
        """Return the gauges of the connection, by name."""
        return {**self.monitor.figures(), "nats_connected": int(self.connected)}

    def reload(self, config: Config) -> None:
        """Announce other intervals from now on."""
        self._start = encode_start(_router_start(self.id, self._router_ip, config))

    async def connect(self) -> None:
        """Connect to the first server that answers.

        Raises:
            NatsUnavailable: none did, in three rounds; or the client certificate cannot be used.
        """
        try:
            tls = client_tls(self._config)
        except LinkError as error:
            raise NatsUnavailable(f"cannot connect to NATS: {error}") from error
        self._options = LinkOptions(
            user=self._config.user,
            password=self._config.pass_,
            tls=tls,
            ping_interval_s=self._ping_interval_s,
        )
        failures: list[str] = []
        for attempt in range(CONNECT_ATTEMPTS):
            if attempt:
                await asyncio.sleep(CONNECT_PAUSE_S)
            failures += await self._dial_round()
            if self._link is not None:
                self.monitor.connected(self._link.address)
                return
        # Of all rounds: a server closes right behind its refusal, and a reset may overtake that in any of them.
        raise NatsUnavailable("cannot connect to NATS: " + "; ".join(dict.fromkeys(failures)))

    async def start(self) -> None:
        """Subscribe and ask all agents to announce, now and after every reconnect, until `close`."""
        if self._link is None:
            raise RuntimeError("connect() must come before start()")
        await self._begin(self._link)
        self._watcher = asyncio.get_running_loop().create_task(self._watch(), name="nats-watcher")

    async def publish(self, subject: str, payload: bytes) -> None:
        """Send a message of another part of control. Raises `LinkError` if there is no link."""
        if self._link is None:
            raise LinkError("not connected to NATS")
        await self._link.publish(subject, payload)

    async def close(self) -> None:
        """Stop hearing. Returns within two seconds, whatever NATS does; the table stays as it is."""
        if self._watcher is not None:
            await _end(self._watcher)
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _dial_round(self) -> list[str]:
        """Try each server once, the one last tried first going last; return why not, for each that failed."""
        failures = []
        for _ in range(len(self._hosts)):
            host = self._hosts[0]
            self._hosts = [*self._hosts[1:], host]
            try:
                self._link = await dial(host, self._options, self._note_error)
                break
            except LinkError as error:
                failures.append(str(error))
        return failures

    async def _begin(self, link: Link) -> bool:
        """Make a fresh link useful; False if it was lost meanwhile."""
        try:
            # Subscribed before agents are asked to announce: they answer at once.
            await link.subscribe(SUBJECTS, self._hear, self._pending_messages)
            for user in self._users:
                await user.begin(link)
            await self._ask(link)
        except LinkError:
            return False
        return True

    async def _ask(self, link: Link) -> None:
        """Ask all agents to announce everything they have."""
        self._asked_at = self._clock()
        await link.publish(START, self._start)

    async def _watch(self) -> None:
        while True:
            try:
                await self._watch_link()
            except Exception as error:
                self.monitor.crashed(error)
                await asyncio.sleep(RECONNECT_PAUSE_S[1])

    async def _watch_link(self) -> None:
        """Wait a moment, then see to what the link needs."""
        link = self._link
        # The time-out is there because a close that waits for a dead server holds back the word of its loss.
        if link is not None and link.is_up:
            await link.wait_lost(1.0)
        if link is None or not link.is_up:
            await self._reconnect()
        elif self._must_ask_again and self._clock() - self._asked_at >= self._start_interval_s:
            self._must_ask_again = False
            with contextlib.suppress(LinkError):
                await self._ask(link)

    async def _reconnect(self) -> None:
        if self._link is not None:
            lost, self._link = self._link, None
            for user in self._users:
                user.lost()
            self.monitor.disconnected(lost.address, lost.last_error)
            await lost.close()
        link = await self._redial()
        if await self._begin(link):
            self.monitor.reconnected(link.address)

    async def _redial(self) -> Link:
        """Try all servers again and again until one answers."""
        while True:
            failures = await self._dial_round()
            if self._link is not None:
                return self._link
            self.monitor.still_disconnected(failures)
            await asyncio.sleep(self._rng.uniform(*RECONNECT_PAUSE_S))

    async def _hear(self, message: Msg) -> None:
        subject = message.subject
        if subject == REGISTER:
            if not self._registry.heartbeat(message.data, self._clock()):
                self._apply(subject, message.data)
        elif subject == UNREGISTER:
            self._apply(subject, message.data)
        elif subject == GREET:
            if message.reply:
                await self._answer_greet(message.reply)
        elif subject != active_apps.SUBJECT:
            # A mistyped subject would otherwise go unnoticed (GOROUTER.md §3.1).
            self._decode(subject, message.data)

    def _decode(self, subject: str, payload: bytes) -> Registration | None:
        """Read a message, or say what is wrong with it."""
        try:
            return decode_registration(payload)
        except RegistrationError as error:
            self._report(subject, str(error), payload[: 4 * LOGGED_CHARS].decode("utf-8", "replace"))
            return None

    def _apply(self, subject: str, payload: bytes) -> None:
        """Give one message to the registry."""
        registration = self._decode(subject, payload)
        if registration is None:
            return
        if registration.malformed_uris:
            self._report(subject, "uris: control character or too long", registration.malformed_uris[0])
        if registration.malformed_weight:
            given = f"options.weight: {registration.malformed_weight}"
            text = f"{given} is not a whole number from 0 to {MAX_WEIGHT}"
            self._report(subject, text, payload[: 4 * LOGGED_CHARS].decode("utf-8", "replace"))
        now = self._clock()
        if subject == REGISTER:
            self._registry.register(registration, now, payload=payload)
        else:
            self._registry.unregister(registration, now)
        if self._registry.has_changes:
            self._on_changes()

    def _report(self, subject: str, error: str, payload: str) -> None:
        if self._bad_messages.admit(self._clock()):
            self._logger.error(
                "validation-error",
                error=error,
                payload=payload[:LOGGED_CHARS],
                subject=subject,
                suppressed=self._bad_messages.take_suppressed(),
            )

    async def _answer_greet(self, reply: str) -> None:
        link = self._link
        if link is None:
            return
        try:
            await link.publish(reply, self._start)
        except LinkError as error:
            self._note_error(error)

    def _note_error(self, error: Exception) -> None:
        """Something went wrong on a link that is up."""
        if isinstance(error, nats.errors.SlowConsumerError):
            # What was dropped is not lost for good: agents say everything again when asked.
            self._must_ask_again = True
        self.monitor.failed(error)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it ends. The pause leaves it the time to close the link it was about to make.

    Once may not be enough: nats-py and, before Python 3.12, `asyncio.wait_for` can swallow a cancellation.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CLOSE_TIMEOUT_S + 0.1)


def _router_start(router_id: str, router_ip: str, config: Config) -> RouterStart:
    return RouterStart(
        id=router_id,
        hosts=[router_ip],
        minimum_register_interval_s=int(config.start_response_delay_interval),
        prune_threshold_s=int(config.droplet_stale_threshold),
    )
