"""Requests for one instance of an app: ``X-CF-App-Instance`` and ``X-CF-Process-Instance`` (GOROUTER.md §4.3)."""

from router.proxy import reply
from router.routing.instances import (
    app_instance_pool,
    parse_app_instance,
    parse_process_instance,
    process_instance_pool,
)
from router.routing.pool import Pool
from router.wire.http1 import RequestHead


def instance_pool(pool: Pool | None, head: RequestHead) -> Pool | reply.Reply | None:
    """Return the part of a route's pool that the request asks for, or the answer to a request that gets none.

    An empty field asks for nothing: with two such the whole pool is returned.

    Args:
        pool: None if there is no such route: who asks for an instance of it is told that there is none.
    """
    wanted = head.special.get(b"x-cf-app-instance")
    if wanted:
        app = parse_app_instance(wanted)
        if app is None:
            return reply.malformed_app_instance()
        found = app_instance_pool(pool, *app) if pool is not None else None
        return found if found is not None else reply.unknown_app_instance(app[1], app[0], head.host)
    wanted = head.special.get(b"x-cf-process-instance")
    if not wanted:
        return pool
    process = parse_process_instance(wanted)
    if process is None:
        return reply.malformed_process_instance()
    found = process_instance_pool(pool, *process) if pool is not None else None
    return found if found is not None else reply.unknown_process_instance(process[1], process[0], head.host)
