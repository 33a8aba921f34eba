"""Tells when a process has no file descriptor left.

The event loop then accepts and closes each new connection, which spares the processor but is seen by nobody but
the clients: there is no error that anything could log. So it is asked for, by wanting a descriptor.

Owns the asking and what is logged.
"""

import errno
import os
import resource
from collections.abc import Callable

from router.log import Logger

CALM_LOOKS = 10
"""A lack is over when it was not met so often in a row: at its edge it comes and goes with each connection."""


class DescriptorWatch:
    """Looks once a second; lives as long as its process.

    Args:
        is_exhausted: whether there is none left now.
    """

    def __init__(self, is_exhausted: Callable[[], bool]) -> None:
        self._is_exhausted = is_exhausted
        self._looks_left = 0

    def look(self, logger: Logger, connections: dict[str, int]) -> None:
        """Log the beginning and the end of a lack.

        Args:
            connections: who may have them, for the log.
        """
        if self._is_exhausted():
            if not self._looks_left:
                limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
                logger.error("descriptors-exhausted", limit=limit, **connections)
            self._looks_left = CALM_LOOKS
        elif self._looks_left:
            self._looks_left -= 1
            if not self._looks_left:
                logger.info("descriptors-available", **connections)


def is_exhausted() -> bool:
    """Return whether this process, or the whole system, cannot have another descriptor."""
    try:
        os.close(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False
