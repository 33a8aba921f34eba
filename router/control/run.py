"""``router run``: from a configuration file to a running control process.

Owns what comes before there is an event loop; does not own the process itself (`process`).
"""

import asyncio
import resource
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from router.config.load import ConfigError, Loaded, Rule, load
from router.config.schema import Config
from router.control.process import ControlProcess
from router.log import LEVELS, Logger


def run(config_file: Path | None, further: Sequence[Rule] = ()) -> int:
    """Run the router in the foreground until a signal ends it. Returns the exit status: 1 if it could not start.

    Args:
        config_file: without one, every default applies.
        further: rules for the configuration, at the start and at reloads, of parts that control does not know.
    """
    try:
        loaded = load(config_file, further=further)
    except ConfigError as error:
        Logger().error("Error loading config:", error=str(error))
        return 1
    logger = make_logger(loaded.config)
    raise_descriptor_limit(logger)
    return uvloop.run(_run(config_file, loaded, logger, further))


async def _run(config_file: Path | None, loaded: Loaded, logger: Logger, further: Sequence[Rule]) -> int:
    def unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        stack = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
        logger.error("control-internal-error", error=str(error or context.get("message")), stack=stack)

    asyncio.get_running_loop().set_exception_handler(unhandled)
    return await ControlProcess(config_file, loaded, logger, further).run()


def make_logger(config: Config) -> Logger:
    """Return the component log's root as the configuration wants it."""
    logging = config.logging
    return Logger(
        logging.syslog or "gorouter.stdout",
        LEVELS[logging.level.lower()],
        rfc3339=logging.format.timestamp == "rfc3339",
    )


def raise_descriptor_limit(logger: Logger) -> None:
    """Allow this process, and the workers after it, as many descriptors as the system lets it ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        logger.warn("descriptor-limit-unchanged", limit=soft, error=str(error))
