"""What the policy bucket holds: one root, and the parts it names, as JSON that people can read.

Owns the format, and what a change makes of it; does not own reading and writing (`policy_bucket`). One law: a part
that anybody may have read is never changed, a change makes new ones.
"""

from collections.abc import Callable, Sequence

import msgspec

from router.control.internal.policy_bucket import BucketError
from router.routing.policy_book import AppRecord, Changes, part_of

FORMAT = 1
PARTS = 64
"""A change rewrites two of them as a rule: with 50,000 policies, some 50 kB each."""

Records = dict[str, AppRecord]


class Root(msgspec.Struct, frozen=True):
    """Says which parts hold the policies at present."""

    format: int
    updated_ns: int
    """When policies were last changed, be it to the same; nanoseconds since the epoch, always growing."""
    parts: tuple[str, ...]
    """Names; empty for a part without records."""


EMPTY = Root(FORMAT, 0, ("",) * PARTS)

_decode_root = msgspec.json.Decoder(Root).decode
_decode_part = msgspec.json.Decoder(Records).decode
encode = msgspec.json.Encoder().encode


def changed(
    root: Root, parts: Sequence[Records], changes: Changes, now_ns: int, random_hex: Callable[[int], str]
) -> tuple[Root, list[Records]]:
    """Return root and parts as they are after these changes.

    Args:
        now_ns: nanoseconds since the epoch.
        random_hex: returns so many random octets as text, for names that nobody has used.
    """
    after, names = list(parts), list(root.parts)
    for app, record in changes.items():
        index = part_of(app, len(after))
        if after[index] is parts[index]:
            after[index] = dict(parts[index])
            names[index] = f"{now_ns // 1_000_000_000:x}-{random_hex(8)}"
        if record is None:
            after[index].pop(app, None)
        else:
            after[index][app] = record
    names = [name if records else "" for name, records in zip(names, after, strict=True)]
    # Microseconds, as the policy server has them.
    updated_ns = max(now_ns // 1000 * 1000, root.updated_ns + 1000)
    return Root(FORMAT, updated_ns, tuple(names)), after


def read_root(content: bytes) -> Root:
    """Return a root, an empty one for no content. Raises `BucketError`."""
    if not content:
        return EMPTY
    try:
        root = _decode_root(content)
    except ValueError as error:
        raise BucketError(f"the bucket's root is damaged: {error}") from error
    if root.format != FORMAT or not root.parts:
        raise BucketError(f"the bucket's root has format {root.format}, which a newer router may know")
    return root


def read_part(name: str, content: bytes) -> Records:
    try:
        return _decode_part(content)
    except ValueError as error:
        raise BucketError(f"the bucket's part {name} is damaged: {error}") from error


def differences(before: Sequence[Records], after: Sequence[Records]) -> Changes:
    """Return what makes the one set of records the other."""
    if len(before) == len(after):
        pairs = [(old, new) for old, new in zip(before, after, strict=True) if old is not new]
    else:
        pairs = [(_merged(before), _merged(after))]
    changes: dict[str, AppRecord | None] = {}
    for old, new in pairs:
        changes.update((app, record) for app, record in new.items() if old.get(app) != record)
        changes.update((app, None) for app in old if app not in new)
    return changes


def _merged(parts: Sequence[Records]) -> Records:
    return {app: record for part in parts for app, record in part.items()}


def written_at(name: str) -> int:
    """Return when a part was written, seconds since the epoch; for a name that is not ours, never."""
    try:
        return int(name.partition("-")[0], 16)
    except ValueError:
        return 2**63
