import pytest

from router.routing.records import PoolOptions
from router.routing.route_policy import Caller, malformed_sources, parse_sources, refusal
from router.routing.sharing import NO_TAGS, Tags

CALLER = Caller("app-1", "space-1", "org-1")
AT_HOME = Tags(("organization_id", "space_id"), ("org-1", "space-1"))
NEXT_DOOR = Tags(("organization_id", "space_id"), ("org-1", "space-2"))
ABROAD = Tags(("organization_id", "space_id"), ("org-2", "space-3"))


def options(scope: str, sources: str) -> PoolOptions:
    return PoolOptions(route_policy_scope=scope, route_policy_sources=sources)


@pytest.mark.parametrize("caller", [None, CALLER])
def test_route_without_scope_takes_everybody(caller: Caller | None) -> None:
    assert refusal(options("", ""), caller, NO_TAGS) is None
    assert refusal(options("", "cf:app:other"), caller, NO_TAGS) is None


def test_caller_without_identity_is_refused_even_if_anybody_may_call() -> None:
    assert refusal(options("any", "cf:any"), None, AT_HOME) == "no-caller-identity"


@pytest.mark.parametrize(
    ("scope", "tags", "reason"),
    [
        ("any", AT_HOME, None),
        ("any", ABROAD, None),
        ("any", NO_TAGS, None),
        ("org", AT_HOME, None),
        ("org", NEXT_DOOR, None),
        ("org", ABROAD, "outside-org"),
        ("org", NO_TAGS, "outside-org"),
        ("space", AT_HOME, None),
        ("space", NEXT_DOOR, "outside-space"),
        ("space", ABROAD, "outside-space"),
        ("space", NO_TAGS, "outside-space"),
        ("galaxy", AT_HOME, "unknown-scope"),
        ("ORG", AT_HOME, "unknown-scope"),
    ],
)
def test_scope_compares_caller_and_endpoint(scope: str, tags: Tags, reason: str | None) -> None:
    assert refusal(options(scope, "cf:any"), CALLER, tags) == reason


@pytest.mark.parametrize("scope", ["org", "space"])
def test_two_that_do_not_say_where_they_live_are_not_neighbours(scope: str) -> None:
    empty = Tags(("organization_id", "space_id"), ("", ""))
    for tags in (NO_TAGS, empty):
        assert refusal(options(scope, "cf:any"), Caller("app-1"), tags) == f"outside-{scope}"


@pytest.mark.parametrize(
    ("sources", "allowed"),
    [
        ("cf:any", True),
        ("cf:app:app-1", True),
        ("cf:space:space-1", True),
        ("cf:org:org-1", True),
        ("cf:app:app-2, cf:org:org-1", True),
        (" cf:app:app-1 ,", True),
        ("cf:app:app-2,cf:space:space-2,cf:org:org-2", False),
        ("cf:space:app-1", False),
        ("cf:app:APP-1", False),
        ("cf:app:app-1x", False),
        ("", False),
        (",", False),
        ("any", False),
        ("CF:ANY", False),
        ("cf:app:*", False),
    ],
)
def test_one_source_must_be_the_callers(sources: str, allowed: bool) -> None:
    expected = None if allowed else "not-among-sources"
    assert refusal(options("any", sources), CALLER, AT_HOME) == expected


def test_scope_comes_before_sources() -> None:
    assert refusal(options("space", "cf:app:app-1"), CALLER, ABROAD) == "outside-space"


@pytest.mark.parametrize("source", ["cf:space:", "cf:org:"])
def test_source_without_guid_does_not_match_a_caller_without_one(source: str) -> None:
    assert refusal(options("any", source), Caller("app-1"), AT_HOME) == "not-among-sources"


@pytest.mark.parametrize(
    "source", ["cf:app:", "cf:app", "cf:any:", "cf:user:x", "app:x", "cf:app:a b", "cf:app:a:b", "x"]
)
def test_malformed_source_is_reported_and_the_others_count(source: str) -> None:
    route = options("any", f"{source},cf:app:app-1")

    assert malformed_sources(route) == (source,)
    assert refusal(route, CALLER, AT_HOME) is None
    assert refusal(route, Caller("x"), AT_HOME) == "not-among-sources"


def test_equal_lists_are_parsed_once() -> None:
    assert parse_sources("cf:app:a,cf:app:b") is parse_sources("cf:app:a," + "cf:app:b")
