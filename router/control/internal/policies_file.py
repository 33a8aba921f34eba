"""Policies in a YAML file that is watched.

Owns reading it at the right moments; does not own its form (`policy_file`). One law: a file that cannot be used
counts as a source that is lost, since what it would say is not known.

Meant for one router: tags are given out here, and another router with the same file may give out others.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from router.config.internal import InternalPolicies
from router.config.problems import ConfigError
from router.control.internal.hub import InternalHub
from router.control.internal.policies_read_only import ReadOnlyPolicies
from router.control.internal.policy_file import read_policies
from router.control.internal.watched_file import WatchedFile
from router.log import Logger
from router.routing.internal_records import Policy
from router.routing.policy_book import TagsExhausted

LOOK_S = 0.5


class PolicyFile(ReadOnlyPolicies):
    """The store; lives as long as control.

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
        self._path = Path(config.file)
        super().__init__(f"file {config.file}", f"in {self._path}", hub, config.keep, logger)
        self._file = WatchedFile(self._path)
        self._epoch_ns = epoch_ns

    async def start(self) -> None:
        """Read the file for the first time, then watch it."""
        await self._look()
        await super().start()

    async def _read_for_ever(self) -> None:
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
