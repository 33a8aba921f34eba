"""The names and numbers of internal routing for metrics, from the services themselves, not started."""

import json
from pathlib import Path
from typing import Any

from router.config.internal import Internal, InternalDomain, InternalPolicies
from router.control.internal.figures import internal_counters, internal_gauges
from router.control.internal.services import InternalServices
from router.log import Logger
from router.routing.internal_records import Identity, PutIdentity


def services(tmp_path: Path) -> InternalServices:
    config = Internal(
        domains=[InternalDomain(name="apps.internal")],
        container_networks=["10.255.0.0/16"],
        addresses=["10.255.0.1"],
        policies=InternalPolicies(source="file", file=str(tmp_path / "policies.yml")),
    )
    return InternalServices(config, Logger(sink=lambda _: None), "router-0", lambda: None)


def test_counters_begin_at_zero_and_have_the_prefix(tmp_path: Path) -> None:
    counters = services(tmp_path).counters()
    assert set(counters.values()) == {0}
    assert all(name.startswith("internal_") for name in counters)
    assert {
        "internal_dns_answered",
        "internal_dns_forbidden",
        "internal_policy_api_denied",
        "internal_policy_internal_api_ok",
        "internal_discovery_api_controller",
        "internal_discovery_messages",
        "internal_identity_messages",
    } <= set(counters)


def test_gauges_say_that_nothing_is_known_and_have_no_ages(tmp_path: Path) -> None:
    gauges = services(tmp_path).gauges()
    assert set(gauges.values()) == {0.0}
    assert all(name.startswith("internal_") for name in gauges)
    assert not any("age" in name.split("_") for name in gauges)


def test_gauges_follow_the_table(tmp_path: Path) -> None:
    tested = services(tmp_path)
    tested.hub.put(PutIdentity(Identity("10.255.1.2", "app")))
    tested.hub.set_ready(policies=True)
    gauges = tested.gauges()
    assert (gauges["internal_policies_ready"], gauges["internal_names_warm"]) == (1.0, 0.0)


def test_status_is_fit_for_json_and_part_of_the_document(tmp_path: Path) -> None:
    tested = services(tmp_path)
    shown = json.loads(b"".join(tested.document()))["status"]
    assert shown == json.loads(json.dumps(tested.status()))
    assert shown["dns"]["answered"] == 0
    assert shown["discovery"]["heard"] is False


def test_what_has_an_age_tells_it_in_seconds() -> None:
    gauges = internal_gauges(status(policies={"policies": 3, "age_s": 4.0}))
    assert gauges["internal_policies_age_seconds"] == 4.0
    assert gauges["internal_discovery_age_seconds"] == 1.5
    assert "internal_identities_age_seconds" not in gauges
    assert (gauges["internal_policies"], gauges["internal_identity_conflicts"]) == (3.0, 1.0)


def test_refusals_are_summed_over_their_reasons() -> None:
    counters = internal_counters(status())
    assert counters["internal_discovery_refusals"] == 5
    assert counters["internal_dns_answered"] == 7


def status(**parts: Any) -> dict[str, Any]:
    return {
        "policies_ready": True,
        "names_warm": True,
        "names": 1,
        "policy_sources": 1,
        "identities": {
            "identities": 2,
            "agents": {"cell": 2},
            "conflicts": ["10.255.1.2"],
            "messages": 4,
            "bad_messages": 0,
            "age_s": None,
            "file_error": "",
        },
        "policies": {"policies": 0, "age_s": None},
        "discovery": {
            "names": 1,
            "instances": 1,
            "warm": True,
            "heard": True,
            "messages": 9,
            "bad_messages": 1,
            "refusals": {"one": 2, "other": 3},
            "stale": 0,
            "age_s": 1.5,
        },
        "dns": {"answered": 7},
        "policy_api": {"ok": 1},
        "policy_internal_api": {"ok": 1},
        "discovery_api": {"controller": 1},
        **parts,
    }
