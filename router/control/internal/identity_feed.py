"""Hears which workload each container address belongs to: from trusted agents over NATS, and from a file.

Owns subscribing, asking agents for what they have, the clock of ageing and the file's watch; does not own who is
believed (`routing.identities`). One law: a message or a file that cannot be read changes nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

from msgspec import Struct
from nats.aio.msg import Msg

from router.config.internal import Internal
from router.config.problems import ConfigError
from router.control.internal.identity_file import read_workloads
from router.control.internal.identity_log import IdentityLog
from router.control.internal.watched_file import WatchedFile
from router.control.nats_link import Link, LinkError
from router.log import Logger
from router.routing.container_addresses import ContainerAddresses
from router.routing.identities import Emit, IdentityRules, IdentityTable
from router.wire.identities import (
    DROP,
    GREET,
    PUT,
    SNAPSHOT,
    START,
    SUBJECTS,
    IdentitiesStart,
    IdentityError,
    decode_gone,
    decode_said,
    encode,
)

TICK_S = 0.5
"""How often the file is looked at and what has lapsed is dropped."""

ASK_AGAIN_S = 10.0
"""Agents are not asked more often than this for what was lost on its way."""

REPEATS_PER_TTL = 3
"""So that one lost message does not end an identity."""

FILE = "identities file"
"""What the file is called among the agents; none of them can be called that, since it has a space."""

LOGGED_CHARS = 512


class IdentityStatus(Struct, frozen=True):
    """For status and metrics."""

    identities: int
    agents: dict[str, int]
    """How many addresses each agent, or the file, claims."""
    conflicts: list[str]
    """Addresses that agents differ over."""
    messages: int
    """Taken since the start."""
    bad_messages: int
    """Refused as malformed, or passed over as late, since the start."""
    age_s: float | None
    """Seconds since the last message that was taken; None before the first."""
    file_error: str
    """Why the file is not in force as it is now; empty if it is, or there is none."""


class IdentityFeed:
    """Keeps identities up to date. Lives from `start` to `close`, as long as control; a `LinkUser` meanwhile.

    Args:
        config: the section ``internal``.
        put: takes each change, e.g. `InternalHub.put`.
        logger: parent of this component's logger.
        router_id: what this router calls itself towards agents.
        clock: monotonic seconds.

    Raises:
        ValueError: a network or address of the section is malformed.
    """

    def __init__(
        self,
        config: Internal,
        put: Emit,
        logger: Logger,
        *,
        router_id: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger.child("internal.identities")
        self._clock = clock
        self._log = IdentityLog(self._logger, clock)
        self._settings = config.identities
        self._router_id = router_id or str(uuid4())
        self._table = IdentityTable(_addresses(config), _rules(config), put, self._log)
        self._file = _watched(config)
        self._file_error = ""
        self._link: Link | None = None
        self._asked_at = 0.0
        self._messages = 0
        self._bad_messages = 0
        self._taken_at: float | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def status(self) -> IdentityStatus:
        table = self._table
        return IdentityStatus(
            identities=len(table.believed),
            agents=table.agents(),
            conflicts=sorted(table.conflicts),
            messages=self._messages,
            bad_messages=self._bad_messages,
            age_s=None if self._taken_at is None else self._clock() - self._taken_at,
            file_error=self._file_error,
        )

    async def start(self) -> None:
        """Read the file, if there is one, and begin to watch it and to count time."""
        await self._look_at_file()
        # Each on its own: a file system that hangs must not keep identities from lapsing.
        self._tasks = [
            asyncio.create_task(self._every_tick(step)) for step in (self._pass_time, self._look_at_file)
        ]

    async def close(self) -> None:
        """Stop watching; what is believed stays as it is."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def configure(self, config: Internal) -> None:
        """Go by another configuration from now on, also for what was said before.

        Raises:
            ValueError: as at the beginning; then nothing changes.
        """
        addresses = _addresses(config)
        now = self._clock()
        if config.identities.file != self._settings.file:
            self._file, self._file_error = _watched(config), ""
            if self._file is None:
                self._table.replace(FILE, [], now)
        self._settings = config.identities
        self._table.judge_again(addresses, _rules(config), now)

    async def begin(self, link: Link) -> None:
        """Hear agents over a fresh link, and ask them for what they have (`LinkUser`)."""
        if not self._settings.nats:
            return
        await link.subscribe(SUBJECTS, self._hear)
        self._link = link
        self._table.resume(self._clock())
        await self._ask(link)

    def lost(self) -> None:
        """Hold what there is, for the time configured (`LinkUser`)."""
        self._link = None
        self._table.suspend(self._clock())
        if self._settings.nats and self._table.believed:
            keep_s = self._settings.ttl + self._settings.keep
            self._logger.warn("identities-held", identities=len(self._table.believed), seconds_at_most=keep_s)

    async def _ask(self, link: Link) -> None:
        self._asked_at = self._clock()
        await link.publish(START, self._start())

    def _start(self) -> bytes:
        ttl_s = self._settings.ttl
        return encode(IdentitiesStart(router=self._router_id, interval=ttl_s / REPEATS_PER_TTL, ttl=ttl_s))

    async def _hear(self, message: Msg) -> None:
        subject, payload = message.subject, message.data
        try:
            if subject == GREET:
                await self._answer(message.reply)
            elif subject != START:
                self._take(subject, payload)
        except IdentityError as error:
            self._bad_messages += 1
            shown = payload[:LOGGED_CHARS].decode("utf-8", "replace")
            self._log.warn("identity-message-refused", subject=subject, error=str(error), payload=shown)

    def _take(self, subject: str, payload: bytes) -> None:
        now = self._clock()
        if subject == PUT:
            taken = self._table.put(decode_said(payload), now)
        elif subject == SNAPSHOT:
            taken = self._table.snapshot(decode_said(payload), now)
        elif subject == DROP:
            taken = self._table.drop(decode_gone(payload), now)
        else:
            raise IdentityError("there is no such subject")
        self._messages += taken
        self._bad_messages += not taken
        if taken:
            self._taken_at = now

    async def _answer(self, reply: str) -> None:
        if reply and self._link is not None:
            with contextlib.suppress(LinkError):
                await self._link.publish(reply, self._start())

    async def _every_tick(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await step()
            except Exception as error:
                self._logger.error("identities-tick-failed", error=repr(error))

    async def _pass_time(self) -> None:
        now = self._clock()
        self._table.expire(now)
        link = self._link
        if link is not None and self._table.incomplete and now - self._asked_at >= ASK_AGAIN_S:
            with contextlib.suppress(LinkError):
                await self._ask(link)

    async def _look_at_file(self) -> None:
        file = self._file
        if file is None:
            return
        try:
            contents = await asyncio.to_thread(file.look)
            if contents is None or file is not self._file:
                return
            workloads = await asyncio.to_thread(read_workloads, file.path, contents)
        except (OSError, ConfigError) as error:
            self._file_error = str(error)
            kept = self._table.agents().get(FILE, 0)
            self._logger.error("identities-file-not-read", error=str(error), file=str(file.path), kept=kept)
            return
        self._file_error = ""
        self._table.replace(FILE, workloads, self._clock())
        self._logger.info("identities-file-read", file=str(file.path), workloads=len(workloads))


def _addresses(config: Internal) -> ContainerAddresses:
    return ContainerAddresses(config.container_networks, config.identities.excluded, config.addresses)


def _rules(config: Internal) -> IdentityRules:
    settings = config.identities
    return IdentityRules(ttl_s=settings.ttl, quarantine_s=settings.quarantine, keep_s=settings.keep)


def _watched(config: Internal) -> WatchedFile | None:
    return WatchedFile(Path(config.identities.file)) if config.identities.file else None
