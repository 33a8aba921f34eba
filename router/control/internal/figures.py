"""Internal routing in figures: its status as flat names and numbers, for metrics.

Owns the names; does not own what is counted, nor how it is published. One law: a name once published keeps its
meaning.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Status = Mapping[str, Any]
"""As `InternalServices.status` returns it."""

GROUPS = ("dns", "policy_api", "policy_internal_api", "discovery_api")
"""Parts of the status that hold counters and nothing else."""


def internal_counters(status: Status) -> dict[str, int]:
    """Return what only grows: ``internal_dns_answered``, ``internal_policy_api_denied`` and so on."""
    counts = {f"internal_{group}_{name}": count for group in GROUPS for name, count in status[group].items()}
    discovery, identities = status["discovery"], status["identities"]
    counts["internal_discovery_messages"] = discovery["messages"]
    counts["internal_discovery_bad_messages"] = discovery["bad_messages"]
    counts["internal_discovery_refusals"] = sum(discovery["refusals"].values())
    counts["internal_discovery_stale"] = discovery["stale"]
    counts["internal_identity_messages"] = identities["messages"]
    counts["internal_identity_bad_messages"] = identities["bad_messages"]
    return counts


def internal_gauges(status: Status) -> dict[str, float]:
    """Return how things are at present; flags as 0 and 1, ages in seconds and only where there is one."""
    discovery, identities = status["discovery"], status["identities"]
    gauges = {
        "policies_ready": status["policies_ready"],
        "names_warm": status["names_warm"],
        "names_heard": discovery["heard"],
        "names": status["names"],
        "name_instances": discovery["instances"],
        "identities": identities["identities"],
        "identity_agents": len(identities["agents"]),
        "identity_conflicts": len(identities["conflicts"]),
        "identity_file_failed": bool(identities["file_error"]),
        "policies": status["policies"]["policies"],
        "policy_sources": status["policy_sources"],
    }
    return {f"internal_{name}": float(value) for name, value in gauges.items()} | dict(_ages(status))


def _ages(status: Status) -> Iterator[tuple[str, float]]:
    for name in ("policies", "identities", "discovery"):
        age_s = status[name]["age_s"]
        if age_s is not None:
            yield f"internal_{name}_age_seconds", age_s
