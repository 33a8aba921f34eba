"""Scopes, spaces and the quota."""

from collections.abc import Collection

import pytest

from router.control.internal.hub import InternalHub
from router.control.internal.policy_auth import Caller
from router.control.internal.policy_checks import (
    ADMIN_SCOPES,
    WRITE_SCOPES,
    DirectoryError,
    Refusal,
    WorkloadSpaces,
    apps_of,
    check_quota,
    check_scopes,
    check_spaces,
    visible,
)
from router.routing.internal_records import DropIdentity, Identity, Policy, PutIdentity
from tests.support.policies import place

ONE = Policy("a", "b", "tcp", 80, 80)
TWO = Policy("a", "c", "tcp", 80, 80)
ADMIN = Caller("root", ("network.admin",))
ALICE = Caller("alice", ("network.write",), frozenset({"s1", "s2"}))


class BrokenDirectory:
    async def spaces(self, apps: Collection[str]) -> dict[str, str]:
        raise DirectoryError("cannot be asked")

    async def dead(self, apps: Collection[str]) -> frozenset[str]:
        raise DirectoryError("cannot be asked")


def workloads(**spaces: str) -> WorkloadSpaces:
    hub = InternalHub(lambda: None)
    place(hub, **spaces)
    return WorkloadSpaces(hub.table)


def test_one_of_the_scopes_is_enough() -> None:
    check_scopes(ADMIN, ADMIN_SCOPES)
    check_scopes(ADMIN, WRITE_SCOPES)
    check_scopes(ALICE, WRITE_SCOPES)


@pytest.mark.parametrize(
    ("scopes", "allowed", "text"),
    [
        ((), WRITE_SCOPES, "provided scopes [] do not include allowed scopes [network.admin network.write]"),
        (
            ("network.write", "x"),
            ADMIN_SCOPES,
            "provided scopes [network.write x] do not include allowed scopes [network.admin]",
        ),
        (("network",), ADMIN_SCOPES, "provided scopes [network] do not include allowed scopes [network.admin]"),
    ],
)
def test_missing_scope_is_refused(scopes: tuple[str, ...], allowed: tuple[str, ...], text: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_scopes(Caller("x", scopes), allowed)
    assert (caught.value.status, str(caught.value)) == (403, text)


async def test_apps_in_own_spaces_may_be_named() -> None:
    await check_spaces(ALICE, [ONE, TWO], workloads(a="s1", b="s2", c="s1"))


@pytest.mark.parametrize(
    "spaces", [{"a": "s1", "b": "s3"}, {"a": "s3", "b": "s1"}, {"a": "s1"}, {"a": "s1", "b": ""}, {}]
)
async def test_apps_of_others_and_unknown_apps_may_not_be_named(spaces: dict[str, str]) -> None:
    with pytest.raises(Refusal) as caught:
        await check_spaces(ALICE, [ONE], workloads(**spaces))
    text = "one or more applications cannot be found or accessed"
    assert (caught.value.status, str(caught.value)) == (403, text)


async def test_caller_without_spaces_may_name_no_app() -> None:
    with pytest.raises(Refusal):
        await check_spaces(Caller("bob", ("network.write",)), [ONE], workloads(a="", b=""))


async def test_administrator_may_name_any_app_even_while_the_directory_is_broken() -> None:
    await check_spaces(ADMIN, [ONE], BrokenDirectory())
    assert await visible(ADMIN, [ONE], BrokenDirectory()) == [ONE]


async def test_broken_directory_refuses_everybody_else() -> None:
    with pytest.raises(Refusal) as caught:
        await check_spaces(ALICE, [ONE], BrokenDirectory())
    assert (caught.value.status, str(caught.value)) == (500, "check access failed")
    with pytest.raises(Refusal) as caught:
        await visible(ALICE, [ONE], BrokenDirectory())
    assert (caught.value.status, str(caught.value)) == (500, "filter policies failed")


async def test_policies_are_visible_if_both_apps_are_in_own_spaces() -> None:
    directory = workloads(a="s1", b="s2", c="s3")
    back = Policy("c", "a", "tcp", 1, 1)
    assert await visible(ALICE, [ONE, TWO, back], directory) == [ONE]


async def test_app_whose_instances_are_said_to_be_in_two_spaces_is_in_none() -> None:
    hub = InternalHub(lambda: None)
    place(hub, a="s1")
    hub.put(PutIdentity(Identity("10.255.9.9", "a", "s2")))
    assert await WorkloadSpaces(hub.table).spaces(["a"]) == {}
    hub.put(DropIdentity("10.255.9.9"))
    assert await WorkloadSpaces(hub.table).spaces(["a"]) == {"a": "s1"}


async def test_app_without_instances_is_not_dead() -> None:
    assert await workloads(a="s1").dead(["a", "b"]) == frozenset()


def test_quota_may_be_used_up() -> None:
    check_quota([TWO], [ONE], 2)
    check_quota([TWO], [ONE, Policy("b", "c", "tcp", 1, 1), Policy("b", "c", "tcp", 2, 2)], 2)


@pytest.mark.parametrize(
    ("added", "present"), [([TWO], [ONE]), ([ONE], [ONE]), ([ONE, ONE], []), ([ONE, TWO], [])]
)
def test_quota_counts_repetitions(added: list[Policy], present: list[Policy]) -> None:
    with pytest.raises(Refusal) as caught:
        check_quota(added, present, 1)
    assert (caught.value.status, str(caught.value)) == (403, "policy quota exceeded")


def test_quota_is_one_of_sources_alone() -> None:
    check_quota([Policy("a", "x", "tcp", 1, 1), Policy("b", "x", "tcp", 1, 1)], [Policy("c", "x", "tcp", 1, 1)], 1)


def test_apps_are_those_of_both_sides() -> None:
    assert apps_of([ONE, TWO]) == {"a", "b", "c"}
