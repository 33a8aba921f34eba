"""Notices clients that went away while nothing was being read from them.

The event loop looks only at sockets that it is to read from or to write to. A client whose upload waits, because
its endpoint takes nothing, is neither: its reset would be noticed when the endpoint goes on, or never. The kernel
tells of it whenever it is asked.

Owns the asking; does not own when it is done (`dataplane`) nor what follows. A client that closed with an orderly
end behind bytes that still wait cannot be known to have gone.
"""

import select
from collections.abc import Iterable

from router.frontend.connection import Served


def reset_clients(clients: Iterable[Served]) -> list[Served]:
    """Return the clients that nothing is read from and whose connection has broken: one system call."""
    unread = {}
    for client in clients:
        descriptor = client.unread_descriptor()
        if descriptor >= 0:
            unread[descriptor] = client
    if not unread:
        return []
    poll = select.poll()
    for descriptor in unread:
        # Errors are told of in any case. That both sides have ended is none: bytes may still be on their way.
        poll.register(descriptor, 0)
    return [unread[descriptor] for descriptor, events in poll.poll(0) if events & select.POLLERR]
