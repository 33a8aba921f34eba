"""What aiohttp's errors say, for a log: the cause in the system's words, without Python's objects among them.

Owns the wording; does not own which errors are survived.
"""

import os

import aiohttp


def describe(error: BaseException) -> str:
    """Return the cause of a request's failure in one line."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"{error.host}:{error.port}: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{error.host}:{error.port}: {_cause(error.os_error)}"
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return f"not a URL of HTTP: {error}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or repr(error)


def _cause(error: OSError) -> str:
    # asyncio has words of its own for failed connections; errors of name resolution have negative numbers.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)
