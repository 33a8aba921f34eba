"""Domains, views, and that forbidden names cost no other look-ups than unknown ones."""

from collections.abc import Iterator

import pytest

from router.config.internal import Internal, InternalDomain
from router.control.internal.dns_view import View, is_ready
from router.routing.access import TCP, InternalTable
from router.routing.internal_records import (
    DropName,
    Identity,
    NameEntry,
    Policy,
    PutIdentity,
    PutName,
    PutPolicies,
    SetInternalState,
)

SPLIT = InternalDomain(name="apps.internal")
OPEN = InternalDomain(name="open.internal", view="open")
WEB = Identity("10.0.0.1", "web")
API = Identity("10.0.0.2", "api")
SECRET = Identity("10.0.0.3", "secret")


class CountingTable(InternalTable):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def may_resolve(self, source: str, destination: str) -> bool:
        self.asked.append("may_resolve")
        return super().may_resolve(source, destination)

    def instances(self, name: str) -> Iterator[tuple[NameEntry, Identity]]:
        self.asked.append("instances")
        return super().instances(name)


@pytest.fixture
def table() -> CountingTable:
    table = CountingTable()
    for identity in (WEB, API, SECRET):
        table.apply(PutIdentity(identity))
    table.apply(PutName("api.apps.internal", [NameEntry(API.ip, "api")]))
    table.apply(PutName("secret.apps.internal", [NameEntry(SECRET.ip, "secret")]))
    table.apply(PutPolicies("web", [Policy("web", "api", TCP, 80, 80)]))
    table.apply(SetInternalState(True, True))
    return table


@pytest.fixture
def view() -> View:
    return View(Internal(domains=[SPLIT, OPEN, InternalDomain(name="Deep.Apps.Internal.")]))


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("apps.internal", "apps.internal"),
        ("x.apps.internal", "apps.internal"),
        ("0.x.apps.internal", "apps.internal"),
        ("x.deep.apps.internal", "Deep.Apps.Internal."),
        ("xapps.internal", None),
        ("internal", None),
        ("apps.internal.example.com", None),
        ("", None),
    ],
)
def test_name_belongs_to_the_most_specific_domain(view: View, name: str, domain: str | None) -> None:
    found = view.domain_of(name)
    assert (found and found.name) == domain


def test_only_a_domain_itself_is_an_apex(view: View) -> None:
    assert view.is_apex("apps.internal")
    assert view.is_apex("deep.apps.internal")
    assert not view.is_apex("x.apps.internal")


def test_split_view_shows_what_a_policy_allows(view: View, table: CountingTable) -> None:
    assert view.instances("api.apps.internal", SPLIT, WEB, table) == [API]
    assert view.instances("secret.apps.internal", SPLIT, WEB, table) is None
    assert view.instances("none.apps.internal", SPLIT, WEB, table) is None
    assert view.instances("api.apps.internal", SPLIT, SECRET, table) is None


def test_open_view_shows_everything_to_everybody(view: View, table: CountingTable) -> None:
    assert view.instances("secret.apps.internal", OPEN, WEB, table) == [SECRET]
    assert view.instances("none.apps.internal", OPEN, WEB, table) == []


def test_of_a_shared_name_only_the_permitted_apps_are_shown(view: View, table: CountingTable) -> None:
    table.apply(PutName("mix.apps.internal", [NameEntry(SECRET.ip, "secret"), NameEntry(API.ip, "api")]))
    assert view.instances("mix.apps.internal", SPLIT, WEB, table) == [API]


def test_instance_that_is_no_longer_the_announced_app_is_not_shown(view: View, table: CountingTable) -> None:
    table.apply(PutIdentity(Identity(API.ip, "other")))
    assert view.instances("api.apps.internal", SPLIT, WEB, table) == []


def test_entry_announced_without_an_app_is_judged_by_its_identity(view: View, table: CountingTable) -> None:
    table.apply(PutName("api.apps.internal", [NameEntry(API.ip, "")]))
    table.apply(PutName("secret.apps.internal", [NameEntry(SECRET.ip, "")]))
    assert view.instances("api.apps.internal", SPLIT, WEB, table) == [API]
    assert view.instances("secret.apps.internal", SPLIT, WEB, table) is None


def test_changes_of_a_name_are_seen_at_once(view: View, table: CountingTable) -> None:
    assert view.instances("api.apps.internal", SPLIT, WEB, table) == [API]
    table.apply(PutName("api.apps.internal", [NameEntry(SECRET.ip, "secret")]))
    assert view.instances("api.apps.internal", SPLIT, WEB, table) is None
    table.apply(DropName("api.apps.internal"))
    assert view.instances("api.apps.internal", SPLIT, WEB, table) is None
    table.apply(PutName("api.apps.internal", [NameEntry(API.ip, "api")]))
    assert view.instances("api.apps.internal", SPLIT, WEB, table) == [API]


def test_forbidden_name_is_looked_up_like_an_unknown_one_however_many_instances_it_has(
    view: View, table: CountingTable
) -> None:
    table.apply(PutName("big.apps.internal", [NameEntry(f"10.1.0.{n}", "secret") for n in range(200)]))
    asked = []
    for name in ("none.apps.internal", "secret.apps.internal", "big.apps.internal"):
        view.instances(name, SPLIT, WEB, table)
        table.asked.clear()
        view.instances(name, SPLIT, WEB, table)
        asked.append(list(table.asked))
    assert asked == [["may_resolve"]] * 3


def test_memory_of_names_does_not_outgrow_the_names(view: View, table: CountingTable) -> None:
    for number in range(5000):
        name = f"n{number}.apps.internal"
        table.apply(PutName(name, [NameEntry(API.ip, "api")]))
        assert view.instances(name, SPLIT, WEB, table) == [API]
        table.apply(DropName(name))
    assert len(view._apps) < 2000


@pytest.mark.parametrize(
    ("policies", "names", "split", "is_open"),
    [
        (True, True, True, True),
        (False, True, False, True),
        (True, False, False, False),
        (False, False, False, False),
    ],
)
def test_split_view_needs_policies_and_names_open_view_only_names(
    table: CountingTable, policies: bool, names: bool, split: bool, is_open: bool
) -> None:
    table.apply(SetInternalState(policies, names))
    assert (is_ready(SPLIT, table), is_ready(OPEN, table)) == (split, is_open)
