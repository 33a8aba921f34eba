"""What all HTTP servers of ours have in common beside the data plane: they do not tell what they are made of.

Status listeners and APIs may be reached by whoever looks for known faults of known versions; Gorouter's have no
``Server`` header. aiohttp puts its own and Python's version into every answer and offers no switch, and those to
what is no HTTP it makes without asking the application.
"""

import asyncio
from typing import Any

from aiohttp import hdrs, web

DEFAULT_BODY_BYTES = 64 * 1024


class _Request(web.Request):
    """A request whose answer carries no ``Server`` header, whoever makes it."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        # The last thing that is called before the head is written, in aiohttp's own error answers too.
        response.headers.popall(hdrs.SERVER, None)
        await super()._prepare_hook(response)


async def set_up(runner: web.BaseRunner, *, max_body_bytes: int = DEFAULT_BODY_BYTES) -> None:
    """Make a runner ready for its sites, instead of its own method of that kind.

    Args:
        max_body_bytes: of requests; above it, reading the body raises `web.HTTPRequestEntityTooLarge`. What the
            application of the runner says of it does not count.
    """
    await runner.setup()
    server, loop = runner.server, asyncio.get_running_loop()
    assert server is not None

    def request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.Request:
        return _Request(message, payload, protocol, writer, task, loop, client_max_size=max_body_bytes)

    server.request_factory = request
