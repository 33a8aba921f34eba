"""Route policies: which callers of a domain with mutual TLS a route takes requests from (GOROUTER.md §9.5).

Owns the decision and the grammar of sources; does not own who the caller is (`proxy.mtls`). One law: whatever is
missing, unknown or malformed allows nobody.

A route that sets a scope enforces it. First the scope: ``any``, ``org`` or ``space`` says how far away the caller
may live, measured by the tags of the endpoint that was chosen. Then the sources, a comma-separated list of
``cf:any``, ``cf:app:GUID``, ``cf:space:GUID`` and ``cf:org:GUID``, of which one must be the caller's.
"""

from functools import lru_cache
from typing import NamedTuple

from router.routing.records import PoolOptions
from router.routing.sharing import Tags

ANY_SCOPE, ORG_SCOPE, SPACE_SCOPE = "any", "org", "space"

_ANYONE = "cf:any"
_PREFIXES = ("cf:app:", "cf:space:", "cf:org:")
_REMEMBERED = 4096
"""Lists of sources kept parsed; equal lists are one."""


class Caller(NamedTuple):
    """An app instance that proved who it is with its certificate; what the certificate does not name is empty."""

    app: str
    space: str = ""
    organization: str = ""


class Sources(NamedTuple):
    """A list of sources, taken apart."""

    allowed: frozenset[str]
    malformed: tuple[str, ...]
    """Entries that are no sources, in their order; they allow nobody."""


@lru_cache(maxsize=_REMEMBERED)
def parse_sources(text: str) -> Sources:
    """Take a comma-separated list apart; blanks around entries and empty entries do not count."""
    entries = [entry for part in text.split(",") if (entry := part.strip())]
    return Sources(
        frozenset(entry for entry in entries if _is_source(entry)),
        tuple(entry for entry in entries if not _is_source(entry)),
    )


def malformed_sources(options: PoolOptions) -> tuple[str, ...]:
    """Return the entries of a pool's sources that are skipped, to be warned of when the route is registered."""
    return parse_sources(options.route_policy_sources).malformed


def refusal(options: PoolOptions, caller: Caller | None, tags: Tags) -> str | None:
    """Decide whether a caller may have its request sent to an endpoint.

    Args:
        options: of the pool; a scope that is empty enforces nothing.
        caller: None if nobody has proved an identity.
        tags: of the endpoint, which say by ``organization_id`` and ``space_id`` where it lives.

    Returns: None if the request may go there, else the reason, for the log and not for the caller.
    """
    scope = options.route_policy_scope
    if not scope:
        return None
    if caller is None:
        return "no-caller-identity"
    outside = _outside_scope(scope, caller, tags)
    if outside is not None:
        return outside
    allowed = parse_sources(options.route_policy_sources).allowed
    if _ANYONE in allowed or _is_named(caller, allowed):
        return None
    return "not-among-sources"


def _outside_scope(scope: str, caller: Caller, tags: Tags) -> str | None:
    if scope == ANY_SCOPE:
        return None
    if scope == ORG_SCOPE:
        theirs, ours = caller.organization, tags.get("organization_id")
    elif scope == SPACE_SCOPE:
        theirs, ours = caller.space, tags.get("space_id")
    else:
        return "unknown-scope"
    # Two that both do not say where they live are not neighbours.
    return None if theirs and theirs == ours else f"outside-{scope}"


def _is_named(caller: Caller, allowed: frozenset[str]) -> bool:
    return (
        f"cf:app:{caller.app}" in allowed
        or f"cf:space:{caller.space}" in allowed
        or f"cf:org:{caller.organization}" in allowed
    )


def _is_source(entry: str) -> bool:
    if entry == _ANYONE:
        return True
    return any(entry.startswith(prefix) and _is_guid(entry[len(prefix) :]) for prefix in _PREFIXES)


def _is_guid(text: str) -> bool:
    # Tests and small platforms use plain words, so the shape of a UUID is not asked for.
    return bool(text) and ":" not in text and not any(character.isspace() for character in text)
