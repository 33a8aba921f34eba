"""`router.active_apps`: which apps had requests, for those who put idle apps to sleep (GOROUTER.md §3.1).

Owns collecting and the payload; does not own seeing requests nor NATS. One law: an app that was active is told of
in the next message that gets out, be it late.
"""

import asyncio
import itertools
import zlib
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from router.control.nats_link import LinkError

SUBJECT = "router.active_apps"

APPS_PER_MESSAGE = 10_000
"""A GUID compresses to some 20 bytes, and a NATS server takes no more than 1 MiB by default."""

_encode = msgspec.json.Encoder().encode


class ActiveApps:
    """Collects apps and publishes them every interval. Lives from `start` to `close`.

    Args:
        interval_s: between messages.
        publish: sends a payload on a subject; may raise `LinkError`.
    """

    def __init__(self, interval_s: float, publish: Callable[[str, bytes], Awaitable[None]]) -> None:
        self._interval_s = interval_s
        self._publish = publish
        self._apps: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, apps: Iterable[str]) -> None:
        """Note that these apps had requests; an empty name is none."""
        self._apps.update(apps)
        self._apps.discard("")

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="active-apps")

    async def close(self) -> None:
        """Publish no more; again is harmless."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def flush(self) -> None:
        """Publish what was active since the last time, even if that is nothing; what does not get out is kept."""
        apps, self._apps = self._apps, set()
        for message in _batches(sorted(apps)):
            try:
                await self._publish(SUBJECT, zlib.compress(_encode(message)))
            except LinkError:
                # The loss of the connection is in the log already.
                self._apps.update(message)
            await asyncio.sleep(0)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.flush()


def _batches(apps: list[str]) -> Iterable[list[str]]:
    """Split the apps over messages; no apps are a message too."""
    return itertools.chain(
        [apps[:APPS_PER_MESSAGE]],
        (apps[start : start + APPS_PER_MESSAGE] for start in range(APPS_PER_MESSAGE, len(apps), APPS_PER_MESSAGE)),
    )
