"""``router run``: from a configuration file to a running control process.

Owns what comes before there is an event loop; does not own the process itself (`process`).
"""

import asyncio
import resource
import traceback
from pathlib import Path
from typing import Any

import uvloop

from router.config.load import ConfigError, Loaded, load
from router.config.schema import Config
from router.control.process import ControlProcess
from router.log import LEVELS, Logger


def run(config_file: Path | None) -> int:
    """Run the router in the foreground until a signal ends it. Returns the exit status: 1 if it could not start.

    Without a file every default applies.
    """
    try:
        loaded = load(config_file) if config_file is not None else Loaded(config=Config())
    except ConfigError as error:
        Logger().error("Error loading config:", error=str(error))
        return 1
    logger = make_logger(loaded.config)
    raise_descriptor_limit(logger)
    return uvloop.run(_run(config_file, loaded, logger))


async def _run(config_file: Path | None, loaded: Loaded, logger: Logger) -> int:
    def unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        stack = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
        logger.error("control-internal-error", error=str(error or context.get("message")), stack=stack)

    asyncio.get_running_loop().set_exception_handler(unhandled)
    return await ControlProcess(config_file, loaded, logger).run()


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
