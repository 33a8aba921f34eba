"""Policies in a YAML file that is watched.

Owns reading it at the right moments; does not own its form (`policy_file`). One law: a file that cannot be used
counts as a source that is lost, since what it would say is not known.

Meant for one router: tags are given out here, and another router with the same file may give out others.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from router.config.internal import InternalPolicies
from router.config.problems import ConfigError
from router.control.internal.hub import InternalHub
from router.control.internal.policies import BookKeeper, Freshness
from router.control.internal.policy_file import read_policies
from router.control.internal.policy_store import PolicyStoreError
from router.control.internal.watched_file import WatchedFile
from router.control.nats_link import LinkUser
from router.log import Logger
from router.routing.internal_records import Policy
from router.routing.policy_book import TagsExhausted

LOOK_S = 0.5


class PolicyFile:
    """The store; lives as long as control. Read only.

    Args:
        config: ``file`` and ``keep`` are used.
        hub: gets the policies.
        logger: parent of this component's logger.
        epoch_ns: nanoseconds since the epoch.
    """

    def __init__(
        self,
        config: InternalPolicies,
        hub: InternalHub,
        logger: Logger,
        epoch_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.writable = False
        self.last_updated_ns = 0
        self._path = Path(config.file)
        self._file = WatchedFile(self._path)
        self._keeper = BookKeeper(hub)
        self._freshness = Freshness(f"file {config.file}", hub, config.keep, logger.child("policies"))
        self._epoch_ns = epoch_ns
        self._watching: asyncio.Task[None] | None = None

    @property
    def policies(self) -> list[Policy]:
        return self._keeper.policies

    @property
    def tags(self) -> Mapping[str, int]:
        return self._keeper.tags

    @property
    def link_users(self) -> Sequence[LinkUser]:
        return ()

    async def add(self, policies: list[Policy]) -> None:
        """Refuse."""
        raise PolicyStoreError(f"policies are kept in {self._path}, and changed there")

    async def remove(self, policies: list[Policy]) -> None:
        """Refuse."""
        await self.add(policies)

    def status(self) -> dict[str, Any]:
        book = self._keeper.book
        return {
            **self._freshness.status(),
            "last_updated_ns": self.last_updated_ns,
            "policies": book.size,
            "apps": len(book.tags),
        }

    async def start(self) -> None:
        """Read the file for the first time, then watch it."""
        await self._look()
        self._watching = asyncio.get_running_loop().create_task(self._watch(), name="policies")

    async def close(self) -> None:
        """Stop watching; the policies stay as they are."""
        self._freshness.close()
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except Exception as error:
                # The root of the task: a file must not go unwatched for ever.
                self._freshness.lost(f"internal error: {error!r}")

    async def _look(self) -> None:
        try:
            # Reading a large file takes a while, in which everything else goes on.
            policies = await asyncio.to_thread(self._read)
            if policies is not None:
                self._take(policies)
        except OSError as error:
            self._freshness.lost(f"{self._path}: {error.strerror or error}")
        except (ConfigError, TagsExhausted) as error:
            self._freshness.lost(str(error))

    def _read(self) -> list[Policy] | None:
        contents = self._file.look()
        return None if contents is None else read_policies(self._path, contents)

    def _take(self, policies: list[Policy]) -> None:
        now_ns = self._epoch_ns()
        self._keeper.replace(policies, now_ns)
        self.last_updated_ns = max(now_ns // 1000 * 1000, self.last_updated_ns + 1000)
        self._freshness.read()
