"""Requests that name the instance they want: X-CF-App-Instance and X-CF-Process-Instance (GOROUTER.md §4.3).

Pure: texts in, a part of a pool out. Such a part is balanced over like a whole pool, but failure marks are not
looked at in it: who asks for one instance, to see what ails it, is to reach that one or none.
"""

import re

from router.routing.pool import Pool

_GUID = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_APP_INSTANCE = re.compile(rb"(%b):([0-9]+)" % _GUID)
_PROCESS_INSTANCE = re.compile(rb"(%b)(?::([0-9]+))?" % _GUID)


def parse_app_instance(value: bytes) -> tuple[str, str] | None:
    """Return app and index of a field value ``GUID:INDEX``, or None if it is anything else."""
    match = _APP_INSTANCE.fullmatch(value)
    return (match[1].decode(), match[2].decode()) if match else None


def parse_process_instance(value: bytes) -> tuple[str, str] | None:
    """Return process and index of a field value ``GUID`` or ``GUID:INDEX``, the index empty if there is none;
    None if the value is anything else."""
    match = _PROCESS_INSTANCE.fullmatch(value)
    return (match[1].decode(), (match[2] or b"").decode()) if match else None


def app_instance_pool(pool: Pool, guid: str, index: str) -> Pool | None:
    """Return the part of a pool that is one instance of an app, or None if it has no such member.

    Of several, as while one replaces another, the one announced last.
    """
    for endpoint in reversed(pool.endpoints):
        record = endpoint.record
        if record.app == guid and record.instance_index == index:
            part = Pool(pool.key, pool.context_path, pool.options, pool)
            part.endpoints = [endpoint]
            return part
    return None


def process_instance_pool(pool: Pool, guid: str, index: str) -> Pool | None:
    """Return the part of a pool that are instances of a process, or None if it has no such members.

    Args:
        index: of the instance; empty for all of them.
    """
    members = [
        endpoint
        for endpoint in pool.endpoints
        if endpoint.tags.get("process_id") == guid and (not index or endpoint.record.instance_index == index)
    ]
    if not members:
        return None
    part = Pool(pool.key, pool.context_path, pool.options, pool)
    part.endpoints = members
    return part
