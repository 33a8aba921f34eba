import pytest

from router.routing.records import PoolOptions
from router.routing.registrations import ModificationTag, RegistryRules, is_older, merged_options


@pytest.mark.parametrize(
    ("mode", "segment", "served"),
    [
        ("all", "", True),
        ("all", "other", True),
        ("segments", "mine", True),
        ("segments", "other", False),
        ("segments", "", False),
        ("shared-and-segments", "mine", True),
        ("shared-and-segments", "other", False),
        ("shared-and-segments", "", True),
    ],
)
def test_sharding_mode_decides_which_segments_are_served(mode: str, segment: str, served: bool) -> None:
    rules = RegistryRules(sharding_mode=mode, isolation_segments=frozenset(["mine"]))

    assert rules.serves(segment) is served


@pytest.mark.parametrize(("announced_s", "taken_s"), [(0, 120.0), (30, 30.0), (120, 120.0), (500, 120.0)])
def test_time_to_live_is_capped(announced_s: int, taken_s: float) -> None:
    assert RegistryRules(stale_threshold_s=120.0).ttl_s(announced_s) == taken_s


@pytest.mark.parametrize(
    ("response_503", "timeout_s", "kept"),
    [(False, 0.0, False), (False, 9.0, False), (True, 0.0, False), (True, 9.0, True)],
)
def test_empty_pools_are_kept_only_with_both_settings(response_503: bool, timeout_s: float, kept: bool) -> None:
    assert RegistryRules(empty_pool_503=response_503, empty_pool_timeout_s=timeout_s).keeps_empty_pools is kept


@pytest.mark.parametrize(
    ("old", "new", "may_replace", "may_remove"),
    [
        (("", 0), ("", 0), True, True),
        (("", 7), ("g", 0), True, True),
        (("g", 7), ("h", 0), True, True),
        (("g", 7), ("", 0), True, True),
        (("g", 7), ("g", 8), True, True),
        (("g", 7), ("g", 7), False, True),
        (("g", 7), ("g", 6), False, False),
    ],
)
def test_modification_tags_order_announcements(
    old: tuple[str, int], new: tuple[str, int], may_replace: bool, may_remove: bool
) -> None:
    assert ModificationTag(*new).may_replace(ModificationTag(*old)) is may_replace
    assert ModificationTag(*new).may_remove(ModificationTag(*old)) is may_remove


@pytest.mark.parametrize(
    ("new", "known", "older"), [(1, 2, True), (2, 2, False), (3, 2, False), (0, 2, False), (1, 0, False)]
)
def test_time_of_change_orders_only_if_both_are_known(new: int, known: int, older: bool) -> None:
    assert is_older(new, known) is older


HASH_ALONE = PoolOptions(algorithm="hash", hash_header="X", hash_balance=1.5)
HASHED = PoolOptions(algorithm="hash", hash_header="X", hash_balance=1.5, route_service_url="https://a")


@pytest.mark.parametrize(
    ("current", "wanted", "merged"),
    [
        (HASHED, PoolOptions(), HASH_ALONE),
        (
            HASHED,
            PoolOptions(algorithm="fastest"),
            PoolOptions(algorithm="hash", hash_header="X", hash_balance=1.5),
        ),
        (HASHED, PoolOptions(algorithm="round-robin"), PoolOptions(algorithm="round-robin")),
        (PoolOptions(), PoolOptions(algorithm="fastest"), PoolOptions()),
        (PoolOptions(), HASHED, HASHED),
        (
            PoolOptions(route_policy_scope="org"),
            PoolOptions(route_service_url="https://b"),
            PoolOptions("https://b"),
        ),
    ],
)
def test_last_registration_decides_except_for_a_missing_or_unknown_algorithm(
    current: PoolOptions, wanted: PoolOptions, merged: PoolOptions
) -> None:
    assert merged_options(current, wanted) == merged


def test_options_that_stay_equal_stay_the_same_object() -> None:
    current = PoolOptions(algorithm="hash")

    assert merged_options(current, PoolOptions()) is current
