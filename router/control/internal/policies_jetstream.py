"""Policies in a NATS JetStream key-value bucket: shared by all routers, changed through any of them.

Owns what the bucket holds, following it and changing it; does not own its requests (`policy_bucket`). One law: a
set of policies is what one root names, so every change takes effect whole, at one moment, everywhere.

The bucket holds JSON that people can read: ``root``, a list of names, and ``parts.NAME``, each with the records of
those apps that hash to its place in the list (`policy_book`). A change writes new parts, then replaces the root; a
part is never changed. docs/adr/0007 has the reasons.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from router.config.internal import InternalPolicies
from router.control.internal.hub import InternalHub
from router.control.internal.policies import BookKeeper, Freshness
from router.control.internal.policy_bucket import Bucket, BucketError, Conflict, PartMissing, TooLarge
from router.control.internal.policy_parts import (
    EMPTY,
    Records,
    Root,
    changed,
    differences,
    encode,
    read_part,
    read_root,
    written_at,
)
from router.control.internal.policy_store import PolicyStoreError
from router.control.nats_link import Link, LinkError, LinkUser
from router.log import Logger
from router.routing.internal_records import Policy
from router.routing.policy_book import Changes, TagsExhausted

NOTICE = "router.policies"
"""Subject, followed by the bucket's name: a router has changed the policies."""

CHANGE_S = 5.0
"""For a change, a NATS server that is away for a moment included."""
POLL_S = 2.0
"""A change whose notice was not heard is seen after this time."""
RETRY_S = 0.5
GATHER_S = 0.01
"""What is noticed within this time is read at once."""
READ_ATTEMPTS = 10
GRACE_S = 10.0
"""For so long a replaced part stays, for those who are just reading."""
ORPHAN_S = 600
"""Parts of a writer that ended in mid-change are removed when they are so old."""
SWEEP_S = 3600.0


