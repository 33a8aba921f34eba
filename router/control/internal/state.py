"""What internal routing decides by, as JSON: for `router policy nft` and for people who want to know why.

Owns the document's form; does not own who may read it. One law: it is as things are at one moment, however long it
takes to send.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from msgspec.structs import asdict

from router.config.internal import Internal
from router.control.internal.hub import InternalHub

CHUNK = 500
"""Entries that are encoded at a time."""

State = dict[str, Any]
"""Values are plain, except for lists of structs."""


def internal_state(config: Internal, hub: InternalHub, status: Mapping[str, Any]) -> State:
    """Return everything there is at present.

    Args:
        config: says where containers are, and routers.
        status: of the parts, as JSON values.
    """
    table = hub.table
    return {
        "status": dict(status),
        "policies_ready": table.policies_ready,
        "names_warm": table.names_warm,
        "container_networks": list(config.container_networks),
        "addresses": list(config.addresses),
        "identities": list(table.identities.values()),
        "policies": [policy for source in table.sources() for policy in table.policies_of(source)],
        "names": dict(table.names),
    }


def state_document(state: State) -> Iterator[bytes]:
    """Yield the JSON text in pieces, each made as it is asked for, so that a large one stalls nobody."""
    head = {name: state[name] for name in state if name not in ("identities", "policies", "names")}
    yield msgspec.json.encode(head)[:-1]
    for name in ("identities", "policies"):
        yield from _list(name, state[name])
    yield b',"names":{'
    names = iter(state["names"].items())
    separator = b""
    while chunk := dict(islice(names, CHUNK)):
        plain = {name: [asdict(entry) for entry in entries] for name, entries in chunk.items()}
        yield separator + msgspec.json.encode(plain)[1:-1]
        separator = b","
    yield b"}}\n"


def _list(name: str, entries: Sequence[msgspec.Struct]) -> Iterator[bytes]:
    yield b',"' + name.encode() + b'":['
    for start in range(0, len(entries), CHUNK):
        # Their own encoding is for the stream to the workers: arrays, whose members nobody can tell apart.
        text = msgspec.json.encode([asdict(entry) for entry in entries[start : start + CHUNK]])[1:-1]
        yield text if start == 0 else b"," + text
    yield b"]"
