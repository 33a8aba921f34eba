"""The scenario with few policies, on the data plane that it measures."""

from pathlib import Path

import pytest

from loadtest import policy
from loadtest.errors import RequestError
from router.routing.access import InternalTable
from router.routing.internal_records import INTERNAL_CHANGES, PutPolicies

FEW = 3


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOURCES", "DESTINATIONS", "ROUNDS"):
        monkeypatch.setattr(policy, name, FEW)
    monkeypatch.setattr(policy, "REQUESTS", 20)


def test_every_caller_may_reach_every_name_by_a_policy_of_its_own() -> None:
    table = InternalTable()
    for change in policy.table_changes():
        if isinstance(change, INTERNAL_CHANGES):
            table.apply(change)
    assert sum(len(list(table.policies_of(source))) for source in table.sources()) == FEW * FEW
    caller = table.identities[policy.caller_ip(1)]
    assert len(table.reachable(policy.name_of(2), caller, policy.DIALLED_PORT)) == policy.INSTANCES


async def test_figures_have_the_limit_on_what_is_added(tmp_path: Path) -> None:
    told: list[str] = []
    figures = await policy.measure(tmp_path, told.append)
    assert [figure.limit for figure in figures] == [None, None, policy.LIMIT_US, None]
    assert all(figure.unit == "µs" for figure in figures)
    assert told[-1] == "round 3 of 3"


async def test_refused_request_ends_the_measurement() -> None:
    steps = policy.Steps()
    steps._apply(PutPolicies("source-0", []), PutPolicies("source-1", []), PutPolicies("source-2", []))
    with pytest.raises(RequestError, match="found no endpoints"):
        steps.inside_us()