class PolicyBucket:
    """The store; lives as long as control. Also a `LinkUser`: it works while NATS is there.

    Args:
        config: ``bucket``, ``replicas`` and ``keep`` are used.
        hub: gets the policies.
        logger: parent of this component's logger.
        clock: monotonic, seconds.
        epoch_ns: nanoseconds since the epoch.
    """

    def __init__(
        self,
        config: InternalPolicies,
        hub: InternalHub,
        logger: Logger,
        clock: Callable[[], float] = time.monotonic,
        epoch_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.writable = True
        self._config = config
        self._logger = logger.child("policies")
        self._freshness = Freshness(f"jetstream bucket {config.bucket}", hub, config.keep, self._logger)
        self._keeper = BookKeeper(hub)
        self._clock = clock
        self._epoch_ns = epoch_ns
        self._lock = asyncio.Lock()
        """Held while the fields below are brought to another root."""
        self._seen: tuple[int, bytes] | None = None
        """Revision and content of the root that all is taken from."""
        self._root = EMPTY
        self._parts: list[Records] = [{} for _ in EMPTY.parts]
        self._link: Link | None = None
        self._bucket: Bucket | None = None
        self._following: asyncio.Task[None] | None = None
        self._noticed = asyncio.Event()
        self._replaced: list[tuple[float, str]] = []
        """Parts to be removed, and when."""
        self._sweep_at = 0.0

    # What the policy API reads.

    @property
    def policies(self) -> list[Policy]:
        return self._keeper.policies

    @property
    def last_updated_ns(self) -> int:
        return self._root.updated_ns

    @property
    def tags(self) -> Mapping[str, int]:
        return self._keeper.tags

    def status(self) -> dict[str, Any]:
        book = self._keeper.book
        return {
            **self._freshness.status(),
            "revision": 0 if self._seen is None else self._seen[0],
            "last_updated_ns": self.last_updated_ns,
            "policies": book.size,
            "apps": len(book.tags),
        }

    # Its life.

    @property
    def link_users(self) -> Sequence[LinkUser]:
        return (self,)

    async def start(self) -> None:
        """All begins with the first link."""

    async def close(self) -> None:
        """Stop following; a change under way comes to its end on its own."""
        self._freshness.close()
        await self._leave()

    async def begin(self, link: Link) -> None:
        """Follow the bucket over this link. Raises `LinkError`; whether there is JetStream makes no difference."""
        await self._leave()
        await link.subscribe(f"{NOTICE}.{self._config.bucket}", self._hear)
        self._link = link
        self._following = asyncio.get_running_loop().create_task(self._follow(link), name="policies")

    def lost(self) -> None:
        """Go on with what there is, for as long as that is allowed."""
        self._freshness.lost("the connection to NATS is lost")
        if self._following is not None:
            self._following.cancel()
        self._link = self._bucket = None

    async def _leave(self) -> None:
        following, self._following = self._following, None
        self._link = self._bucket = None
        # Once may not be enough: nats-py can swallow a cancellation.
        while following is not None and not following.done():
            following.cancel()
            await asyncio.wait([following], timeout=0.5)

    async def _hear(self, _: object) -> None:
        self._noticed.set()

    # Following.

    async def _follow(self, link: Link) -> None:
        """Read whatever is new, until the link is lost."""
        bucket = Bucket(link, self._config.bucket, self._config.replicas)
        is_open = False
        while True:
            self._noticed.clear()
            try:
                if not is_open:
                    await self._open(bucket)
                    is_open = True
                async with self._lock:
                    await self._refresh(bucket)
                self._bucket = bucket
            except BucketError as error:
                is_open = False
                self._freshness.lost(str(error))
            except Exception as error:
                # The root of the task: whatever it is, the policies must not stay as they are for ever unnoticed.
                self._freshness.lost(f"internal error: {error!r}")
            if is_open:
                await self._tidy(bucket)
            await self._wait(POLL_S if is_open else RETRY_S)

    async def _wait(self, most_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._noticed.wait()
        await asyncio.sleep(GATHER_S)

    async def _open(self, bucket: Bucket) -> None:
        replicas = await bucket.open()
        if replicas != self._config.replicas:
            self._logger.warn(
                "policies-bucket-replicas",
                bucket=self._config.bucket,
                replicas=replicas,
                configured=self._config.replicas,
            )

    async def _refresh(self, bucket: Bucket) -> None:
        """Bring everything to the root there is now. Only with the lock. Raises `BucketError`."""
        for _ in range(READ_ATTEMPTS):
            seen = await bucket.root()
            if seen == self._seen:
                break
            root = read_root(seen[1])
            try:
                parts = await self._read_parts(bucket, root)
            except PartMissing:
                # Replaced while it was read, or its copy on this server is a moment behind.
                await asyncio.sleep(GATHER_S)
                continue
            self._take(seen, root, parts)
            break
        else:
            raise BucketError("the bucket's root names parts that are not there")
        self._freshness.read()

    async def _read_parts(self, bucket: Bucket, root: Root) -> list[Records]:
        """Return the records of all parts; only those that are new are fetched."""
        known = dict(zip(self._root.parts, self._parts, strict=True))
        known[""] = {}
        names = [name for name in root.parts if name not in known]
        contents = await _all([bucket.part(name) for name in names])
        known.update(zip(names, map(read_part, names, contents), strict=True))
        return [known[name] for name in root.parts]

    def _take(self, seen: tuple[int, bytes], root: Root, parts: list[Records]) -> None:
        """Let everything be as this root says."""
        if not seen[1] and self._keeper.book.size:
            self._logger.error("policies-bucket-was-emptied", bucket=self._config.bucket, effect="all is denied")
        changes = differences(self._parts, parts)
        self._seen, self._root, self._parts = seen, root, parts
        differing = self._keeper.apply(changes)
        self._logger.debug("policies-changed", revision=seen[0], sources=differing)

    # Changing.

    async def add(self, policies: list[Policy]) -> None:
        """Add policies; those that are there already do no harm. Raises `PolicyStoreError`."""
        await self._change(lambda: self._keeper.book.change(add=policies, now_ns=self._epoch_ns()))

    async def remove(self, policies: list[Policy]) -> None:
        """Remove policies; those that are not there do no harm. Raises `PolicyStoreError`."""
        await self._change(lambda: self._keeper.book.change(remove=policies, now_ns=self._epoch_ns()))

    async def _change(self, changes: Callable[[], Changes]) -> None:
        """Try until it is done; what fails may be repeated, since it then makes no difference."""
        failure = "NATS is away"
        try:
            async with asyncio.timeout(CHANGE_S):
                while True:
                    try:
                        if self._bucket is not None and await self._try(self._bucket, changes):
                            return
                    except (TooLarge, TagsExhausted) as error:
                        raise PolicyStoreError(str(error)) from error
                    except BucketError as error:
                        failure = str(error)
                    await asyncio.sleep(GATHER_S)
        except TimeoutError:
            text = f"the change was not confirmed within {CHANGE_S:g} s, it may be repeated: {failure}"
            raise PolicyStoreError(text) from None

    async def _try(self, bucket: Bucket, changes: Callable[[], Changes]) -> bool:
        """Change the root that is known; False if it is not the last one any more."""
        async with self._lock:
            root, parts = changed(self._root, self._parts, changes(), self._epoch_ns(), secrets.token_hex)
            written = {
                name: records
                for name, before, records in zip(root.parts, self._root.parts, parts, strict=True)
                if name and name != before
            }
            content = encode(root)
            await _all([bucket.write_part(name, encode(records)) for name, records in written.items()])
            try:
                revision = await bucket.write_root(content, 0 if self._seen is None else self._seen[0])
            except Conflict:
                self._remove_later(written)
                await self._refresh(bucket)
                return False
            self._remove_later(set(self._root.parts) - {*root.parts, ""})
            self._take((revision, content), root, parts)
        await self._notify()
        return True

    async def _notify(self) -> None:
        """Tell the other routers; if that fails, they look by themselves soon."""
        link = self._link
        with contextlib.suppress(LinkError):
            if link is not None:
                await link.publish(f"{NOTICE}.{self._config.bucket}", b"")

    # Tidying up.

    def _remove_later(self, names: "Mapping[str, Records] | set[str]") -> None:
        self._replaced += [(self._clock() + GRACE_S, name) for name in names]

    async def _tidy(self, bucket: Bucket) -> None:
        """Remove parts that nobody needs any more; a failure costs some space until a later sweep."""
        now = self._clock()
        try:
            while self._replaced and self._replaced[0][0] <= now:
                await bucket.remove_part(self._replaced.pop(0)[1])
            if now >= self._sweep_at:
                self._sweep_at = now + SWEEP_S
                await self._sweep(bucket)
        except BucketError as error:
            self._logger.warn("policies-bucket-not-tidied", error=str(error))

    async def _sweep(self, bucket: Bucket) -> None:
        """Remove what writers have left behind that ended before they replaced the root."""
        oldest = self._epoch_ns() // 1_000_000_000 - ORPHAN_S
        orphans = [name for name in await bucket.parts() if written_at(name) < oldest]
        # Looked at only now: what was replaced while the names came is in nobody's way, what was written is young.
        orphans = [name for name in orphans if name not in self._root.parts]
        for name in orphans:
            await bucket.remove_part(name)
        if orphans:
            self._logger.info("policies-bucket-swept", removed=len(orphans))


async def _all(requests: Sequence[Awaitable[Any]]) -> list[Any]:
    """Make requests side by side; raise the first failure once all have ended."""
    answers = await asyncio.gather(*requests, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers
