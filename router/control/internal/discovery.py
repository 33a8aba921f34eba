"""Hears over NATS which instances stand behind which internal names.

Owns subscribing, asking for announcements, the answer to greetings and the clock of warming and pruning; does not
own what is believed (`routing.names`). One law: messages are taken one at a time in order, and a bad one harms
nobody.

To those who announce, this is Cloud Foundry's service-discovery-controller.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

from msgspec import Struct
from nats.aio.msg import Msg

from router.config.internal import Internal
from router.control.address import source_address
from router.control.internal.discovery_log import NameLog
from router.control.internal.hub import InternalHub
from router.control.nats_link import Link, LinkError
from router.control.pruner import Pruner
from router.log import Logger
from router.routing.container_addresses import ContainerAddresses
from router.routing.names import NameRules, NameTable, normal_name
from router.wire.discovery import (
    GREET,
    REGISTER,
    START,
    SUBJECTS,
    UNREGISTER,
    DiscoveryError,
    DiscoveryStart,
    decode_register,
    decode_unregister,
    encode_start,
)

LOGGED_CHARS = 512
"""How much of a bad payload the log shows."""


class DiscoveryStatus(Struct, frozen=True):
    """For status and metrics."""

    names: int
    instances: int
    """Each counted with every name it stands behind."""
    warm: bool
    heard: bool
    """Announcements can be heard at present; while they cannot, nothing is forgotten."""
    messages: int
    """Registrations and unregistrations since the start, good and bad."""
    bad_messages: int
    """Of these, refused as malformed."""
    refusals: dict[str, int]
    """Names and addresses that were not taken, by reason, since the start."""
    stale: int
    """Instances forgotten because nothing was heard of them, since the start."""
    age_s: float | None
    """Seconds since the last registration or unregistration that could be read; None before the first."""


class Discovery:
    """Keeps internal names up to date. Lives from `start` to `close`, as long as control; a `LinkUser` meanwhile.

    Args:
        config: the section ``internal``.
        hub: gets each change, and is told once names are warm.
        logger: parent of this component's logger.
        router_id: what this router calls itself towards those who announce.
        router_ip: the address it names, and never takes for a container's; found out if empty.
        clock: monotonic seconds.

    Raises:
        ValueError: a network or address of the section is malformed.
    """

    def __init__(
        self,
        config: Internal,
        hub: InternalHub,
        logger: Logger,
        *,
        router_id: str = "",
        router_ip: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        router_ip = router_ip or source_address()
        self._hub = hub
        self._logger = logger.child("internal.names")
        self._clock = clock
        self._log = NameLog(self._logger, clock)
        own = [*config.addresses, router_ip]
        addresses = ContainerAddresses(config.container_networks, config.identities.excluded, own)
        self._table = NameTable(addresses, _rules(config), hub.put, self._log)
        self._start = encode_start(_start(config, router_id or str(uuid4()), router_ip))
        self._has_networks = bool(config.container_networks)
        self._pruner = Pruner(self._prune, lambda: None, config.discovery.pruning_interval)
        self._pruning: asyncio.Task[None] | None = None
        self._warming: asyncio.TimerHandle | None = None
        self._link: Link | None = None
        self._messages = 0
        self._bad_messages = 0
        self._heard_at: float | None = None

    @property
    def status(self) -> DiscoveryStatus:
        return DiscoveryStatus(
            names=self._table.names,
            instances=self._table.instances,
            warm=self._hub.table.names_warm,
            heard=self._link is not None,
            messages=self._messages,
            bad_messages=self._bad_messages,
            refusals=dict(self._log.refusals),
            stale=self._log.stale,
            age_s=None if self._heard_at is None else self._clock() - self._heard_at,
        )

    async def start(self) -> None:
        """Begin to prune."""
        if not self._has_networks:
            self._logger.error("internal-names-all-refused", reason="internal.container_networks is empty")
        self._pruning = asyncio.get_running_loop().create_task(self._prune_for_ever(), name="internal-names")

    async def close(self) -> None:
        """Stop pruning and warming; names stay as they are."""
        self._stop_warming()
        task, self._pruning = self._pruning, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # The connection to NATS.

    async def begin(self, link: Link) -> None:
        """Hear announcements over a fresh link, and ask for all of them (`LinkUser`)."""
        # One subscription, since order holds only within one. What the server gets over this link it does in turn,
        # so the subscription is in force before anyone is asked.
        await link.subscribe(SUBJECTS, self._hear)
        self._link = link
        self._table.resume(self._clock())
        self._warm_in_time()
        await link.publish(START, self._start)

    def lost(self) -> None:
        """Hold what there is, however long it takes (`LinkUser`)."""
        if self._link is None:
            return
        self._link = None
        self._table.suspend(self._clock())
        self._stop_warming()
        self._logger.warn("internal-names-held", names=self._table.names, warm=self._hub.table.names_warm)

    async def _hear(self, message: Msg) -> None:
        subject = message.subject
        if subject in (REGISTER, UNREGISTER):
            self._take(subject, message.data)
        elif subject == GREET and message.reply:
            await self._answer(message.reply)

    def _take(self, subject: str, payload: bytes) -> None:
        """Give one message to the table, or say what is wrong with it."""
        self._messages += 1
        now = self._clock()
        try:
            if subject == REGISTER:
                self._table.register(decode_register(payload), now)
            else:
                self._table.unregister(decode_unregister(payload), now)
            self._heard_at = now
        except DiscoveryError as error:
            self._bad_messages += 1
            shown = payload[: 4 * LOGGED_CHARS].decode("utf-8", "replace")[:LOGGED_CHARS]
            self._log.warn("internal-name-message-malformed", subject=subject, error=str(error), payload=shown)

    async def _answer(self, reply: str) -> None:
        """Answer a greeting, warm or not: route-emitter gives up and exits if nobody does."""
        if self._link is not None:
            with contextlib.suppress(LinkError):
                await self._link.publish(reply, self._start)

    # Time.

    def _warm_in_time(self) -> None:
        left_s = self._table.cold_s(self._clock())
        if left_s is not None and not self._hub.table.names_warm:
            self._stop_warming()
            self._warming = asyncio.get_running_loop().call_later(left_s, self._warm)

    def _stop_warming(self) -> None:
        if self._warming is not None:
            self._warming.cancel()

    def _warm(self) -> None:
        self._hub.set_ready(names=True)
        self._logger.info("internal-names-warm", names=self._table.names)

    async def _prune_for_ever(self) -> None:
        while True:
            try:
                await self._pruner.run()
            except Exception as error:
                self._logger.error("internal-names-prune-failed", error=repr(error))

    def _prune(self) -> Iterator[None]:
        return self._table.prune_in_steps(self._clock())


def _rules(config: Internal) -> NameRules:
    settings = config.discovery
    return NameRules(
        domains=frozenset(normal_name(domain.name) for domain in config.domains),
        staleness_s=settings.staleness_threshold,
        resume_delay_s=settings.resume_pruning_delay,
        warm_s=settings.warm_duration,
    )


def _start(config: Internal, router_id: str, router_ip: str) -> DiscoveryStart:
    settings = config.discovery
    return DiscoveryStart(
        id=router_id,
        host=router_ip,
        minimum_register_interval_s=max(1, math.floor(settings.register_interval)),
        prune_threshold_s=math.ceil(settings.staleness_threshold),
    )
